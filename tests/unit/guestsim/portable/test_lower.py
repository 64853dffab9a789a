"""Lowering, from events written by hand: what is compared, in which order, and how much is held."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count

import pytest

from devmodels.trace import EventKind, TraceEvent
from guestsim.drivers.layouts import BLK_HEADER, BLK_RANGE, BlkStatus, BlkType
from guestsim.portable import lower as lowering
from guestsim.portable.content import DISCARDED, FAILED, NEVER_ANSWERED, TOGETHER, WHILE_WRITTEN, Content
from guestsim.portable.lower import NOT_ANSWERED, TOO_LATE, Lowering
from guestsim.portable.requests import Request, Reset, Session

FOR_ALL = 1 << 20


class Story:
    """Events of a device `vd0`, in order; a request is known by its head."""

    def __init__(self) -> None:
        self.events: list[TraceEvent] = []
        self._pieces: dict[int, tuple[int, int, int]] = {}
        self._requests = count()
        self.say(EventKind.FEATURES, 1 << 32)
        self.say(EventKind.QUEUE, 0, 64, 0, 0, 0, 0, 0)

    def say(self, kind: EventKind, *detail: int | str | bytes) -> None:
        source = "memory" if kind in (EventKind.DMA_READ, EventKind.DMA_WRITE) else "vd0"
        self.events.append(TraceEvent(len(self.events), 0, source, kind, detail))

    def take(self, head: int, kind: int, sector: int, payload: bytes = b"", room: int = 0) -> None:
        """The device takes a request, and does not look at it yet."""
        at = FOR_ALL * (head + 1)
        sent = BLK_HEADER.struct.pack(kind, 0, sector) + payload
        self._pieces[head] = at, len(sent), room
        self._sent = {**getattr(self, "_sent", {}), head: sent}
        self.say(EventKind.CHAIN, 0, head, 1, at, len(sent), at + 65536, room + 1)

    def look(self, head: int) -> None:
        """The device reads what it is about."""
        self.say(EventKind.DMA_READ, self._pieces[head][0], self._sent[head])

    def begin(self, head: int, kind: int, sector: int, payload: bytes = b"", room: int = 0) -> None:
        self.take(head, kind, sector, payload, room)
        self.look(head)

    def end(self, head: int, data: bytes = b"", status: int = BlkStatus.OK, *, errno: int = 0) -> None:
        at, _, room = self._pieces[head]
        if errno:
            number = next(self._requests)
            self.say(EventKind.REQUEST, number, "WRITE", 0, 512, 0, head)
            self.say(EventKind.COMPLETION, number, errno)
        self.say(EventKind.DMA_WRITE, at + 65536, data.ljust(room, b"\0") + bytes([status]))
        self.say(EventKind.USED, 0, head, room + 1)

    def read(self, head: int, sector: int) -> None:
        self.begin(head, BlkType.IN, sector, room=512)
        self.end(head, b"\x11" * 512)

    def write(self, head: int, sector: int) -> None:
        self.begin(head, BlkType.OUT, sector, b"\x22" * 512)
        self.end(head)

    def requests(self) -> list[Request]:
        return [item for item in Lowering("vd0", Content()).items(self.events) if isinstance(item, Request)]


def reasons(request: Request) -> set[str]:
    return {one.why for one in request.unknown}


def discard(sector: int, count: int) -> bytes:
    return BLK_RANGE.struct.pack(sector, count, 0)


def test_requests_come_in_the_order_in_which_they_were_taken() -> None:
    story = Story()
    story.begin(1, BlkType.IN, 0, room=512)
    story.begin(2, BlkType.IN, 8, room=512)
    story.end(2, b"b" * 512)
    story.begin(3, BlkType.IN, 16, room=512)
    story.end(1, b"a" * 512)
    story.end(3, b"c" * 512)
    first, second, third = story.requests()
    assert [one.answer[:1] for one in (first, second, third)] == [b"a", b"b", b"c"]
    assert second.used is not None
    assert first.used is not None
    # The third was made available after the second had been used, and while the first was in flight.
    assert second.used < third.number < first.used


def test_what_is_read_while_it_is_written_is_not_compared() -> None:
    story = Story()
    story.begin(1, BlkType.IN, 0, room=1024)
    story.begin(2, BlkType.OUT, 1, b"\x22" * 512)
    story.end(2)
    story.end(1, b"\x11" * 1024)
    story.read(3, 1)
    read, _, after = story.requests()
    assert read.unknown == [(512, 1024, WHILE_WRITTEN)]
    assert not after.unknown


def test_a_write_of_which_nothing_was_known_when_the_read_ended() -> None:
    """Both were taken at once, and the read was answered before the device looked at the write."""
    story = Story()
    story.take(1, BlkType.IN, 0, room=512)
    story.take(2, BlkType.OUT, 0, b"\x22" * 512)
    story.look(1)
    story.end(1, b"\x11" * 512)
    story.look(2)
    story.end(2)
    read, _ = story.requests()
    assert read.unknown == [(0, 512, WHILE_WRITTEN)]


@pytest.mark.parametrize("why", [DISCARDED, FAILED, TOGETHER, NEVER_ANSWERED])
def test_what_nobody_can_foretell_until_it_is_written_again(why: str) -> None:
    story = Story()
    if why == DISCARDED:
        story.begin(1, BlkType.DISCARD, 0, discard(8, 2))
        story.end(1)
    elif why == FAILED:
        story.begin(1, BlkType.OUT, 8, b"\x22" * 1024)
        story.end(1, status=BlkStatus.IOERR, errno=5)
    elif why == TOGETHER:
        story.begin(1, BlkType.OUT, 8, b"\x22" * 1024)
        story.begin(2, BlkType.OUT, 8, b"\x33" * 1024)
        story.end(2)
        story.end(1)
    else:
        story.begin(1, BlkType.OUT, 8, b"\x22" * 1024)
        story.say(EventKind.RESET, -1)
    story.read(3, 8)
    story.write(4, 8)
    story.read(5, 8)
    story.read(6, 9)
    before, _, after, beside = story.requests()[-4:]
    assert (reasons(before), reasons(after), reasons(beside)) == ({why}, set(), {why})


def test_what_was_refused_changes_nothing() -> None:
    story = Story()
    story.begin(1, BlkType.OUT, 8, b"\x22" * 512)
    story.end(1, status=BlkStatus.IOERR)
    story.read(2, 8)
    assert not story.requests()[-1].unknown


def test_what_was_never_answered_is_not_fed() -> None:
    story = Story()
    story.begin(1, BlkType.FLUSH, 0)
    story.say(EventKind.RESET, -1)
    story.say(EventKind.FEATURES, 1 << 32)
    story.read(2, 0)
    story.begin(3, BlkType.FLUSH, 0)
    items = [
        type(item) if not isinstance(item, Request) else item.skip
        for item in Lowering("vd0", Content()).items(story.events)
    ]
    assert items == [Session, NOT_ANSWERED, Reset, Session, "", NOT_ANSWERED]


def behind_one_in_flight(requests: int) -> tuple[Story, int]:
    """One request that ends when `requests` others have been answered; how many events there are until then."""
    story = Story()
    story.begin(0, BlkType.OUT, 100, b"\x22" * 512)
    for number in range(requests):
        story.read(1, number)
    until = len(story.events)
    story.read(1, 100)
    story.end(0)
    story.read(1, 100)
    return story, until


def test_what_is_held_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that stays in flight for ever does not hold all others up."""
    monkeypatch.setattr(lowering, "HELD_ITEMS", 10)
    story, until = behind_one_in_flight(100)
    pulled = 0

    def events() -> Iterable[TraceEvent]:
        nonlocal pulled
        for event in story.events:
            pulled += 1
            yield event

    requests: list[Request] = []
    for item in Lowering("vd0", Content()).items(events()):
        if isinstance(item, Request):
            requests.append(item)
            assert pulled < until or len(requests) > 85
    assert requests[0].skip == TOO_LATE
    assert [bool(one.unknown) for one in requests] == [False] * 101 + [True, True]
