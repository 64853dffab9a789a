"""A Linux guest's time with ATA devices over vfio-user, replayed: see tests/guest/record_piece.py."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from devmodels.ahci import delivery, fis
from devmodels.ide_cdrom import busmaster
from devmodels.trace import EventKind
from devmodels.tracefile import TraceReader
from guestsim.replay import replay
from tests.guest.record_piece import AHCI_PIECE, IDE_PIECE
from tests.unit.guestsim.replay.anywhere import goes_on

PIECES = pytest.mark.parametrize("piece", [AHCI_PIECE, IDE_PIECE], ids=lambda path: path.stem)


@pytest.mark.long
@PIECES
def test_the_devices_do_it_again(piece: Path) -> None:
    result = replay(piece)
    assert result.difference is None
    assert not result.short
    assert result.events > 5_000


@pytest.mark.long
@PIECES
def test_the_piece_is_small_and_has_everything(piece: Path) -> None:
    assert piece.stat().st_size <= 100_000
    with TraceReader(piece) as reader:
        events = list(reader)
    assert {event.source for event in events if event.kind is EventKind.ACCESS_WRITE} == {"f0.regions"}
    announced = [event.source for event in events if event.kind is EventKind.DEVICE]
    assert announced == (
        ["f0", "hd0", "hd1", "cd0", "hd1"] if piece is AHCI_PIECE else ["f0", "hd0", "cd0", "hd1"]
    )
    removed = [event.source for event in events if event.kind is EventKind.REMOVED]
    assert removed == (["hd1"] if piece is AHCI_PIECE else [])
    assert [event.detail[1] for event in events if event.kind is EventKind.DONE and event.detail[1]]
    wrong = [str(event.detail[2]) for event in events if event.kind is EventKind.VIOLATION]
    # libata's error handler starts the engine of the port, whether its device has gone or not.
    assert set(wrong) == ({"PxCMD.ST was set where no device is"} if piece is AHCI_PIECE else set())


@pytest.mark.long
def test_a_replay_goes_on_from_a_snapshot(tmp_path: Path) -> None:
    assert goes_on(AHCI_PIECE, 3_500, tmp_path / "snapshot") < 3_600


@pytest.mark.slow
@PIECES
def test_a_replay_goes_on_from_anywhere(piece: Path, tmp_path: Path) -> None:
    numbers = random.Random(1)
    for _ in range(12):
        goes_on(piece, numbers.randrange(7_000), tmp_path / "snapshot")


def _another_status(patch: pytest.MonkeyPatch) -> None:
    made = fis.register_d2h
    patch.setattr(
        delivery, "register_d2h", lambda *given, **named: b"\x34\x40\x51" + made(*given, **named)[3:]
    )


def _tags_are_the_next_ones(patch: pytest.MonkeyPatch) -> None:
    made = fis.set_device_bits
    patch.setattr(delivery, "set_device_bits", lambda status, error, done: made(status, error, done << 1))


def _tables_do_not_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(busmaster, "EOT", 0x4000)


@pytest.mark.parametrize(
    ("piece", "breakage", "kind"),
    [
        (AHCI_PIECE, _another_status, EventKind.DMA_WRITE),
        (AHCI_PIECE, _tags_are_the_next_ones, EventKind.DMA_WRITE),
        (IDE_PIECE, _tables_do_not_end, EventKind.ACCESS_VALUE),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
def test_a_defect_is_found(
    monkeypatch: pytest.MonkeyPatch,
    piece: Path,
    breakage: Callable[[pytest.MonkeyPatch], None],
    kind: EventKind,
) -> None:
    breakage(monkeypatch)
    difference = replay(piece).difference
    assert difference is not None
    assert difference.expected.kind is kind
