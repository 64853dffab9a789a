"""blkparse's text: a real guest's is read, what is read is written again, and wrong lines are told."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given

from devmodels.blockbackend.request import Flags, Op
from guestsim.blocklog.blkparse import read_blkparse, write_blkparse
from guestsim.blocklog.events import Begin, End, Event, Lines, LogError, Losses

from .logs import begins, ends, read, since_first, streams

LINUX = Path(__file__).parents[3] / "data" / "linux.blkparse"
_KEPT = (Op.READ, Op.WRITE, Op.FLUSH, Op.DISCARD, Op.SECURE_ERASE)


def _line(event: str, rest: str, *, at: str = "0.000000001") -> str:
    return f"  8,16   1        7     {at}  4711 {event:>2} {rest}\n"


def test_a_real_guest_s_text_is_read() -> None:
    events = read(read_blkparse, LINUX.read_text())
    first = begins(events)[:3]
    assert first == [
        Begin(0, 1_318_761, Op.FLUSH, 0, 0, "254,0"),
        Begin(1, 6_379_914, Op.READ, 0, 32 * 512, "254,0"),
        Begin(2, 8_160_662, Op.FLUSH, 0, 0, "254,0"),
    ]
    assert ends(events)[0] == End(0, 2_644_878)
    counts = Counter(begin.op for begin in begins(events))
    text = LINUX.read_text()
    assert sum(counts.values()) == text.count("  D ")
    assert len(ends(events)) <= len(begins(events))


def test_requests_are_what_the_driver_is_given_and_not_what_is_queued() -> None:
    text = (
        _line("Q", "WS 0 + 8 [dd]")
        + _line("Q", "WS 8 + 8 [dd]")
        + _line("M", "WS 8 + 8 [dd]")
        + _line("D", "WS 0 + 16 [dd]", at="0.000000100")
        + _line("C", "WS 0 + 16 [0]", at="1.000000100")
    )
    assert read(read_blkparse, text) == [
        Begin(0, 100, Op.WRITE, 0, 8192, "8,16", queue=1),
        End(0, 1_000_000_100),
    ]


def test_a_device_without_a_queue_has_requests_as_they_are_queued() -> None:
    text = _line("Q", "FWFS 8 + 8 [dd]") + _line("C", "WFS 8 + 8 [0]", at="0.000000009")
    assert read(read_blkparse, text) == [
        Begin(0, 1, Op.FLUSH, 0, 0, "8,16", queue=1),
        End(0, 1),
        Begin(1, 1, Op.WRITE, 4096, 4096, "8,16", Flags.FUA, queue=1),
        End(1, 9),
    ]


def test_a_request_that_is_completed_in_pieces_ends_with_the_last() -> None:
    text = (
        _line("D", "R 0 + 24 (     120) [dd]")
        + _line("C", "R 0 + 8 (     400) [0]", at="0.000000002")
        + _line("C", "R 8 + 16 (     500) [65531]", at="0.000000003")
    )
    assert ends(read(read_blkparse, text)) == [End(0, 3, 5)]


def test_a_request_that_is_put_back_begins_once() -> None:
    text = _line("D", "R 0 + 8 [dd]") + _line("R", "R 0 + 8 [0]") + _line("D", "R 0 + 8 [dd]")
    assert len(begins(read(read_blkparse, text))) == 1


def test_two_requests_for_the_same_bytes_are_two() -> None:
    text = (
        _line("D", "R 0 + 8 [dd]")
        + _line("D", "R 0 + 8 [cat]", at="0.000000002")
        + _line("C", "R 0 + 8 [0]", at="0.000000005")
        + _line("C", "R 0 + 8 [0]", at="0.000000007")
    )
    assert read(read_blkparse, text) == [
        Begin(0, 1, Op.READ, 0, 4096, "8,16", queue=1),
        Begin(1, 2, Op.READ, 0, 4096, "8,16", queue=1),
        End(0, 5),
        End(1, 7),
    ]


def test_beside_a_disk_with_a_queue_one_without_has_its_requests_as_well() -> None:
    queued = _line("Q", "R 100 + 8 [dd]").replace("8,16 ", "253,0")
    text = (
        queued
        + _line("Q", "R 0 + 8 [dd]")
        + _line("D", "R 0 + 8 [dd]")
        + queued.replace("Q", "C").replace("[dd]", "[0]")
    )
    found = begins(read(read_blkparse, text))
    assert [(begin.disk, begin.offset) for begin in found] == [("253,0", 51200), ("8,16", 0)]


def test_completions_of_what_began_before_the_log_and_of_empty_writes_are_no_requests() -> None:
    text = _line("C", "R 0 + 8 [0]") + _line("D", "WS 0 + 8 [dd]") + _line("C", "WS 0 [0]")
    assert ends(read(read_blkparse, text)) == []


def test_commands_of_the_device_s_own_are_counted() -> None:
    text = (
        _line("D", "R 36 (12 00 00 ..) [scsi_id]") + _line("C", "R (12 00 00 ..) [0]") + _line("C", "R [0]")
    )
    losses = Losses()
    assert list(read_blkparse(Lines(text.splitlines(), "log"), losses)) == []
    assert losses.lines() == ["1 × command of the device's own, neither read, write, flush nor discard"]


@given(streams(ops=_KEPT, disks=("8,0", "259,3"), errors=(0, 5, 28), alike=False, flags=False))
def test_everything_but_data_is_kept(events: list[Event]) -> None:
    losses = Losses()
    text = "\n".join(write_blkparse(events, losses, ends=True))
    assert read(read_blkparse, text) == since_first(events)
    assert not losses


@given(streams(ops=_KEPT, alike=False))
def test_what_is_written_is_read_and_written_again_the_same(events: list[Event]) -> None:
    text = "\n".join(write_blkparse(events, Losses(), ends=True))
    assert "\n".join(write_blkparse(read(read_blkparse, text), Losses(), ends=True)) == text


def test_what_the_text_cannot_hold_is_counted() -> None:
    events: list[Event] = [
        Begin(0, 0, Op.WRITE_ZEROES, 0, 512, "vd0"),
        Begin(1, 2, Op.WRITE, 7, 512, "vd1", data=3),
    ]
    losses = Losses()
    list(write_blkparse(events, losses, ends=True))
    assert losses.lines() == [
        "1 × name of a disk: vd0 is 254,0",
        "1 × name of a disk: vd1 is 254,16",
        "1 × request that is not of whole sectors: rounded",
        "1 × write of zeroes: a write",
        "1 × write whose data is not kept",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "hello",
            "log:1: expected 'major,minor cpu sequence seconds.nanoseconds pid event RWBS sector + sectors [process]'",
        ),
        (
            _line("Q", "R 0 + 8 [x]") + _line("K", "R 0 + 8 [x]"),
            "log:2: expected an event of blkparse's, K is given",
        ),
        (
            _line("D", "R 0 + 8 [x]") + _line("D", "R 0 - 8 [x]"),
            "log:2: expected 'sector + sectors [process or error]' after the RWBS",
        ),
        (
            _line("D", "R 18014398509481983 + 1 [x]"),
            "log:1: expected sectors below 8 EiB, 18014398509481983 + 1 is given",
        ),
    ],
)
def test_a_wrong_line_is_told_with_its_place(text: str, message: str) -> None:
    with pytest.raises(LogError) as caught:
        read(read_blkparse, text)
    assert str(caught.value) == message
