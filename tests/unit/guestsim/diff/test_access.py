"""Files of accesses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guestsim.diff.access import (
    EVENTS,
    Access,
    AccessFileError,
    Break,
    Held,
    Loose,
    Read,
    Rest,
    Resume,
    Step,
    Store,
    Unordered,
    Wait,
    Write,
    lines,
    parse,
)
from guestsim.diff.arena import ARENA, ARENA_SIZE

offsets = st.integers(0, 1 << 16)
lengths = st.integers(0, 0x1000)
sizes = st.sampled_from((1, 2, 4, 8))
addresses = st.integers(ARENA, ARENA + ARENA_SIZE - 0x1000)
accesses: st.SearchStrategy[Access] = st.one_of(
    st.builds(Read, st.just("common"), offsets, sizes),
    st.builds(
        Read,
        st.just("ide"),
        offsets,
        sizes,
        st.tuples(st.just("outputs"), st.integers(0, 9), st.integers(0, 9)),
    ),
    st.builds(Write, st.just("pci"), offsets, sizes, st.integers(0, 255)),
    st.builds(Store, st.integers(ARENA, ARENA + 1000), st.binary(min_size=1, max_size=40)),
    st.builds(Loose, st.just("failed-data"), addresses, lengths),
    st.builds(Loose, st.just("failed-data"), addresses, lengths, addresses, st.booleans()),
    st.builds(
        Loose,
        st.just("pio-status"),
        addresses,
        st.just(2),
        values=st.tuples(
            *[
                st.binary(min_size=2, max_size=2)
                | st.none()
                | st.tuples(*[st.binary(min_size=2, max_size=2)] * 2)
            ]
            * 2
        ),
    ),
    st.builds(Wait),
    st.builds(Break, st.sampled_from(EVENTS), st.just("A")),
    st.builds(Held, st.just("A")),
    st.builds(Resume, st.just("A")),
    st.builds(Rest, st.none() | st.just(Read("hba", 0x138, 4))),
    st.builds(Wait, st.builds(Unordered, sizes, st.lists(addresses, min_size=1, max_size=9).map(tuple))),
)
steps = st.builds(
    Step,
    st.just("a step"),
    st.tuples(accesses, accesses),
    st.frozensets(st.sampled_from(("x", "chain:loop"))),
)


@given(st.lists(steps, min_size=1))
def test_what_is_written_is_read_back(written: list[Step]) -> None:
    # What is held, and goes on, needs a break point.
    steps = [Step("first", (Break(EVENTS[0], "A"),)), *written]
    assert parse("\n".join(lines("virtio-blk", steps)), "file") == ("virtio-blk", steps)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("red common+0 1", "expected device NAME, step NAME, read PLACE SIZE"),
        ("read common+0 3", "size 3: expected 1, 2, 4 or 8"),
        ("write common+0 1 0x100", "value 0x100: expected one that fits 1 bytes"),
        ("ram 0x1000000 abc", "expected device NAME"),
        ("ram 0x1000 ab", "1 bytes at 0x1000: expected memory from 0x1000000 to 0x103ffff"),
        ("read common-1 1 1", "expected device NAME"),
        ("break write A", "event write: expected one of read_aio, write_aio, pwritev"),
        ("held A;B", "break point A;B: expected letters and digits"),
        ("resume", "expected device NAME"),
        ("wait 8 0x1000000 0x1040000", "8 bytes at 0x1040000: expected memory from 0x1000000 to 0x103ffff"),
        ("wait 8", "expected device NAME"),
    ],
)
def test_a_wrong_line_is_told_with_its_number(line: str, expected: str) -> None:
    with pytest.raises(AccessFileError, match="file:2: ") as error:
        parse(f"device virtio-blk\n{line}\n", "file")
    assert expected in str(error.value)


def test_a_file_without_a_device_is_no_such_file() -> None:
    with pytest.raises(AccessFileError, match="expected a line 'device NAME'"):
        parse("# nothing\n", "file")
