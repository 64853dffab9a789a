"""Ranges with values, against one value for each byte."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from guestsim.portable.ranges import RangeMap

END = 24
ends = st.integers(0, END)
steps = st.lists(st.tuples(ends, ends, st.sampled_from(["a", "b", None])), max_size=20)


@given(steps, ends, ends)
def test_a_range_map_is_one_value_for_each_byte(
    steps: list[tuple[int, int, str | None]], low: int, high: int
) -> None:
    ranges: RangeMap[str] = RangeMap()
    model: list[str | None] = [None] * END
    for start, end, value in steps:
        ranges.set(start, end, value)
        model[start:end] = [value] * (end - start)
    found: list[str | None] = [None] * END
    whole = ranges.find(0, END)
    for start, end, value in whole:
        found[start:end] = [value] * (end - start)
    assert found == model
    assert all(one[1] < two[0] or one[2] != two[2] for one, two in pairwise(whole))
    inside = [None if not low <= n < high else model[n] for n in range(END)]
    cut: list[str | None] = [None] * END
    for start, end, value in ranges.find(low, high):
        cut[start:end] = [value] * (end - start)
    assert cut == inside
    empty = {n for start, end in ranges.gaps(low, high) for n in range(start, end)}
    assert empty == {n for n in range(low, high) if model[n] is None}
