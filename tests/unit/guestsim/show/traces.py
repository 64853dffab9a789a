"""Small traces for tests: guests in this process, on the virtual clock, recorded."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import strategies as st

from devmodels.trace import SHAPES, EventKind, TraceEvent
from devmodels.tracefile import VERSION, DeviceFacts, DiskFacts, TraceHeader, TraceReader, TraceWriter
from guestsim.disk import Disk, boot
from guestsim.drivers import virtio_blk
from guestsim.guest import Guest
from guestsim.quick import disk_machine
from guestsim.targets.inprocess import InProcessTarget

MIB = 1 << 20


def record(machine: InProcessTarget, path: Path) -> Disk:
    """Record the machine from now on, and let a guest find its disk."""
    machine.record(path)
    return boot(Guest(machine))


def one_of_each(
    path: Path, *, shared: bool = True, packed: bool = False, disable_modern: bool = False
) -> Path:
    """A guest that makes one request of each kind, and one that is refused."""
    with disk_machine(
        1 * MIB, shared=shared, serial="S1", packed=packed, disable_modern=disable_modern
    ) as machine:
        disk = record(machine, path)
        disk.write(4096, b"\xa5" * 512)
        disk.read(4096, 1024, scatter=2)
        disk.flush()
        disk.get_id()
        disk.discard(0, 4096)
        disk.write_zeroes(8192, 4096, unmap=True)
        disk.request(virtio_blk.read(disk.capacity, 512))
    return path


def mmio(path: Path, *, legacy: bool) -> Path:
    """The same over MMIO: a write and a read."""
    device = {"driver": "virtio-blk-device", "drive": "d0", "id": "m0", "force-legacy": legacy}
    drive = {"driver": "memory", "node-name": "d0", "size": MIB}
    with InProcessTarget(blockdevs=[drive], devices=[device]) as machine:
        disk = record(machine, path)
        disk.write(0, bytes(512))
        disk.read(0, 512)
    return path


def written(
    path: Path, events: Iterable[tuple[str, EventKind, tuple[int | str | bytes, ...]]], *, strict: bool = True
) -> Path:
    """A trace of just these events, a microsecond apart."""
    kinds = [kind.value for kind in EventKind]
    header = TraceHeader(version=VERSION, program="test", kinds=kinds, strict=strict)
    writer = TraceWriter(path, header)
    for number, (source, kind, detail) in enumerate(events):
        writer(TraceEvent(number, 1000 * number, source, kind, detail))
    writer.close()
    return path


def two_back_ends() -> list[tuple[str, EventKind, tuple[int | str | bytes, ...]]]:
    """Two exports whose front ends have memories of their own, in which the same addresses are used."""
    events: list[tuple[str, EventKind, tuple[int | str | bytes, ...]]] = []
    disk = DiskFacts("d0", MIB)
    for name in ("e0", "e1"):
        facts = DeviceFacts(name, "export", {"type": "vhost-user-blk"}, disk, memory=f"{name}.memory")
        events.append((name, EventKind.DEVICE, (msgspec.json.encode(facts).decode(),)))
        events.append((name, EventKind.QUEUE, (0, 4, 0x1000, 0x2000, 0x3000, 0, 0)))
        events.append((name, EventKind.CHAIN, (0, 1, 1, 0x8000, 16, 0x9000, 1)))
    for name, sector in (("e0", 5), ("e1", 6)):
        header = struct.pack("<IIQ", 4 if sector == 5 else 8, 0, sector)
        events.append((f"{name}.memory", EventKind.DMA_READ, (0x8000, header)))
        events.append((f"{name}.memory", EventKind.DMA_READ, (0x2002, b"\1\0")))
    for name in ("e1", "e0"):
        events.append((f"{name}.memory", EventKind.DMA_WRITE, (0x9000, b"\0")))
        events.append((name, EventKind.USED, (0, 1, 1)))
    return events


def events_of(path: Path) -> list[TraceEvent]:
    """All of a trace."""
    with TraceReader(path) as reader:
        return list(reader)


_SOURCES = st.sampled_from(["vd0", "memory", "memory-space", "io-space", "machine", "violations", "other"])
_PARTS: dict[type, st.SearchStrategy[Any]] = {
    int: st.integers(-1, 4)
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.sampled_from([8, 16, 256, 0xB0008010, 0x1000]),
    str: st.text(max_size=8),
    bytes: st.binary(max_size=70),
}


@st.composite
def _events(draw: st.DrawFn) -> tuple[EventKind, tuple[Any, ...]]:
    """A kind, and details of the types that it has."""
    kind = draw(st.sampled_from(EventKind))
    shape = SHAPES[kind]
    fields = shape.fields + draw(st.integers(0, 4)) * shape.repeated
    return kind, tuple(draw(_PARTS[each]) for _, each in fields)


@cache
def _known() -> list[TraceEvent]:
    with tempfile.TemporaryDirectory() as folder:
        return events_of(one_of_each(Path(folder) / "disk.trace"))


@st.composite
def any_events(draw: st.DrawFn) -> list[TraceEvent]:
    """Events of the types that a reader lets pass, whatever they say, among some that a guest at work has made."""
    given = draw(st.lists(st.tuples(_SOURCES, _events()), max_size=25))
    known = draw(st.lists(st.sampled_from(_known()), max_size=20))
    made = [(event.source, event.kind, event.detail) for event in known]
    made += [(source, kind, detail) for source, (kind, detail) in given]
    return [TraceEvent(number, number, *each) for number, each in enumerate(draw(st.permutations(made)))]
