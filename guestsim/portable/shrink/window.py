"""The end of a trace, up to something that went wrong, as a program: what came before it is on the disk."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import msgspec

from devmodels.virtio_blk.pci import VirtioBlkPciOptions
from guestsim.drivers.layouts import BLK_CONFIG, SECTOR, BlkStatus, BlkType, Feature
from guestsim.drivers.virtio_blk import BLK_FEATURES
from guestsim.portable.limits import feature_name, power_of_two
from guestsim.portable.machine import DRIVE, Place, script_of
from guestsim.portable.play import IN_FLIGHT_BYTES
from guestsim.portable.ranges import RangeMap
from guestsim.portable.requests import ConfigWrite, Item, Request, Reset, Resize, Session, ranges_of
from guestsim.portable.shrink.program import (
    HEADER,
    Entry,
    Fixed,
    Group,
    Held,
    Plain,
    Program,
    ask_of,
    with_features,
)
from guestsim.portable.shrink.render import pattern_of
from guestsim.script.needs import TargetSpec

if TYPE_CHECKING:
    from guestsim.portable.survey import Survey

_PIECE = 1 << 16
"""What is on the disk first is put down in pieces of so many bytes."""


class Base:
    """What a disk held first (the file `first`), and what requests have written since; closed with `with`."""

    def __init__(self, first: Path, written: Path, size: int) -> None:
        self._first = first.open("rb")
        self._written = written.open("w+b")
        self._written.truncate(size)
        self._known: RangeMap[bool] = RangeMap()
        self._size = size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._first.close()
        self._written.close()

    def apply(self, request: Request) -> None:
        """Take over what a request has written."""
        header = request.header
        if header is None or request.status != BlkStatus.OK or request.skip:
            return
        if header.type == BlkType.OUT:
            start = header.sector * SECTOR
            data = b"".join(request.readable)[HEADER:]
            os.pwrite(self._written.fileno(), data, start)
            self._known.set(start, start + len(data), value=True)
        elif header.type == BlkType.WRITE_ZEROES:
            for start, end in ranges_of(request):
                self._known.set(start, end, value=False)

    def read(self, start: int, end: int) -> bytes:
        """What is there now."""
        data = bytearray(os.pread(self._first.fileno(), end - start, start).ljust(end - start, b"\0"))
        for first, last, in_file in self._known.find(start, end):
            length = last - first
            data[first - start : last - start] = (
                os.pread(self._written.fileno(), length, first) if in_file else bytes(length)
            )
        return bytes(data)


class Window:
    """The last `most` items of a trace before event `until`, and what was so before them."""

    def __init__(self, survey: Survey, base: Base, *, until: int, most: int) -> None:
        self.whole = True
        """Whether the trace's beginning is in it."""
        self._survey = survey
        self._base = base
        self._until = until
        self._most = most
        self._items: deque[Item] = deque()
        self._session: Session | None = None
        self._write_cache: ConfigWrite | None = None

    def fill(self, items: Iterable[Item]) -> None:
        """Take a lowered trace up to the event, with what was made available with it."""
        last: Request | None = None
        for item in items:
            if item.number > self._until:
                if last is None or not isinstance(item, Request) or item.kick != last.kick:
                    break
            elif isinstance(item, Request):
                last = item
            self._items.append(item)
            if len(self._items) > self._most:
                self._forget(self._items.popleft())

    def _forget(self, item: Item) -> None:
        self.whole = False
        if isinstance(item, Request):
            self._base.apply(item)
        elif isinstance(item, Session):
            self._session, self._write_cache = item, None
        elif isinstance(item, Reset) and item.queue == -1:
            self._session = self._write_cache = None
        elif isinstance(item, ConfigWrite):
            self._write_cache = item

    def program(self, *more: Entry) -> Program:
        """What is in it, literally, and `more` after it."""
        place = self._place()
        script = script_of(self._survey, place)
        head: Plain = {
            "name": f"{self._survey.facts.name} up to event {self._until}",
            "machine": {"memory": place.memory},
            "drives": script.drives,
            "devices": [_without_defaults(options) for options in script.devices],
        }
        entries = [*with_features([*self._before(), *_entries(self._items)]), *more]
        return Program(head, self._survey.disk.size, tuple(entries), tuple(self._content(entries)))

    def _place(self) -> Place:
        memory = "bounced" if self._survey.memory == "bounced" else "shared"
        return Place(TargetSpec("devmodels"), memory=memory)

    def _before(self) -> Iterator[Entry]:
        if self._session is not None:
            yield _probe(self._session)
        if self._write_cache is not None:
            yield from _entries([self._write_cache])

    def _content(self, entries: Sequence[Entry]) -> Iterator[Held]:
        """What the disk holds where the program reads it."""
        wanted: RangeMap[bool] = RangeMap()
        for entry in entries:
            for ask in entry.asks if isinstance(entry, Group) else ():
                if ask.reads is not None:
                    wanted.set(*ask.reads, value=True)
        for start, end, _ in wanted.find(0, self._survey.disk.size):
            for at in range(start, end, _PIECE):
                data = self._base.read(at, min(end, at + _PIECE))
                if data.count(0) != len(data):
                    yield Held(at, len(data), pattern_of(data))


def _without_defaults(options: Mapping[str, object]) -> Plain:
    """A device's options, those that say nothing left out."""
    usual = {field.encode_name: field.default for field in msgspec.structs.fields(VirtioBlkPciOptions)}
    return {name: value for name, value in options.items() if name == "driver" or value != usual.get(name)}


def _entries(items: Iterable[Item]) -> Iterator[Entry]:
    """Steps for items: what was in flight together goes together, as far as a script can wait."""
    group: list[Request] = []
    flying: list[Request] = []
    for item in items:
        if isinstance(item, Request):
            if item.skip:
                continue
            needed = any(one.used is None or one.used < item.number for one in (*flying, *group))
            size = sum(one.nbytes for one in (*flying, *group)) + item.nbytes
            if group and (
                needed or size > IN_FLIGHT_BYTES or (group[0].queue, group[0].kick) != (item.queue, item.kick)
            ):
                wait = needed or size > IN_FLIGHT_BYTES
                yield _group(group, wait=wait)
                flying = [] if wait else [*flying, *group]
                group = []
            group.append(item)
            continue
        if group:
            yield _group(group, wait=True)
            group, flying = [], []
        step = _fixed(item)
        if step is not None:
            yield step
    if group:
        yield _group(group, wait=True)


def _group(requests: Sequence[Request], *, wait: bool) -> Group:
    return Group(requests[0].queue, tuple(map(ask_of, requests)), wait)


def _fixed(item: Item) -> Fixed | None:
    if isinstance(item, Session):
        return _probe(item)
    if isinstance(item, Reset):
        return Fixed({"reset": {}} if item.queue == -1 else {"reset-queue": {"queue": item.queue}})
    if isinstance(item, Resize):
        return Fixed({"resize": {"drive": DRIVE, "to": item.size}})
    if (
        isinstance(item, ConfigWrite)
        and item.offset == BLK_CONFIG["writeback"].offset
        and item.data in (b"\0", b"\1")
    ):
        return Fixed({"write-cache": {"on": item.data == b"\1"}})
    return None


def _probe(session: Session) -> Fixed:
    """The device brought up as the recorded driver did it."""
    bits = sorted(bit for bit in BLK_FEATURES if session.features >> bit & 1)
    probe: Plain = {"features": [feature_name(bit) for bit in bits], "queues": session.queues or 1}
    if session.queue_size:
        packed = session.features >> Feature.RING_PACKED & 1
        probe["queue-size"] = session.queue_size if packed else power_of_two(session.queue_size)
    return Fixed({"probe": probe})
