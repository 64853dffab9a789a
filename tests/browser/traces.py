"""Traces for the pages: guests in this process, recorded."""

from __future__ import annotations

from itertools import cycle, islice
from pathlib import Path

from devmodels.trace import EventKind, TraceEvent
from devmodels.tracefile import VERSION, TraceHeader, TraceReader, TraceWriter
from guestsim.disk import boot
from guestsim.drivers import virtio_blk
from guestsim.guest import Guest
from guestsim.targets.inprocess import InProcessTarget

MIB = 1 << 20
STEP_NS = 10_000


def every_operation(path: Path) -> Path:
    """A guest that makes one request of each kind over two nodes, two that are merged, and one that is refused."""
    graph = {
        "driver": "raw",
        "node-name": "top",
        "file": {"driver": "memory", "node-name": "low", "size": MIB},
    }
    device = {"driver": "virtio-blk-pci", "drive": "top", "id": "vd0", "serial": "S1"}
    with InProcessTarget(blockdevs=[graph], devices=[device]) as machine:
        machine.record(path)
        disk = boot(Guest(machine))
        disk.write(4096, b"\xa5" * 508 + b"text")
        disk.read(4096, 1024, scatter=2)
        disk.flush()
        disk.get_id()
        disk.discard(0, 4096)
        disk.write_zeroes(8192, 4096, unmap=True)
        disk.requests(virtio_blk.write(65536, bytes(512)), virtio_blk.write(66048, bytes(512)))
        disk.request(virtio_blk.read(disk.capacity, 512))
    return timed(path)


def timed(path: Path) -> Path:
    """The same trace as if a clock had run: ten microseconds from event to event."""
    with TraceReader(path) as reader:
        events = list(reader)
    return written(path, events, reader.header)


def long_trace(path: Path, count: int) -> Path:
    """`count` events: what a guest does over and over, ten microseconds from event to event."""
    with InProcessTarget(
        blockdevs=[{"driver": "memory", "node-name": "d0", "size": MIB}],
        devices=[{"driver": "virtio-blk-pci", "drive": "d0", "id": "vd0"}],
    ) as machine:
        machine.record(path)
        disk = boot(Guest(machine))
        for number in range(256):
            disk.write(4096 * number, bytes([number]) * 512)
            disk.read(4096 * (255 - number), 1024)
    with TraceReader(path) as reader:
        events = list(reader)
    start = next(event.number for event in events if event.kind is EventKind.KICK)
    rounds = list(_rounds(events[start:]))
    return written(path, [*events[:start], *islice(cycle(rounds), count - start)], reader.header)


def _rounds(events: list[TraceEvent]) -> list[TraceEvent]:
    """What can be there several times: without the accesses of a round that has not ended."""
    last = max(event.number for event in events if event.kind is EventKind.INTERRUPT)
    return [event for event in events if event.number <= last]


def written(path: Path, events: list[TraceEvent], header: TraceHeader) -> Path:
    """A trace of these events, numbered anew."""
    writer = TraceWriter(path, header)
    for number, event in enumerate(events):
        writer(event._replace(number=number, time_ns=number * STEP_NS))
    writer.close()
    return path


def of_names(path: Path, name: str) -> Path:
    """A trace with one request of a device and a node that are called so."""
    kinds = EventKind
    details: list[tuple[EventKind, tuple[int | str | bytes, ...]]] = [
        (kinds.QUEUE, (0, 8, 0x1000, 0x2000, 0x3000, 0, 0)),
        (kinds.CHAIN, (0, 0, 1, 0x8000, 16, 0x9000, 512, 0xA000, 1)),
        (kinds.REQUEST, (0, name, 0, 512, 0, 0)),
        (kinds.DISPATCH, (0, name, 0, 512, 0, 0, 0)),
        (kinds.NODE_BEGIN, (0, 0, -1, name, name, name, 0, 512, 0)),
        (kinds.NODE_END, (0, 0)),
        (kinds.DONE, (0, 0, 0, b"")),
        (kinds.COMPLETION, (0, 0)),
        (kinds.USED, (0, 0, 1)),
        (kinds.VIOLATION, (name, f"{name} queue 0 head 0", name, b"")),
    ]
    events = [TraceEvent(0, 0, name, kind, detail) for kind, detail in details]
    header = TraceHeader(version=VERSION, program=name, kinds=[kind.value for kind in EventKind])
    return written(path, events, header)
