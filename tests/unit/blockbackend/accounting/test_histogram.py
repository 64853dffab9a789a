"""Latency histograms."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.blockbackend.accounting import Histogram

rising = st.sets(st.integers(1, 10**6), min_size=1, max_size=10).map(sorted)


@given(rising, st.lists(st.tuples(st.integers(0, 2 * 10**6), st.integers(1, 3))))
def test_each_value_is_counted_in_its_bin(boundaries: list[int], values: list[tuple[int, int]]) -> None:
    histogram = Histogram(boundaries)
    for value, count in values:
        histogram.add(value, count)
    edges = [0, *boundaries, 1 << 62]
    expected = [
        sum(count for value, count in values if low <= value < high)
        for low, high in itertools.pairwise(edges)
    ]
    assert histogram.bins == expected


@given(rising, st.lists(st.integers(0, 2 * 10**6), min_size=1), st.integers(1, 100))
def test_a_percentile_is_a_boundary_above_that_share(
    boundaries: list[int], values: list[int], percent: int
) -> None:
    histogram = Histogram(boundaries)
    for value in values:
        histogram.add(value)
    found = histogram.percentile(percent)
    if found is None:
        assert sum(value < boundaries[-1] for value in values) < len(values) * percent / 100
        return
    below = [boundary for boundary in boundaries if boundary < found]
    assert sum(value < found for value in values) >= len(values) * percent / 100
    assert not below or sum(value < below[-1] for value in values) < len(values) * percent / 100


def test_nothing_has_no_percentile() -> None:
    assert Histogram([10]).percentile(50) is None


@pytest.mark.parametrize("boundaries", [[], [0], [-5, 3], [3, 3], [4, 2]])
def test_boundaries_rise(boundaries: list[int]) -> None:
    with pytest.raises(ValueError, match="expected positive numbers, each above the one before"):
        Histogram(boundaries)
