"""qemu-io's commands: read as qemu-io takes them, written so that what ran beside others may again."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.blockbackend.request import Flags, Op
from guestsim.blocklog.events import Begin, End, Event, Lines, LogError, Losses, payload
from guestsim.blocklog.qemuio import read_qemu_io, write_qemu_io

from .logs import begins, order, plain, read, streams

_KEPT = (Op.READ, Op.WRITE, Op.FLUSH, Op.DISCARD, Op.WRITE_ZEROES)


def _write(events: list[Event], *, ends: bool = True) -> list[str]:
    return list(write_qemu_io(events, Losses(), ends=ends))


def test_commands_are_read_as_qemu_io_takes_them() -> None:
    text = """# a comment
write -P 0x11 0 64k
  w   -f -P010 1.5k 512
write -z -u 1M 64K
read 0x200 0x200 -P 17
aio_write 64k 512 1k
discard 0 1G

flush
quit
nonsense
"""
    found = begins(read(read_qemu_io, text))
    assert [(one.op, one.offset, one.length, one.flags, one.data) for one in found] == [
        (Op.WRITE, 0, 65536, Flags.NONE, 0x11),
        (Op.WRITE, 1536, 512, Flags.FUA, 8),
        (Op.WRITE_ZEROES, 1 << 20, 65536, Flags.MAY_UNMAP, None),
        (Op.READ, 512, 512, Flags.NONE, 17),
        (Op.WRITE, 65536, 1536, Flags.NONE, 0xCD),
        (Op.DISCARD, 0, 1 << 30, Flags.NONE, None),
        (Op.FLUSH, 0, 0, Flags.NONE, None),
    ]


def test_commands_end_before_the_next_but_aio_ends_with_aio_flush() -> None:
    text = "read 0 512\naio_read 0 512\naio_write 512 512\nflush\nsleep 20\naio_flush\nread 0 512\n"
    events = read(read_qemu_io, text)
    expected = [("begin", 0), ("end", 0), ("begin", 1), ("begin", 2), ("begin", 3), ("end", 3)]
    expected += [("end", 1), ("end", 2), ("begin", 4), ("end", 4)]
    assert order(events) == expected
    assert events[-1].time_ns == 20_000_000


def test_what_ran_beside_others_is_written_so() -> None:
    events: list[Event] = [
        Begin(0, 0, Op.READ, 0, 512),
        End(0, 0),
        Begin(1, 0, Op.READ, 0, 4096),
        Begin(2, 0, Op.WRITE, 8192, 512, data=7),
        End(2, 0),
        End(1, 0),
        Begin(3, 2_500_000, Op.DISCARD, 0, 512),
    ]
    assert _write(events) == [
        "read 0 512",
        "aio_read 0 4k",
        "write -P 0x7 8k 512",
        "aio_flush",
        "sleep 2",
        "discard 0 512",
    ]
    assert _write(events, ends=False)[1] == "read 0 4k"


def test_data_is_kept_in_files_where_there_are_some(tmp_path: Path) -> None:
    data = bytes(range(256)) * 2

    def keep(content: bytes) -> str:
        (tmp_path / "0").write_bytes(content)
        return str(tmp_path / "0")

    events: list[Event] = [Begin(0, 0, Op.WRITE, 0, 512, data=data), End(0, 0)]
    lines = write_qemu_io(events, Losses(), ends=True, keep=keep)
    (begin,) = begins(read(read_qemu_io, "\n".join(lines)))
    assert payload(begin) == data


_DATA = st.one_of(st.integers(0, 255))


@given(streams(ops=_KEPT, data=_DATA))
def test_requests_are_kept_and_none_begins_before_what_it_waited_for(events: list[Event]) -> None:
    losses = Losses()
    again = read(read_qemu_io, "\n".join(write_qemu_io(events, losses, ends=True)))
    assert [plain(one) for one in begins(again)] == [plain(one) for one in begins(events)]
    assert [(one.data, one.flags) for one in begins(again)] == [
        (one.data, one.flags) for one in begins(events)
    ]
    for number in range(len(begins(events))):
        assert _ended_before(events, number) <= _ended_before(again, number)


def _ended_before(events: list[Event], number: int) -> set[int]:
    """What had ended before a request began."""
    at = order(events).index(("begin", number))
    return {event.number for event in events[:at] if isinstance(event, End)}


@given(streams(ops=_KEPT, data=_DATA))
def test_commands_are_read_and_written_again_with_the_same_meaning(events: list[Event]) -> None:
    once = read(read_qemu_io, "\n".join(_write(events)))
    twice = read(read_qemu_io, "\n".join(_write(once)))
    assert begins(twice) == begins(once)
    for number in range(len(begins(once))):
        assert _ended_before(once, number) == _ended_before(twice, number)


@given(st.integers(0, (1 << 63) - 1))
def test_numbers_are_read_as_they_are_written(number: int) -> None:
    (line,) = _write([Begin(0, 0, Op.DISCARD, number, 512)])
    assert begins(read(read_qemu_io, line))[0].offset == number


def test_what_commands_cannot_say_is_counted() -> None:
    events: list[Event] = [
        Begin(0, 0, Op.WRITE, 0, 512, data=bytes(range(256)) * 2),
        End(0, 0, 5),
        Begin(1, 0, Op.WRITE, 0, 512),
        Begin(2, 0, Op.SECURE_ERASE, 0, 512),
        End(1, 0),
        Begin(3, 0, Op.READ, 0, 512, data=b"ab" * 256),
    ]
    losses = Losses()
    list(write_qemu_io(events, losses, ends=True))
    assert losses.lines() == [
        "1 × error of a request",
        "1 × read whose expected data is not kept",
        "1 × request that ran beside others: its command ends before the next",
        "1 × secure erase: a discard",
        "1 × write whose data is not kept: 0xcd instead (--data keeps it in files)",
        "1 × write whose data is not known: 0xcd",
    ]


def test_commands_that_look_are_counted() -> None:
    losses = Losses()
    assert list(read_qemu_io(Lines(["length", "map", "map"], "log"), losses)) == []
    assert losses.lines() == ["1 × length: makes no request", "2 × map: makes no request"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "truncate 0",
            "one of read, readv, write, writev, aio_read, aio_write, discard, flush, aio_flush, sleep",
        ),
        ("read 0", "an offset and a length after read and its options"),
        ("flush 1", "nothing after flush and its options"),
        ("read -Z 0 512", "options of read: option -Z not recognized"),
        ("read 0 1e3", "a number such as 512, 0x200 or 64k, 1e3 is given"),
        ('read 0 "512"', 'a number such as 512, 0x200 or 64k, "512" is given'),
        ("read 0 8E", "a number below 8 EiB, 8E is given"),
        ("write -P 256 0 512", "a byte as pattern, 256 is given"),
        ("write -P x 0 512", "a byte as pattern, x is given"),
        ("write -z -P 1 0 512", "only one of -z, -P and -s"),
        ("write -u 0 512", "-z with -u or -n"),
        ("write 0 2G", "a length of at most 2147483136, 2147483648 is given"),
        ("read -b 0 512", "no -b: the VM state is not on the disk"),
        ("sleep 1k", "milliseconds, 1k is given"),
        ("sleep", "milliseconds after sleep"),
        ("write -s /nonexistent 0 512", "a file after -s, /nonexistent: No such file or directory"),
    ],
)
def test_a_wrong_line_is_told_with_its_place(line: str, expected: str) -> None:
    with pytest.raises(LogError) as caught:
        read(read_qemu_io, f"flush\n{line}\n")
    assert str(caught.value).startswith(f"log:2: expected {expected}")
