"""The first pass over a trace: which device, how its drivers brought it up, and what its disk held first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from devmodels.trace import EventKind, TraceEvent
from devmodels.tracefile import DeviceFacts, DiskFacts, TraceFileError, TraceReader
from guestsim.portable.content import Content, FirstContent
from guestsim.portable.lower import Lacks, Lowering, SessionFacts
from guestsim.portable.ranges import RangeMap
from guestsim.portable.requests import Request

if TYPE_CHECKING:
    from pathlib import Path

Progress = Callable[[int], None]
"""Hears of the number of the event that has been reached."""

_STEP = 1024


def unheard(_number: int) -> None:
    """Progress that nobody watches."""


@dataclass(slots=True)
class Survey:
    """What a first pass has found: the device, its sessions by number, how many requests there are.

    `memory` is the recorded one, `shared` or `bounced`; `first` is where it is known what the disk held first.
    """

    facts: DeviceFacts
    sessions: dict[int, SessionFacts]
    requests: int
    events: int
    memory: str
    cut: bool
    first: RangeMap[bool]
    others: list[str] = field(default_factory=list)
    """Names of the trace's other devices."""

    @property
    def disk(self) -> DiskFacts:
        """The device's disk."""
        assert self.facts.disk is not None
        return self.facts.disk

    def lowering(self, lacks: Lacks, content: Content | None = None) -> Lowering:
        """What lowers the trace again, now that its sessions are known, and follows the `content` of its disk."""
        return Lowering(
            self.facts.name, content or Content(), memory=self.facts.memory, known=self.sessions, lacks=lacks
        )


def survey(reader: TraceReader, image: Path, device: str | None, progress: Progress = unheard) -> Survey:
    """Read a trace once; the disk's first content goes to the sparse file `image`.

    `device` is the one to look at, by default the only one.  TraceFileError where the trace has none, or several.
    """
    devices = _devices(reader)
    facts = _choose(reader.path, devices, device)
    disk = facts.disk
    assert disk is not None
    try:
        content = FirstContent(image, disk.size)
    except (OSError, OverflowError, ValueError) as error:
        raise TraceFileError(f"{reader.path}: a disk of {disk.size} bytes: {error}") from None
    try:
        lowering = Lowering(facts.name, content, memory=facts.memory)
        items = lowering.items(watched(reader, progress))
        requests = sum(isinstance(item, Request) for item in items)
    finally:
        content.close()
    others = [name for name in devices if name != facts.name]
    events = reader.count()
    return Survey(
        facts, lowering.sessions, requests, events, reader.header.memory, reader.cut, content.found, others
    )


def watched(reader: TraceReader, progress: Progress) -> Iterator[TraceEvent]:
    """A trace's events, with progress; TraceFileError for what no buffer can be."""
    for event in reader:
        if not event.number % _STEP:
            progress(event.number)
        if event.kind is EventKind.CHAIN and any(int(number) < 0 for number in event.detail):
            raise TraceFileError(
                f"{reader.path}: event {event.number} is damaged: a buffer with a negative number"
            )
        yield event


def _devices(reader: TraceReader) -> dict[str, DeviceFacts]:
    """The devices of a trace by name."""
    found: dict[str, DeviceFacts] = {}
    for event in watched(reader, unheard):
        if event.kind is EventKind.DEVICE:
            try:
                facts = msgspec.json.decode(str(event.detail[0]), type=DeviceFacts)
            except (msgspec.DecodeError, IndexError) as error:
                raise TraceFileError(f"{reader.path}: event {event.number}: {error}") from None
            found[facts.name] = facts
    return found


def _choose(path: Path, devices: dict[str, DeviceFacts], wanted: str | None) -> DeviceFacts:
    blk = {name: facts for name, facts in devices.items() if facts.disk is not None and not facts.host}
    if devices and (not blk or wanted in devices.keys() - blk.keys()):
        what = "the trace has none" if wanted is None else f"{wanted!r} is none"
        raise TraceFileError(f"{path}: it can be replayed elsewhere for virtio-blk devices only, and {what}")
    devices = blk
    names = ", ".join(devices) or "none"
    if wanted is None and len(devices) == 1:
        return next(iter(devices.values()))
    if wanted is None:
        raise TraceFileError(f"{path}: a trace of the devices {names}, expected --device with one of them")
    if wanted not in devices:
        raise TraceFileError(f"{path}: no device {wanted!r}, expected one of {names}")
    return devices[wanted]
