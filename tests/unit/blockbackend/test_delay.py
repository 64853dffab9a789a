"""`delay`: how long requests take, drawn from what was asked for, the same each time."""

from __future__ import annotations

from statistics import mean, pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.blockbackend import BlockOptionError, Graph, Op, open_node
from devmodels.blockbackend.registry import coerce
from devmodels.iocontext import IoContext
from devmodels.options import parse_keyval
from tests.unit.blockbackend.support import SIZE, Disk

MEMORY: dict[str, object] = {"driver": "memory", "size": SIZE}


def times(options: dict[str, object], count: int, op: Op = Op.READ) -> list[int]:
    """How long `count` requests take, one after the other."""
    disk = Disk({"driver": "delay", "file": MEMORY, **options})
    found = []
    for _ in range(count):
        before = disk.context.now_ns()
        assert disk.do(op, 0, 0 if op is Op.FLUSH else 512, b"x" * 512 if op is Op.WRITE else None) == 0
        found.append(disk.context.now_ns() - before)
    disk.close()
    return found


def near(value: float, wanted: float) -> bool:
    """Within 10 %."""
    return abs(value - wanted) <= wanted / 10


def test_uniform_reaches_from_end_to_end() -> None:
    found = times({"latency": {"distribution": "uniform", "min-ns": 100, "max-ns": 103}}, 200)
    assert set(found) == {100, 101, 102, 103}


def test_normal_has_its_mean_and_deviation() -> None:
    found = times({"latency": {"distribution": "normal", "mean-ns": 10_000, "deviation-ns": 1000}}, 1000)
    assert near(mean(found), 10_000)
    assert near(pstdev(found), 1000)


def test_normal_is_cut_at_nothing() -> None:
    found = times({"latency": {"distribution": "normal", "mean-ns": 0, "deviation-ns": 1000}}, 500)
    assert min(found) == 0
    assert 200 < found.count(0) < 300


def test_exponential_has_its_mean_and_its_median() -> None:
    found = sorted(times({"latency": {"distribution": "exponential", "mean-ns": 10_000}}, 2000))
    assert near(mean(found), 10_000)
    assert near(found[1000], 6931)
    assert times({"latency": {"distribution": "exponential", "mean-ns": 0}}, 3) == [0, 0, 0]


def test_a_histogram_is_taken_from_what_has_been_measured() -> None:
    latency = {"distribution": "histogram", "boundaries": [10, 50, 100], "bins": [0, 3, 0, 1]}
    found = times({"latency": latency}, 1000)
    low, high = [t for t in found if t < 50], [t for t in found if t >= 50]
    assert near(len(low), 750)
    assert (min(low), max(low)) == (10, 49)
    assert min(high) >= 100
    assert max(high) < 200


def test_only_some_requests_wait() -> None:
    found = times({"latency": {"distribution": "fixed", "ns": 7, "percent": 25}}, 1000)
    assert near(found.count(7), 250)
    assert found.count(0) == 1000 - found.count(7)
    assert times({"latency": {"distribution": "fixed", "ns": 7, "percent": 0}}, 50) == [0] * 50


def test_each_operation_has_its_own() -> None:
    options: dict[str, object] = {
        "latency": {"distribution": "fixed", "ns": 5},
        "operations": {"write": {"distribution": "fixed", "ns": 6}},
        "flush-ns": 7,
    }
    assert [times(options, 1, op) for op in (Op.READ, Op.WRITE, Op.FLUSH)] == [[5], [6], [7]]


NS = st.integers(0, 10**6)
LATENCIES = st.one_of(
    st.fixed_dictionaries({"distribution": st.just("fixed"), "ns": NS}),
    st.fixed_dictionaries({"distribution": st.just("uniform"), "max-ns": NS}),
    st.fixed_dictionaries({"distribution": st.just("normal"), "mean-ns": NS, "deviation-ns": NS}),
    st.fixed_dictionaries({"distribution": st.just("exponential"), "mean-ns": NS}),
    st.lists(st.integers(1, 100), min_size=1, max_size=4).flatmap(
        lambda steps: st.fixed_dictionaries(
            {
                "distribution": st.just("histogram"),
                "boundaries": st.just([sum(steps[: n + 1]) for n in range(len(steps))]),
                "bins": st.lists(st.integers(1, 9), min_size=len(steps) + 1, max_size=len(steps) + 1),
            }
        )
    ),
)


@given(LATENCIES, st.integers(0, 100), st.integers(0, 3))
def test_a_seed_draws_the_same_again_whatever_else_happens(
    latency: dict[str, object], percent: int, seed: int
) -> None:
    options: dict[str, object] = {"latency": {**latency, "percent": percent}, "seed": seed}
    first = times(options, 6)
    assert all(each >= 0 for each in first)
    disk = Disk({"driver": "delay", "file": MEMORY, **options})
    again = []
    for _ in range(6):
        disk.write(0, b"x")
        before = disk.context.now_ns()
        disk.read(0, 512)
        again.append(disk.context.now_ns() - before)
    disk.close()
    assert again == first


def test_other_seeds_draw_something_else() -> None:
    latency = {"distribution": "uniform", "max-ns": 10**6}
    assert times({"latency": latency, "seed": 1}, 3) != times({"latency": latency, "seed": 2}, 3)


def test_it_is_changed_while_open() -> None:
    context = IoContext.virtual()
    graph = Graph(context)
    graph.add(
        {"driver": "delay", "node-name": "slow", "latency-ns": 9, "file": {**MEMORY, "node-name": "m0"}}
    )
    disk = Disk(graph["slow"])
    latency = {"distribution": "fixed", "ns": 4}
    context.run(graph.reopen({"driver": "delay", "node-name": "slow", "latency": latency, "file": "m0"}))
    disk.read(0, 512)
    assert context.now_ns() == 4
    disk.backend.close()
    graph.close()
    context.close()


def test_key_value_options_know_the_distribution() -> None:
    text = "driver=delay,latency.distribution=uniform,latency.max-ns=1k,latency.percent=0.5,file=m0"
    assert coerce(parse_keyval(text))["latency"] == {
        "distribution": "uniform",
        "max-ns": 1024,
        "percent": 0.5,
    }


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"latency": {"distribution": "normal", "mean-ns": 5}},
            "$.latency.deviation-ns: missing; expected nanoseconds from 0 to 10**15",
        ),
        ({"latency": {}}, '$.latency.distribution: missing; expected one of "fixed", "uniform", '),
        (
            {"latency": {"distribution": "x"}},
            '$.latency.distribution: "x" is given; expected one of "fixed", ',
        ),
        ({"latency": 7}, "$.latency: 7 is given; expected an object of "),
        (
            {"latency": {"distribution": "uniform", "min-ns": 5, "max-ns": 3}},
            "$.latency: min-ns is 5, expected at most max-ns (3)",
        ),
        (
            {"latency": {"distribution": "uniform", "mean-ns": 5, "max-ns": 3}},
            "$.latency.mean-ns: no such option; expected one of max-ns, min-ns, percent",
        ),
        (
            {"latency": {"distribution": "fixed", "ns": 5, "percent": 101}},
            "$.latency.percent: 101 is given; expected a number from 0 to 100",
        ),
        ({"operations": {"sleep": {}}}, "$.operations.sleep: no such option; expected one of block-status, "),
        (
            {"operations": {"read": {"distribution": "histogram", "boundaries": [5, 5], "bins": [1, 1, 1]}}},
            "$.operations.read: boundaries are not positive and rising",
        ),
        (
            {"operations": {"read": {"distribution": "histogram", "boundaries": [5], "bins": [1]}}},
            "$.operations.read: there are 1 bins, expected 2, one more than boundaries",
        ),
        (
            {"latency": {"distribution": "histogram", "boundaries": [5], "bins": [0, 0]}},
            "$.latency: all bins are empty",
        ),
        (
            {"read-ns": 5, "operations": {"read": {"distribution": "fixed", "ns": 5}}},
            "$.read-ns is given with operations.read; expected one of them",
        ),
        (
            {"latency-ns": 5, "latency": {"distribution": "fixed", "ns": 5}},
            "$.latency-ns is given with latency; expected one of them",
        ),
        ({"seed": -1}, "$.seed: -1 is given; expected a number from 0 on"),
    ],
)
def test_a_wrong_option_is_one_line(options: dict[str, object], text: str) -> None:
    context = IoContext.virtual()
    with pytest.raises(BlockOptionError) as caught:
        open_node({"driver": "delay", "file": MEMORY, **options}, context)
    assert str(caught.value).startswith(text)
    context.close()
