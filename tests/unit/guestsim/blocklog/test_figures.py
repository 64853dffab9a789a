"""Figures: percentiles within their error, and the depth over time whatever the time it takes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.blockbackend.request import Op
from guestsim.blocklog.figures import SLOTS, Figures, Latencies, Timeline


@given(st.lists(st.integers(0, 1 << 45), min_size=1, max_size=60), st.floats(0.1, 100))
def test_a_percentile_is_right_within_half_a_percent(values: list[int], percent: float) -> None:
    latencies = Latencies()
    for value in values:
        latencies.add(value)
    exact = sorted(values)[max(0, math.ceil(len(values) * percent / 100 - 1e-9) - 1)]
    assert latencies.percentile(percent) == pytest.approx(exact, rel=0.005, abs=0.5)
    assert (latencies.least, latencies.greatest) == (min(values), max(values))
    assert latencies.mean == pytest.approx(sum(values) / len(values))


def test_nothing_has_no_percentile() -> None:
    assert Latencies().as_dict() == dict.fromkeys(
        ("min", "mean", "p50", "p90", "p95", "p99", "p99.9", "max"), 0
    )


@given(st.lists(st.tuples(st.integers(0, 10**8), st.integers(0, 64)), min_size=1, max_size=40))
def test_the_depth_over_time_is_kept_in_as_many_slots_as_there_are(steps: list[tuple[int, int]]) -> None:
    timeline = Timeline()
    now = area = depth = 0
    for after, following in steps:
        area += after * depth
        now += after
        depth = following
        timeline.change(now, depth, 512)
    assert len(timeline.slots) <= SLOTS
    assert sum(slot.area for slot in timeline.slots) == area
    assert sum(slot.ended for slot in timeline.slots) == len(steps)
    assert sum(slot.nbytes for slot in timeline.slots) == 512 * len(steps)
    assert max(slot.greatest for slot in timeline.slots) == max(depth for _, depth in steps)
    assert sum(timeline.widths()) == now
    assert len(timeline.depths()) == len(timeline.slots)


def test_what_failed_has_moved_nothing() -> None:
    figures = Figures()
    figures.begin(1_000_000, 0)
    figures.begin(1_000_000, 0)
    figures.end(1_500_000, Op.READ, 4096, 500_000, 0)
    figures.end(2_000_000, Op.READ, 4096, 1_000_000, 5)
    told = figures.as_dict()
    assert told["operations"] == {
        "read": {
            "requests": 2,
            "bytes": 4096,
            "iops": 2000.0,
            "bytes-per-second": 4096000.0,
            "errors": {"EIO": 1},
            "latency-ns": {
                "min": 500_000,
                "mean": 750_000.0,
                "p50": figures.ops[Op.READ].latencies.percentile(50),
                "p90": 1_000_000,
                "p95": 1_000_000,
                "p99": 1_000_000,
                "p99.9": 1_000_000,
                "max": 1_000_000,
            },
        }
    }
    assert (told["requests"], told["errors"], told["seconds"]) == (2, 1, 0.001)
