"""A machine is recorded, whatever happens to it; its trace alone is enough for its devices to do it all again."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from devmodels.assembly import Assembly, assemble
from devmodels.options import OptionError
from devmodels.recording import record_machine
from devmodels.snapshot import SnapshotError, restore_snapshot, save_snapshot
from devmodels.trace import EventKind, TraceEvent
from devmodels.tracefile import DeviceFacts, TraceReader
from devmodels.translation import TranslatedMemory
from devmodels.virtio.pci import VirtioPci
from guestsim.disk import Disk, boot
from guestsim.drivers import virtio_blk
from guestsim.drivers.pci import ConfigSpace, PciFunction
from guestsim.drivers.virtio_bus import open_function
from guestsim.guest import Guest
from guestsim.quick import disk_machine
from guestsim.replay import replay
from guestsim.targets.inprocess import InProcessTarget
from tests.qemu.mmio_by_hand import PAGE
from tests.unit.guestsim.replay.anywhere import goes_on_anywhere
from tests.unit.virtio.test_access_platform import ACCESS_PLATFORM, BUS, Rig

MIB = 1 << 20


def events(path: Path) -> list[TraceEvent]:
    with TraceReader(path) as reader:
        return list(reader)


def kinds(path: Path) -> list[EventKind]:
    return [event.kind for event in events(path)]


def does_it_again(path: Path) -> None:
    """The devices of the trace do again what they did, from wherever they begin."""
    result = replay(path)
    assert result.difference is None
    assert not result.short
    assert result.events == len(events(path))
    goes_on_anywhere(path, 3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "machine.trace"


def disk_at(guest: Guest, slot: int) -> Disk:
    function = PciFunction(guest, ConfigSpace(guest.target), slot, 0)
    driver = virtio_blk.VirtioBlk(guest, open_function(guest, function, legacy=False))
    guest.run(driver.probe())
    return Disk(guest, driver)


# --- devices come and go


@pytest.mark.long
def test_devices_that_come_and_go_are_recorded(path: Path) -> None:
    nodes = [{"driver": "memory", "node-name": f"d{n}", "size": MIB} for n in range(2)]
    first = {"driver": "virtio-blk-pci", "drive": "d0", "id": "v0", "addr": "4"}
    second = {"driver": "virtio-blk-pci", "drive": "d1", "id": "v1", "addr": "5", "num-queues": 2}
    with InProcessTarget(blockdevs=nodes, devices=[first]) as machine:
        machine.record(path)
        guest = Guest(machine)
        disk = disk_at(guest, 4)
        disk.write(0, b"\x11" * 512)
        machine.assembly.add_device(second)
        other = disk_at(guest, 5)
        other.write(0, b"\x22" * 512)
        machine.assembly.context.run(machine.assembly.remove_device("v1"))
        machine.assembly.add_device({**second, "num-queues": 1})
        assert disk_at(guest, 5).read(0, 512) == b"\x22" * 512
        assert disk.read(0, 512) == b"\x11" * 512
    found = [event for event in events(path) if event.kind in (EventKind.DEVICE, EventKind.REMOVED)]
    assert [(event.source, event.kind) for event in found] == [
        ("v0", EventKind.DEVICE),
        ("v1", EventKind.DEVICE),
        ("v1", EventKind.REMOVED),
        ("v1", EventKind.DEVICE),
    ]
    facts = [msgspec.json.decode(str(event.detail[0]), type=DeviceFacts) for event in found if event.detail]
    assert [each.options for each in facts] == [first, second, {**second, "num-queues": 1}]
    does_it_again(path)


def test_a_device_is_taken_out_with_requests_in_flight(path: Path) -> None:
    with InProcessTarget(
        objects=[{"qom-type": "throttle-group", "id": "g0", "limits": {"iops-total": 1}}],
        blockdevs=[
            {
                "driver": "throttle",
                "throttle-group": "g0",
                "node-name": "d0",
                "file": {"driver": "null-co", "size": MIB, "read-zeroes": True},
            }
        ],
        devices=[{"driver": "virtio-blk-pci", "drive": "d0", "id": "v0", "addr": "4"}],
    ) as machine:
        machine.record(path)
        guest = Guest(machine)
        disk = disk_at(guest, 4)
        guest.run(disk.driver.submit([virtio_blk.read(512 * number, 512) for number in range(0, 9, 2)]))
        machine.assembly.context.turn()
        assert len(machine.assembly.backends["d0"].in_flight) > 2
        machine.assembly.context.run(machine.assembly.remove_device("v0"))
    assert EventKind.REMOVED in kinds(path)
    does_it_again(path)


def test_a_device_that_has_gone_is_not_told_that_the_machine_stops(path: Path) -> None:
    memory = {"driver": "memory", "size": MIB}
    with InProcessTarget(
        blockdevs=[
            {"driver": "delay", "latency-ns": 20_000, "node-name": f"d{n}", "file": memory} for n in range(2)
        ],
        devices=[
            {"driver": "virtio-blk-pci", "drive": f"d{n}", "id": f"v{n}", "addr": str(4 + n)}
            for n in range(2)
        ],
    ) as machine:
        machine.record(path)
        guest = Guest(machine)
        disk = disk_at(guest, 4)
        guest.run(disk.driver.submit([virtio_blk.write(0, bytes(512))]))
        machine.assembly.context.run(machine.assembly.remove_device("v0"))
        machine.stop()
        machine.cont()
    found = [(event.source, event.detail) for event in events(path) if event.kind is EventKind.RUN_STATE]
    assert found == [("v1", (0,)), ("v1", (1,))]
    does_it_again(path)


def test_a_machine_stops_and_runs_on_without_a_disk(path: Path) -> None:
    options = {"driver": "virtio-blk-pci", "drive": "d0", "id": "v0", "addr": "4"}
    with InProcessTarget(
        blockdevs=[{"driver": "memory", "size": MIB, "node-name": "d0"}], devices=[options]
    ) as machine:
        assembly = machine.assembly
        machine.stop()
        machine.record(path)
        guest = Guest(machine)
        driver = disk_at(guest, 4).driver
        guest.run(driver.submit([virtio_blk.write(0, bytes(512))]))
        assembly.context.run(assembly.remove_device("v0"))
        machine.cont()
        assembly.add_device(options)
        disk_at(guest, 4).write(0, bytes(512))
    assert EventKind.RUN_STATE not in kinds(path)
    does_it_again(path)


# --- threads


THREAD = {"qom-type": "iothread", "id": "t0"}
NODE = {"driver": "memory", "node-name": "d0", "size": MIB}
ON_THREAD = {"driver": "virtio-blk-pci", "drive": "d0", "id": "v0", "iothread": "t0"}


def on_threads(*devices: Mapping[str, object], one_context: bool = False) -> Assembly:
    return assemble(
        objects=[THREAD], blockdevs=[NODE], devices=devices, clock="wall", one_context=one_context
    )


def users_of_thread(assembly: Assembly) -> list[str]:
    return assembly.graph.iothreads.by_id["t0"].users


def test_queues_on_threads_are_not_recorded(path: Path) -> None:
    with (
        on_threads(ON_THREAD) as assembly,
        pytest.raises(ValueError, match=r"'v0' has queues on iothreads; expected .* one_context"),
    ):
        record_machine(assembly, path)
    assert not path.exists()


def test_with_one_context_there_are_none(path: Path) -> None:
    with on_threads(ON_THREAD, one_context=True) as assembly, record_machine(assembly, path):
        assert users_of_thread(assembly) == []
    assert kinds(path) == [EventKind.DEVICE, EventKind.MEMORY]
    with pytest.raises(OptionError, match="'t0' not found"):
        assemble(blockdevs=[NODE], devices=[ON_THREAD], one_context=True)


def test_a_device_that_comes_while_recording_is_on_no_thread(path: Path) -> None:
    with on_threads() as assembly, record_machine(assembly, path):
        assembly.add_device(ON_THREAD)
        assert users_of_thread(assembly) == []
    assert kinds(path) == [EventKind.MEMORY, EventKind.DEVICE]


# --- what cannot be recorded


def test_a_recording_begins_before_the_guest_does(path: Path) -> None:
    with disk_machine(MIB) as machine:
        guest = Guest(machine)
        disk = boot(guest)
        with pytest.raises(ValueError, match="device 'vd0' is in use; expected"):
            record_machine(machine.assembly, path)
        guest.run(disk.driver.reset())
        with pytest.raises(ValueError, match=r"function 01.0 is in use; expected"):
            record_machine(machine.assembly, path)


def test_a_machine_is_recorded_once(path: Path, tmp_path: Path) -> None:
    with disk_machine(MIB) as machine:
        machine.record(path)
        with pytest.raises(ValueError, match="recorded already"):
            record_machine(machine.assembly, tmp_path / "other.trace")


def test_devices_that_were_plugged_by_hand_are_not_recorded(path: Path) -> None:
    with disk_machine(MIB) as machine, disk_machine(MIB) as other:
        function = other.assembly.devices["vd0"]
        assert isinstance(function, VirtioPci)
        other.assembly.machine.unplug(function)
        machine.assembly.machine.plug(function, 9)
        with pytest.raises(ValueError, match="'vd0' was plugged by hand"):
            record_machine(machine.assembly, path)
        machine.assembly.machine.unplug(function)


class Register:
    """Somebody's own device."""

    value = 0

    def read(self, offset: int, size: int) -> int:
        return self.value

    def write(self, offset: int, size: int, value: int) -> None:
        self.value = value


def test_an_embedders_own_registers_are_not_in_the_trace(path: Path) -> None:
    with disk_machine(MIB) as machine:
        own = machine.assembly.machine
        own.claim_memory(0xD000_0000, 4096, Register())
        own.claim_ports(0x300, 4, Register())
        machine.record(path)
        disk = boot(Guest(machine))
        own.write(0xD000_0000, 4, 0x1234)
        own.io_write(0x300, 4, 0x5678)
        disk.write(0, bytes(512))
        assert (own.read(0xD000_0000, 4), own.io_read(0x300, 4)) == (0x1234, 0x5678)
    does_it_again(path)
    assert not {0x1234, 0x5678} & {value for event in events(path) for value in event.detail}


# --- files that are there already


def test_what_is_no_trace_is_not_written_over(path: Path) -> None:
    path.write_bytes(b"an image")
    with disk_machine(MIB) as machine, pytest.raises(FileExistsError, match="no trace that could be written"):
        record_machine(machine.assembly, path)
    assert path.read_bytes() == b"an image"


def test_a_trace_without_an_end_is_kept(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        with disk_machine(MIB) as machine:
            machine.record(path)
            boot(Guest(machine)).write(0, bytes(512))
        os.truncate(path, path.stat().st_size - 1)
    assert sorted(each.name for each in path.parent.iterdir()) == [
        path.name,
        f"{path.name}.1",
        f"{path.name}.2",
    ]
    assert caplog.messages[-1].endswith(f"it is kept as {path.name}.2")
    with disk_machine(MIB) as machine:
        with record_machine(machine.assembly, path.with_name("ended")):
            pass
        with record_machine(machine.assembly, path.with_name("ended")):
            pass
    assert not path.with_name("ended.1").exists()


def test_a_read_that_is_too_long_for_a_trace_ends_it(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("devmodels.blockbackend.requesttrace.MAX_PAYLOAD", 4096)
    with disk_machine(MIB) as machine:
        machine.record(path)
        disk = boot(Guest(machine))
        disk.write(0, b"\x11" * 8192)
        assert disk.read(0, 4096) == b"\x11" * 4096
        assert disk.read(0, 8192) == b"\x11" * 8192
        assert disk.read(0, 512) == b"\x11" * 512
    assert caplog.text.count("a read of 8192 bytes, more than 4096") == 1
    found = kinds(path)
    assert found.count(EventKind.REQUEST) == 3
    assert found[-1] is EventKind.NODE_END, "nothing of it is DONE"
    assert replay(path).difference is None


def test_what_comes_from_a_snapshot_would_not_be_in_the_trace(path: Path) -> None:
    with disk_machine(MIB) as machine:
        data = save_snapshot(machine.assembly)
        with record_machine(machine.assembly, path), pytest.raises(SnapshotError, match="being recorded"):
            restore_snapshot(machine.assembly, data)
        restore_snapshot(machine.assembly, data)


# --- the end of a recording


def seen_by(machine: InProcessTarget) -> list[object]:
    """Whoever is told of events in a machine."""
    assembly = machine.assembly
    device = assembly.virtio_device("vd0")
    backends = [backend.trace for backend in assembly.backends.values()]
    nodes = [node.trace for node in assembly.graph.nodes.values()]
    told = [assembly.machine.trace, assembly.memory.trace, device.trace, *backends, *nodes]
    return [each for each in [*told, assembly.violations.record, assembly.watcher] if each is not None]


def test_a_recording_that_ends_leaves_the_devices_as_they_were(path: Path) -> None:
    with disk_machine(MIB) as machine:
        with record_machine(machine.assembly, path) as recorder:
            disk = boot(Guest(machine))
            disk.write(0, b"\x11" * 512)
            assert seen_by(machine)
        assert seen_by(machine) == []
        disk.write(512, b"\x22" * 512)
        assert disk.read(0, 1024) == b"\x11" * 512 + b"\x22" * 512
    assert recorder.writer.ending is not None
    does_it_again(path)


def test_at_the_limit_the_devices_go_on_unrecorded(
    path: Path, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    with disk_machine(MIB) as machine:
        recorder = record_machine(machine.assembly, path, limit=20_000)
        disk = boot(Guest(machine))
        written = b""
        while recorder.writer.ending is None:
            written = os.urandom(4096)
            disk.write(0, written)
            recorder.writer.flush()
        machine.assembly.machine.run_until_idle()
        assert seen_by(machine) == []
        disk.write(4096, written)
        assert disk.read(0, 8192) == 2 * written
        recorder.close()
    assert path.stat().st_size <= 20_000
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "recording ends after" in caplog.text
    with TraceReader(path) as reader:
        assert reader.count() > 100
        assert reader.ending is not None
        assert reader.ending.reason == "limit"
    result = replay(path)
    assert result.difference is None


def test_a_file_that_cannot_be_written_is_refused_and_nothing_is_recorded(tmp_path: Path) -> None:
    with disk_machine(MIB) as machine:
        with pytest.raises(OSError, match="Is a directory"):
            record_machine(machine.assembly, tmp_path)
        with pytest.raises(ValueError, match="expected at least"):
            record_machine(machine.assembly, tmp_path / "t", limit=10)
        assert seen_by(machine) == []


def test_time_does_not_go_on_for_a_recording(path: Path) -> None:
    with disk_machine(MIB) as machine:
        machine.record(path)
        disk = boot(Guest(machine))
        disk.write(0, bytes(512))
        before = machine.now_ns()
        machine.assembly.machine.run_until_idle()
        assert machine.now_ns() == before


# --- memory


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "bounced"])
def test_a_device_behind_an_iommu_has_a_memory_of_its_own(path: Path, *, shared: bool) -> None:
    rig = Rig(shared=shared)
    with rig.assembly, record_machine(rig.assembly, path):
        disk, iommu = rig.disk, rig.iommu
        disk.start(ACCESS_PLATFORM)
        data = bytes(range(256)) * 32
        assert disk.request(1, 0, data=data)[:2] == (0, 1)
        assert disk.request(0, 0, room=8192) == (0, 8193, data)
        iommu.unmapped.add(rig.page(disk.buffers + PAGE))
        disk.expose(0, 0, room=8192)
        disk.set(0x050, 0)
        assert disk.answer(16)[:2] == (1, 0)
        iommu.unmapped = {rig.page(disk.used)}
        memory = rig.assembly.virtio_device("v0").memory
        assert isinstance(memory, TranslatedMemory)
        memory.invalidate()
        disk.set(0x050, 0)
        assert disk.get(0x070) & 0x40
        iommu.unmapped.clear()
        disk.start(ACCESS_PLATFORM)
        assert disk.request(0, 0, room=8192) == (0, 8193, data)
    (facts,) = [
        msgspec.json.decode(str(event.detail[0]), type=DeviceFacts)
        for event in events(path)
        if event.kind is EventKind.DEVICE
    ]
    assert facts.memory == "v0.memory"
    dma = [event for event in events(path) if event.kind in (EventKind.DMA_READ, EventKind.DMA_WRITE)]
    assert {event.source for event in dma} == {"v0.memory"}
    assert all(int(event.detail[0]) >= BUS for event in dma)
    assert EventKind.FAULT in kinds(path)
    does_it_again(path)


def test_memory_that_comes_and_goes_is_recorded(path: Path) -> None:
    from devmodels.memoryregions import SharedRegion

    with disk_machine(MIB) as machine:
        machine.record(path)
        disk = boot(Guest(machine))
        region = SharedRegion(1 << 32, bytearray(4096))
        machine.assembly.memory.add(region)
        disk.write(0, bytes(512))
        machine.assembly.memory.remove(region)
        disk.write(0, bytes(512))
    assert kinds(path).count(EventKind.MEMORY) == 3
    does_it_again(path)
