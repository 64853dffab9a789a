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

from devmodels.blockbackend import open_node
from devmodels.scsi.mmc import CdDrive
from devmodels.trace import EventKind, TraceEvent
from devmodels.tracefile import VERSION, DeviceFacts, DiskFacts, TraceHeader, TraceReader, TraceWriter
from devmodels.traceshapes import SHAPES
from guestsim.disk import Disk, boot
from guestsim.drivers import cdb, mmc_cdb, virtio_blk, virtio_scsi
from guestsim.drivers.scsi_layouts import Tmf, lun_bytes
from guestsim.guest import Guest
from guestsim.quick import disk_machine
from guestsim.targets.inprocess import InProcessTarget
from tests.unit.scsi.mmc.driveworld import mixed

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


def scsi(path: Path, *, disable_modern: bool = False) -> Path:
    """A guest at a SCSI host: commands that succeed and fail, another size of CDBs, a function, a unit that comes."""
    nodes = [{"driver": "memory", "node-name": f"d{number}", "size": MIB} for number in range(2)]
    host = {"driver": "virtio-scsi-pci", "id": "s0", "disable-modern": disable_modern}
    unit = {"driver": "scsi-hd", "drive": "d0", "id": "u0", "scsi-id": 0, "lun": 3}
    with InProcessTarget(blockdevs=nodes, devices=[host, unit]) as machine:
        machine.record(path)
        guest = Guest(machine)
        (transport,) = virtio_scsi.find(guest)
        driver = virtio_scsi.VirtioScsi(guest, transport)
        guest.run(driver.probe(cdb_size=40))
        for command, data in (
            (cdb.test_unit_ready(), b""),
            (cdb.inquiry(page=0x83), b""),
            (cdb.write_10(lba=8, blocks=1), b"\xa5" * 512),
            (cdb.read_16(lba=8, blocks=2), b""),
            (cdb.read_10(lba=1 << 20, blocks=1), b""),
            (cdb.mode_sense_6(page=8), b""),
        ):
            guest.run(driver.send(0, 3, command, data))
        guest.run(driver.send(7, 0, cdb.inquiry()))
        guest.run(driver.manage(Tmf.LOGICAL_UNIT_RESET, lun_bytes(0, 3)))
        machine.assembly.add_device(
            {"driver": "scsi-hd", "drive": "d1", "id": "u1", "scsi-id": 2, "lun": 300}
        )
        guest.run(guest.settle())
        guest.close()
    return path


def cd(folder: Path) -> Path:
    """A guest at a CD drive whose user changes the disc, and at one that is empty."""
    path = folder / "cd.trace"
    node = {"driver": "memory", "node-name": "d0", "size": MIB}
    devices: list[dict[str, object]] = [
        {"driver": "virtio-scsi-pci", "id": "s0"},
        {"driver": "scsi-cd", "drive": "d0", "id": "u0", "scsi-id": 0, "lun": 3, "load-time": 10},
        {"driver": "scsi-cd", "id": "u1", "scsi-id": 0, "lun": 4},
    ]
    with InProcessTarget(blockdevs=[node], devices=devices) as machine:
        machine.record(path)
        guest = Guest(machine)
        (transport,) = virtio_scsi.find(guest)
        driver = virtio_scsi.VirtioScsi(guest, transport)
        guest.run(driver.probe())
        unit = machine.assembly.units["u0"].unit
        assert isinstance(unit, CdDrive)
        for command in (cdb.test_unit_ready(), mmc_cdb.read_toc(), mmc_cdb.get_event_status()):
            guest.run(driver.send(0, 3, command, b""))
        unit.tray.user_opens()
        disc = open_node({"driver": "cue", "filename": str(mixed(folder))}, machine.assembly.context)
        machine.assembly.context.run(machine.assembly.set_medium("u0", disc))
        unit.tray.user_closes()
        for command in (cdb.test_unit_ready(), mmc_cdb.read_cd(lba=20, blocks=1)):
            guest.run(driver.send(0, 3, command, b""))
            guest.run(guest.settle())
        guest.run(driver.send(0, 4, mmc_cdb.read_sub_channel(), b""))
        guest.close()
    return path


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


@cache
def _known_of_scsi() -> list[TraceEvent]:
    with tempfile.TemporaryDirectory() as folder:
        return events_of(scsi(Path(folder) / "scsi.trace"))


@st.composite
def any_events(draw: st.DrawFn) -> list[TraceEvent]:
    """Events of the types that a reader lets pass, whatever they say, among some that a guest at work has made.

    Perhaps behind the beginning of what a guest did at a SCSI host.
    """
    first = _known_of_scsi()[: draw(st.sampled_from([0, 0, 40, 400, 700]))]
    given = draw(st.lists(st.tuples(_SOURCES, _events()), max_size=25))
    known = draw(st.lists(st.sampled_from(_known()), max_size=20))
    made = [(event.source, event.kind, event.detail) for event in known]
    made += [(source, kind, detail) for source, (kind, detail) in given]
    before = [(event.source, event.kind, event.detail) for event in first]
    return [
        TraceEvent(number, number, *each)
        for number, each in enumerate([*before, *draw(st.permutations(made))])
    ]
