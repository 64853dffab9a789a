"""fio's iolog: what fio has written is read, what is read is written again, and wrong lines are told."""

from __future__ import annotations

import pytest
from hypothesis import given

from devmodels.blockbackend.request import Flags, Op
from guestsim.blocklog.events import Begin, End, Event, LogError, Losses
from guestsim.blocklog.fio import read_fio, write_fio

from .logs import begins, read, since_first, streams

FIO_3_33 = """\
fio version 3 iolog
18 /tmp/f add
171 /tmp/f open
174 /tmp/f write 61440 4096
100222 /tmp/f write 774144 4096
200419 /tmp/f read 880640 8192
200469 /tmp/f sync 880640 0
900239 /tmp/f trim 0 4096
900240 /tmp/f close
"""
_KEPT = (Op.READ, Op.WRITE, Op.FLUSH, Op.DISCARD)


def test_what_fio_has_written_is_read() -> None:
    assert read(read_fio, FIO_3_33) == [
        Begin(0, 174_000, Op.WRITE, 61440, 4096, "/tmp/f"),
        Begin(1, 100_222_000, Op.WRITE, 774144, 4096, "/tmp/f"),
        Begin(2, 200_419_000, Op.READ, 880640, 8192, "/tmp/f"),
        Begin(3, 200_469_000, Op.FLUSH, 0, 0, "/tmp/f"),
        Begin(4, 900_239_000, Op.DISCARD, 0, 4096, "/tmp/f"),
    ]


def test_waits_of_version_2_are_milliseconds_from_the_start_as_fio_takes_them() -> None:
    text = "fio version 2 iolog\nf add\nf open\nf read 0 512\nf wait 700 0\nf wait 300 0\nf datasync 0 0\nf close\n"
    assert [(begin.time_ns, begin.op) for begin in begins(read(read_fio, text))] == [
        (0, Op.READ),
        (700_000_000, Op.FLUSH),
    ]


@given(streams(ops=_KEPT, disks=("/dev/vda", "/dev/vdb"), step_ns=1000, flags=False))
def test_version_3_keeps_what_and_when(events: list[Event]) -> None:
    losses = Losses()
    text = "\n".join(write_fio(events, losses, 3))
    assert read(read_fio, text) == begins(since_first(events))
    assert not losses


@given(streams(disks=("/dev/vda", "b c"), unit=1))
def test_what_is_written_is_read_and_written_again_the_same(events: list[Event]) -> None:
    for version in (2, 3):
        text = "\n".join(write_fio(events, Losses(), version))
        again = read(read_fio, text)
        assert "\n".join(write_fio(again, Losses(), version)) == text
        places = [(begin.offset, begin.length) for begin in begins(events)]
        assert [(begin.offset, begin.length) for begin in begins(again)] == places


def test_what_an_iolog_cannot_hold_is_counted() -> None:
    events: list[Event] = [
        Begin(0, 0, Op.WRITE, 0, 512, "vd0", Flags.FUA, b"x" * 512),
        End(0, 1),
        Begin(1, 2, Op.WRITE_ZEROES, 0, 512, "vd0"),
        Begin(2, 2, Op.DISCARD, 0, 3 << 30, "vd0"),
        Begin(3, 2, Op.DISCARD, 0, 1 << 62, "vd0"),
    ]
    losses = Losses()
    lines = list(write_fio(events, losses, 3))
    assert [line.split(maxsplit=2)[2] for line in lines[3:-1]] == [
        "write 0 512",
        "write 0 512",
        "trim 0 1073741824",
        "trim 1073741824 1073741824",
        "trim 2147483648 1073741824",
    ]
    assert losses.lines() == [
        "1 × FUA of a write",
        "1 × request longer than 1024 GiB: left out",
        "1 × request longer than 1073741824 bytes: cut into pieces",
        "1 × write of zeroes: a write",
        "1 × write whose data is not kept",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "log:0: expected 'fio version 2 iolog' or 'fio version 3 iolog'"),
        ("fio version 1 iolog", "log:1: expected 'fio version 2 iolog' or 'fio version 3 iolog'"),
        ("fio version 2 iolog\nf open", "log:2: expected f to have been added before"),
        (
            "fio version 2 iolog\nf add\nf read 0 512",
            "log:3: expected f to have been added and opened before",
        ),
        (
            "fio version 2 iolog\nf add\nf open\nf reed 0 512",
            "log:4: expected one of add, open, close, wait, read, write, sync, datasync, trim, reed is given",
        ),
        (
            "fio version 2 iolog\nf add\nf open\nf read 0x0 512",
            "log:4: expected an offset in bytes, 0x0 is given",
        ),
        ("fio version 2 iolog\nf add\nf open\nf read 0 -1", "log:4: expected a length in bytes, -1 is given"),
        ("fio version 3 iolog\nf add", "log:2: expected a time in µs, f is given"),
        ("fio version 3 iolog\n", None),
        (
            "fio version 3 iolog\n1 f add\n2 f open\n3 f wait 1 0",
            "log:4: expected one of add, open, close, wait, read, write, sync, datasync, trim, wait is given",
        ),
        (
            "fio version 2 iolog\nf read 0",
            "log:2: expected a file, an action, and for I/O offset and length",
        ),
    ],
)
def test_a_wrong_line_is_told_with_its_place(text: str, message: str | None) -> None:
    if message is None:
        assert read(read_fio, text) == []
        return
    with pytest.raises(LogError) as caught:
        read(read_fio, text)
    assert str(caught.value) == message
