"""The page for Prometheus, read by the library's own parser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from devmodels.blockbackend import Op
from devmodels.blockbackend.accounting import Kind
from devmodels.blockbackend.throttling import ThrottleLimits
from devmodels.telemetry.prometheus import page
from tests.unit.telemetry.world import World, world

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def rig() -> Iterator[World]:
    with world() as made:
        yield made


def samples(rig: World) -> Samples:
    """Every sample of the page by name and labels."""
    kind, content = page(rig.source)
    assert kind == "text/plain; version=0.0.4; charset=utf-8"
    out: Samples = {}
    for family in text_string_to_metric_families(content.decode()):
        assert family.type != "unknown"
        assert family.documentation
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in out
            out[key] = sample.value
    return out


def of(found: Samples, name: str, **labels: str) -> float:
    own = {} if "node" in labels else {"device": "vd0", "node": "s"}
    return found[name, tuple(sorted({**own, **labels}.items()))]


def test_counters_of_a_backend(rig: World) -> None:
    rig.submit(Op.WRITE, 4096)
    rig.submit(Op.READ, 1 << 30)
    rig.backend.account_invalid(Op.DISCARD)
    rig.context.step(10)
    rig.submit(Op.FLUSH, 0, 0)
    rig.context.step(5)
    found = samples(rig)
    assert of(found, "devmodels_block_operations_total", op="write") == 1
    assert of(found, "devmodels_block_bytes_total", op="write") == 512
    assert of(found, "devmodels_block_failed_total", op="read") == 1
    assert of(found, "devmodels_block_invalid_total", op="unmap") == 1
    assert of(found, "devmodels_block_time_seconds_total", op="write") == 10e-9
    assert of(found, "devmodels_block_in_flight") == 1
    assert of(found, "devmodels_block_busy_seconds_total") == 15e-9
    assert of(found, "devmodels_block_idle_seconds") == 5e-9
    assert of(found, "devmodels_block_write_highest_offset_bytes") == 4096 + 512
    assert found["devmodels_running", ()] == 1


def test_counters_of_a_node(rig: World) -> None:
    rig.submit(Op.WRITE, 4096)
    rig.context.step(10)
    found = samples(rig)
    assert of(found, "devmodels_block_node_operations_total", node="s", op="write") == 1
    assert of(found, "devmodels_block_node_busy_seconds_total", node="s") == 10e-9
    assert of(found, "devmodels_block_node_size_bytes", node="d") == 1 << 20
    assert ("devmodels_block_node_operations_total", (("node", "d"), ("op", "read"))) not in found


def test_a_histogram_is_cumulative_and_in_seconds(rig: World) -> None:
    rig.backend.stats.set_histogram(Kind.WR, [10_000, 1_000_000])
    for latency in (500, 10_000, 2_000_000):
        rig.context.run(rig.graph.reopen({**SLOW, "latency-ns": latency}))
        rig.submit(Op.WRITE)
        rig.context.step(latency)
    found = samples(rig)
    name = "devmodels_block_latency_seconds"
    buckets = [of(found, f"{name}_bucket", op="write", le=le) for le in ("1e-05", "0.001", "+Inf")]
    assert buckets == [1, 2, 3]
    assert of(found, f"{name}_count", op="write") == 3
    assert of(found, f"{name}_sum", op="write") == pytest.approx(2.0105e-3)


SLOW = {"driver": "delay", "file": "d", "node-name": "s", "accounting": True}


def test_throttled_time_and_a_machine_that_is_stopped(rig: World) -> None:
    rig.graph.set_io_throttle(rig.backend, ThrottleLimits(iops_total=10))
    for at in range(3):
        rig.submit(Op.READ, 1024 * at)
    rig.context.step(10**8)
    rig.run_state.stop()
    found = samples(rig)
    assert of(found, "devmodels_block_throttled_seconds_total") == 0.1
    assert of(found, "devmodels_block_throttled_operations_total") == 1
    assert found["devmodels_running", ()] == 0


def test_names_of_any_kind_stand_in_labels() -> None:
    with world() as rig:
        rig.backend.name = 'a "b"\n\\c'
        assert of(samples(rig), "devmodels_block_in_flight", device='a "b"\n\\c', node="s") == 0


def test_names_keep_to_prometheus_conventions(rig: World) -> None:
    content = page(rig.source)[1].decode()
    for family in text_string_to_metric_families(content):
        assert family.name.startswith("devmodels_")
        assert not family.name.endswith(("_ns", "_ms", "_count", "_sum"))
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter")
