"""A piece of a real guest's day: the devices of today do what they did when it was recorded."""

from __future__ import annotations

from devmodels.trace import EventKind
from devmodels.tracefile import TraceReader
from guestsim.replay import replay
from tests.guest.record_piece import PIECE


def test_linux_on_ext4_is_served_as_it_was() -> None:
    """Where that is no longer so on purpose, `python -m tests.guest.record_piece` makes the trace anew."""
    result = replay(PIECE)
    assert result.difference is None
    assert result.events > 5000
    assert result.requests > 200


def test_the_piece_is_one_of_firmware_and_kernel_and_small() -> None:
    assert PIECE.stat().st_size < 200_000
    with TraceReader(PIECE) as reader:
        events = list(reader)
        assert reader.ending is not None
        assert reader.ending.reason == "limit"
    assert [event.kind for event in events].count(EventKind.QUEUE) == 2
    operations = {event.detail[1] for event in events if event.kind is EventKind.REQUEST}
    assert operations >= {"READ", "WRITE", "FLUSH", "DISCARD"}
    assert not any(event.kind is EventKind.VIOLATION for event in events)
