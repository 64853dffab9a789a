"""A Linux guest's time with SCSI units over vhost-user-scsi, replayed: see tests/guest/record_piece.py."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from devmodels.blockbackend.request import UpdateRequest
from devmodels.scsi.disk import Disk
from devmodels.scsi.sense import Sense
from devmodels.trace import EventKind
from devmodels.tracefile import TraceReader
from guestsim.lint.run import lint
from guestsim.replay import replay
from tests.guest.record_piece import SCSI_PIECE


def test_the_units_do_it_again() -> None:
    result = replay(SCSI_PIECE)
    assert result.difference is None
    assert not result.short
    assert result.events > 10_000


@pytest.mark.long
def test_the_piece_is_small_and_has_everything() -> None:
    assert SCSI_PIECE.stat().st_size <= 250_000
    with TraceReader(SCSI_PIECE) as reader:
        events = list(reader)
        sessions = lint(events)
    kinds = {event.kind for event in events}
    assert {EventKind.UPDATE, EventKind.SIZE, EventKind.REMOVED, EventKind.DRIVER_LEFT} <= kinds
    assert [event.source for event in events if event.kind is EventKind.DEVICE] == [
        "vu.sock",
        "ed0.0",
        "ed0.1",
        "ed1.0",
    ]
    assert not any(session.findings for session in sessions), "neither SeaBIOS nor Linux does anything wrong"
    asked = sessions[1].requests
    assert {
        "COMPARE AND WRITE",
        "UNMAP",
        "LOG SENSE",
        "PERSISTENT RESERVE OUT, REGISTER",
        "event",
    } <= asked.keys()


def _sense_is_in_the_other_format(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        Sense, "build", lambda sense, descriptors: sense._fixed() if descriptors else sense._descriptors()
    )


def _whatever_is_there_is_written_over(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(UpdateRequest, "change", property(lambda _: lambda _at, _old: b"\0" * 512, lambda *_: None))


def _units_do_not_grow(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Disk, "_resized", lambda _disk, _size: None)


@pytest.mark.parametrize(
    ("breakage", "kind"),
    [
        (_sense_is_in_the_other_format, EventKind.DMA_WRITE),
        (_whatever_is_there_is_written_over, EventKind.UPDATE),
        (_units_do_not_grow, EventKind.DMA_READ),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
def test_a_defect_of_units_is_found(
    monkeypatch: pytest.MonkeyPatch, breakage: Callable[[pytest.MonkeyPatch], None], kind: EventKind
) -> None:
    breakage(monkeypatch)
    difference = replay(SCSI_PIECE).difference
    assert difference is not None
    assert difference.expected.kind is kind
