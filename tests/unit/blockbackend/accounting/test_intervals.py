"""Statistics of the last while, against all the values kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.blockbackend.accounting import IntervalStats, Window

LENGTH = 1000


@given(st.lists(st.tuples(st.integers(0, 2500), st.integers(0, 100)), max_size=60), st.integers(0, 3000))
def test_an_answer_covers_between_half_a_length_and_a_whole_one(
    steps: list[tuple[int, int]], pause: int
) -> None:
    window = Window(LENGTH, 0)
    now = 0
    kept: list[tuple[int, int]] = []
    for wait, value in steps:
        now += wait
        window.add(value, now)
        kept.append((now, value))
    now += pause
    half = LENGTH // 2
    # The older window begins at the last multiple of half a length that is at least half a length ago.
    begin = max(0, now // half * half - half)
    values = [value for at, value in kept if at >= begin]
    assert begin >= now - LENGTH
    assert window.least(now) == min(values, default=0)
    assert window.most(now) == max(values, default=0)
    assert window.mean(now) == (sum(values) // len(values) if values else 0)
    if now > begin:
        assert window.depth(now) == pytest.approx(sum(values) / (now - begin))


def test_several_at_once_are_several() -> None:
    window = Window(LENGTH, 0)
    window.add(4, 10, count=3)
    window.add(8, 10)
    assert window.mean(10) == 5


def test_names_are_qemus() -> None:
    stats = IntervalStats(2, 0)
    stats.rd.add(500, 10)
    stats.wr.add(700, 10, count=2)
    out = stats.as_dict(1000)
    assert out["interval_length"] == 2
    assert (out["min_rd_latency_ns"], out["max_wr_latency_ns"], out["avg_flush_latency_ns"]) == (500, 700, 0)
    assert (out["avg_rd_queue_depth"], out["avg_wr_queue_depth"]) == (0.5, 1.4)
