"""A Linux guest's time with two PCI functions over vfio-user, replayed: see tests/guest/record_piece.py."""

from __future__ import annotations

import pytest

from devmodels.pci.msix import MsixCapability
from devmodels.trace import EventKind
from devmodels.tracefile import TraceReader
from devmodels.virtio.pci_legacy import LegacyBar
from guestsim.replay import replay
from tests.guest.record_piece import VFIO_PIECE


def test_the_functions_do_it_again() -> None:
    result = replay(VFIO_PIECE)
    assert result.difference is None
    assert not result.short
    assert result.events > 10_000


def test_the_piece_is_small_and_has_everything() -> None:
    assert VFIO_PIECE.stat().st_size <= 150_000
    with TraceReader(VFIO_PIECE) as reader:
        events = list(reader)
    assert {event.source for event in events if event.kind is EventKind.ACCESS_WRITE} == {
        "f0.regions",
        "f1.regions",
    }
    assert [event.source for event in events if event.kind is EventKind.DEVICE] == [
        "f0",
        "f1",
        "f1.scsi-hd@0.0",
        "u1",
    ]
    assert [event.source for event in events if event.kind is EventKind.REMOVED] == ["u1"]
    assert {EventKind.MACHINE_RESET, EventKind.INTERRUPT, EventKind.SIZE} <= {event.kind for event in events}
    assert not [event for event in events if event.kind is EventKind.VIOLATION], (
        "firmware and Linux do no wrong"
    )


def test_another_vector_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    notify = MsixCapability.notify
    monkeypatch.setattr(MsixCapability, "notify", lambda msix, vector: notify(msix, (vector + 1) % 3))
    difference = replay(VFIO_PIECE).difference
    assert difference is not None
    assert difference.expected.kind is EventKind.INTERRUPT


def test_a_register_that_reads_otherwise_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LegacyBar, "read", lambda _bar, _offset, _size: 0)
    difference = replay(VFIO_PIECE).difference
    assert difference is not None
    assert difference.expected.kind is EventKind.ACCESS_VALUE
