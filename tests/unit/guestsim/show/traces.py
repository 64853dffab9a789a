"""Small traces for tests: guests in this process, on the virtual clock, recorded."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from devmodels.trace import EventKind, TraceEvent
from devmodels.tracefile import VERSION, TraceHeader, TraceReader, TraceWriter
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


def events_of(path: Path) -> list[TraceEvent]:
    """All of a trace."""
    with TraceReader(path) as reader:
        return list(reader)
