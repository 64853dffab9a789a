"""A program said as a script: whatever is expected of data is said as short as may be, and means the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from guestsim.portable.shrink.render import compressed, parts_of, pattern_of
from guestsim.script.values import Pattern

SECTOR = 512
patterns = st.one_of(
    st.builds(lambda byte: Pattern(pattern=byte), st.integers(0, 3)),
    st.builds(lambda number: Pattern(counting=number * 128), st.integers(0, 3)),
    st.builds(lambda seed: Pattern(random=seed), st.integers(0, 3)),
)


@given(st.lists(patterns, min_size=1, max_size=8))
def test_parts_are_the_data(sectors: list[Pattern]) -> None:
    data = b"".join(one.data(SECTOR) for one in sectors)
    parts = parts_of(data)
    assert b"".join(pattern.data(length) for _, length, pattern in parts) == data
    assert [at for at, _, _ in parts] == [
        sum(length for _, length, _ in parts[:n]) for n in range(len(parts))
    ]
    assert len(parts) <= len(sectors)


@given(st.binary(min_size=1, max_size=40))
def test_a_pattern_is_the_data(data: bytes) -> None:
    assert pattern_of(data).data(len(data)) == data


def test_what_counts_on_is_one_part() -> None:
    data = Pattern(pattern=1).data(1024) + Pattern(counting=7).data(1536)
    assert parts_of(data) == [(0, 1024, Pattern(pattern=1)), (1024, 1536, Pattern(counting=7))]


def test_what_comes_again_is_said_once() -> None:
    flush: dict[str, object] = {"flush": {}}
    read: dict[str, object] = {"read": {"at": 0}}
    assert compressed([flush, flush, flush, read, flush, flush]) == [
        {"repeat": {"times": 3, "steps": [flush]}},
        read,
        flush,
        flush,
    ]
