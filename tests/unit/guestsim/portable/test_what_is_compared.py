"""What of an answer is compared: each part of it, changed in the trace, is told as a difference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from devmodels.trace import EventKind, TraceEvent
from devmodels.tracefile import TraceReader
from guestsim.disk import Disk
from guestsim.drivers import virtio_blk
from guestsim.portable.report import text_of
from guestsim.portable.run import replay
from tests.unit.guestsim.portable import defects
from tests.unit.guestsim.portable.recorded import on, record, write

Change = Callable[[list[TraceEvent]], None]


def work(disk: Disk) -> None:
    disk.write(4096, b"\xa5" * 512)
    disk.read(4096, 512)
    disk.request(virtio_blk.read(disk.capacity, 512))
    disk.read(0, 512)


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("traces") / "a.trace", work)


def places(events: list[TraceEvent], kind: EventKind) -> list[int]:
    return [at for at, event in enumerate(events) if event.kind is kind]


def change_last(events: list[TraceEvent], at: int, value: int | bytes) -> None:
    events[at] = events[at]._replace(detail=(*events[at].detail[:-1], value))


def the_used_length(events: list[TraceEvent]) -> None:
    change_last(events, places(events, EventKind.USED)[0], 2)


def a_status(events: list[TraceEvent]) -> None:
    statuses = [at for at in places(events, EventKind.DMA_WRITE) if len(events[at].detail[1]) == 1]  # type: ignore[arg-type]
    change_last(events, statuses[0], b"\1")


def a_byte(events: list[TraceEvent]) -> None:
    data = [at for at in places(events, EventKind.DMA_WRITE) if len(events[at].detail[1]) == 512]  # type: ignore[arg-type]
    change_last(events, data[0], b"\xa5" * 300 + b"\0" + b"\xa5" * 211)


def no_violation(events: list[TraceEvent]) -> None:
    (at,) = places(events, EventKind.VIOLATION)
    del events[at]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (the_used_length, "OUT 512 bytes at sector 8: used length 1, expected 2"),
        (a_status, "OUT 512 bytes at sector 8: status OK, expected IOERR"),
        (
            a_byte,
            "IN 512 bytes at sector 8: data a5 a5 a5 a5 a5 a5 a5 a5, expected 00 a5 a5 a5 a5 a5 a5 a5 at byte 300",
        ),
        (no_violation, "violation 1 of VIRTIO 1.4 §5.2.6.1, expected 0 of VIRTIO 1.4 §5.2.6.1"),
    ],
)
def test_each_part_of_an_answer_counts(trace: Path, tmp_path: Path, change: Change, words: str) -> None:
    with TraceReader(trace) as reader:
        events = list(reader)
        change(events)
        changed = write(tmp_path / "b.trace", reader.header, events)
    tally = replay(changed, on()).tally
    (difference,) = tally.differences
    assert text_of(difference).endswith(words)
    assert events[difference.number].kind is EventKind.CHAIN
    assert (tally.compared, tally.different, tally.ok) == (4, 1, False)


def test_what_the_disk_held_first_is_read_once(trace: Path, tmp_path: Path) -> None:
    """Sectors that nobody has written hold what the first read of them returned; a later read that differs is told."""
    with TraceReader(trace) as reader:
        events = list(reader)
        zeroes = [at for at in places(events, EventKind.DMA_WRITE) if events[at].detail[1] == bytes(512)]
        change_last(events, zeroes[-1], b"\x11" * 512)
        changed = write(tmp_path / "b.trace", reader.header, events)
    assert replay(changed, on()).tally.ok


@pytest.mark.long
def test_an_answer_of_which_nobody_was_told(tmp_path: Path) -> None:
    def flushes(disk: Disk) -> None:
        for _ in range(257):
            disk.flush()

    trace = record(tmp_path / "a.trace", flushes)
    with defects.lost_interrupt():
        tally = replay(trace, on(ring="split")).tally
    (difference,) = tally.differences
    assert (difference.what, difference.got) == ("notification", "none, though there is an answer")
    assert (tally.compared, tally.stopped) == (257, "")


def test_an_answer_that_never_comes_is_told_before_what_follows_from_it(tmp_path: Path) -> None:
    """With EVENT_IDX the driver asked to be told of the last: that the others' answers are untold follows."""

    def four(disk: Disk) -> None:
        disk.requests(*(virtio_blk.read(n * 8192, 512) for n in range(4)))

    trace = record(tmp_path / "a.trace", four)
    with defects.forgotten_last():
        tally = replay(trace, on()).tally
    (difference,) = tally.differences
    assert text_of(difference).endswith(
        "IN 512 bytes at sector 48: answer none, expected OK, used length 513"
    )
    assert tally.stopped


def test_what_was_written_and_never_read_is_read_back(tmp_path: Path) -> None:
    def writes(disk: Disk) -> None:
        disk.write(4096, b"\xa5" * 16384, scatter=4)
        disk.write_zeroes(8192, 512)
        disk.discard(65536, 4096)

    trace = record(tmp_path / "a.trace", writes)
    tally = replay(trace, on()).tally
    assert (tally.ok, tally.read_back) == (True, 16384)
    with defects.cut_write():
        tally = replay(trace, on()).tally
    (difference,) = tally.differences
    with TraceReader(trace) as reader:
        first = next(event.number for event in reader if event.kind is EventKind.CHAIN)
    zeroes, written = " ".join(["00"] * 8), " ".join(["a5"] * 8)
    text = f"event {first}: content of the disk at byte {4096 + 16384 - 512} {zeroes}, expected {written}"
    assert text_of(difference) == text


def test_a_write_of_nothing_leaves_nothing(tmp_path: Path) -> None:
    def work(disk: Disk) -> None:
        disk.read(0, 512)
        disk.request(virtio_blk.write(0, b""))

    tally = replay(record(tmp_path / "a.trace", work), on()).tally
    assert (tally.ok, tally.read_back) == (True, 512)


def test_a_device_that_raises_ends_it(tmp_path: Path) -> None:
    trace = record(tmp_path / "a.trace", lambda disk: disk.write_zeroes(0, 512))
    with defects.raises_on_zeroes():
        tally = replay(trace, on()).tally
    assert "the target raised KeyError" in tally.stopped
    assert not tally.ok


def test_an_answer_that_never_comes_ends_the_run(tmp_path: Path) -> None:
    def two_writes_and_a_read(disk: Disk) -> None:
        disk.write(0, b"\1" * 512)
        disk.write(512, b"\2" * 512)
        disk.read(0, 1024)
        disk.flush()

    trace = record(tmp_path / "a.trace", two_writes_and_a_read)
    with defects.forgotten_request():
        tally = replay(trace, on()).tally
    (difference,) = tally.differences
    assert (difference.what, difference.expected, difference.got) == (
        "answer",
        "OK, used length 1025",
        "none",
    )
    assert tally.stopped.startswith("waited for the answer to IN 1024 bytes at sector 0")
    assert not tally.ok
