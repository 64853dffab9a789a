"""What is changed around a recorded device while it works: its disk, its graph, its limits, where its interrupts go."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from devmodels.assembly import assemble
from devmodels.blockbackend.throttling import ThrottleGroup
from devmodels.recording import record_machine
from devmodels.snapshot import save_snapshot
from devmodels.trace import EventKind
from devmodels.virtio.places import SLOT_BASE
from guestsim.cli import app
from guestsim.disk import boot
from guestsim.drivers import virtio_blk
from guestsim.guest import Guest
from guestsim.quick import disk_machine
from guestsim.targets.inprocess import InProcessTarget
from tests.qemu.mmio_by_hand import PAGE, MmioBlk
from tests.unit.recording.test_machine import MIB, does_it_again, events, kinds
from tests.unit.test_graph_under_guest import BLOCK, BLOCKS, CPUS, change_under_load

READS = [virtio_blk.read(512 * number, 512) for number in range(0, 16, 2)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "machine.trace"


def told(*arguments: str | Path) -> str:
    """What a command of guestsim's says of it."""
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_another_disk_in_its_place(path: Path) -> None:
    with disk_machine(MIB) as machine:
        machine.add_drive({"driver": "memory", "node-name": "d1", "size": 2 * MIB})
        machine.record(path)
        disk = boot(Guest(machine))
        disk.write(0, b"\x11" * 512)
        machine.assembly.context.run(machine.assembly.set_drive("vd0", "d1"))
        assert disk.read(2 * MIB - 512, 512) == bytes(512)
    assert [event.detail[0] for event in events(path) if event.kind is EventKind.SIZE] == [2 * MIB]
    does_it_again(path)


def test_filters_that_come_and_go(path: Path) -> None:
    with disk_machine(MIB) as machine:
        machine.record(path)
        guest = Guest(machine)
        disk = boot(guest)
        graph, context = machine.assembly.graph, machine.assembly.context
        delay = {"driver": "delay", "node-name": "f0", "latency-ns": 30_000}
        context.run(graph.insert(delay, above="disk0"))
        pending = guest.run(disk.driver.submit(READS))
        context.run(graph.remove("f0"))
        assert [guest.run(disk.driver.finish(each)).status for each in pending] == [0] * len(READS)
    assert EventKind.QUIESCE in kinds(path)
    does_it_again(path)


@pytest.mark.long
def test_a_graph_that_is_changed_under_load(path: Path) -> None:
    with disk_machine(size=CPUS * BLOCKS * BLOCK, num_queues=CPUS) as machine:
        machine.record(path)
        change_under_load(machine, 8)
    does_it_again(path)


def test_limits_and_a_reset_meanwhile(path: Path) -> None:
    with disk_machine(MIB) as machine:
        machine.record(path)
        guest = Guest(machine)
        disk = boot(guest)
        assembly = machine.assembly
        assembly.add_object({"qom-type": "throttle-group", "id": "g0", "limits": {"iops-total": 2}})
        group = assembly.graph.throttle_group("g0")
        assert isinstance(group, ThrottleGroup)
        backend = assembly.backends["disk0"]
        backend.set_throttle_group(group)
        guest.run(disk.driver.submit(READS))
        assembly.context.turn()
        assert backend.in_flight
        guest.run(disk.driver.reset())
        again = boot(guest)
        guest.run(again.driver.submit(READS))
        backend.set_throttle_group(None)
        assert again.read(0, 512) == bytes(512)
    does_it_again(path)


@pytest.mark.long
def test_a_snapshot_that_is_saved_meanwhile(path: Path) -> None:
    with disk_machine(MIB, num_queues=2) as machine:
        machine.record(path)
        guest = Guest(machine)
        disk = boot(guest)
        guest.run(disk.driver.submit(READS))
        save_snapshot(machine.assembly)
        machine.stop()
        guest.run(disk.driver.submit(READS))
        save_snapshot(machine.assembly)
        machine.cont()
        assert disk.read(0, 512) == bytes(512)
    does_it_again(path)


class MessagesInMemory(InProcessTarget):
    """A machine whose interrupt messages go into guest memory."""

    PLACE = 0x8000

    def message(self, vector: int) -> tuple[int, int]:
        return self.PLACE + 4 * vector, vector + 1

    def take_messages(self) -> dict[int, int]:
        found = {}
        for vector in range(8):
            address = self.PLACE + 4 * vector
            if self.ram_read(address, 4) != bytes(4):
                self.ram_write(address, bytes(4))
                found[vector] = 1
        return found


def test_interrupts_that_are_written_into_memory(path: Path) -> None:
    with MessagesInMemory(
        blockdevs=[{"driver": "memory", "node-name": "disk0", "size": MIB}],
        devices=[{"driver": "virtio-blk-pci", "drive": "disk0", "id": "vd0"}],
    ) as machine:
        machine.record(path)
        disk = boot(Guest(machine))
        disk.write(0, b"\x11" * 512)
        assert disk.read(0, 512) == b"\x11" * 512
    found = events(path)
    messages = [at for at, event in enumerate(found) if event.kind is EventKind.INTERRUPT]
    assert messages
    for at in messages:
        address, data = found[at].detail
        assert found[at + 1].kind is EventKind.DMA_WRITE
        assert found[at + 1].detail == (address, int(data).to_bytes(4, "little"))
    does_it_again(path)


class Served:
    """An embedder's disk on MMIO, whose interrupts are answered as soon as they are told."""

    def __init__(self) -> None:
        self.assembly = assemble(
            blockdevs=[{"driver": "memory", "node-name": "d0", "size": MIB}],
            devices=[{"driver": "virtio-blk-device", "drive": "d0", "id": "v0", "force-legacy": False}],
            ram=1024 * PAGE,
            on_irq=self._interrupted,
        )
        self.read, self.write = self.assembly.machine.read, self.assembly.machine.write
        self.ram_read, self.ram_write = self.assembly.memory.load, self.assembly.memory.store
        self.disk = MmioBlk(self, SLOT_BASE, 0x10_0000, self.assembly.context.turn)
        self.levels: list[bool] = []

    def _interrupted(self, _line: int, level: bool) -> None:
        self.levels.append(level)
        if level:
            self.write(SLOT_BASE + 0x064, 4, self.read(SLOT_BASE + 0x060, 4))
            self.write(SLOT_BASE + 0x050, 4, 0)
            self.read(0x10_0000, 4)


def test_whoever_is_interrupted_accesses_the_device_at_once(path: Path) -> None:
    served = Served()
    with served.assembly, record_machine(served.assembly, path):
        served.disk.start()
        for sector in range(3):
            assert served.disk.request(1, sector, data=b"\x11" * 512)[:2] == (0, 1)
            assert served.disk.request(0, sector, room=512) == (0, 513, b"\x11" * 512)
    assert served.levels == [True, False] * 6
    found = kinds(path)
    assert found.count(EventKind.SERVING) == found.count(EventKind.SERVED) == 6
    does_it_again(path)
    assert "whoever is interrupted accesses devices" in told("show", path)
    told("show", path, "--perfetto", path.with_suffix(".json"))
    told("show", path, "--html", path.with_suffix(".html"))
    assert "0 findings, 0 remarks" in told("lint", path)
    told("replay", path, "--target", "devmodels")


def test_an_access_to_memory_has_interrupts_delivered(path: Path) -> None:
    """They were raised by the host, and the machine has not run since."""
    with disk_machine(MIB) as machine:
        machine.record(path)
        disk = boot(Guest(machine))
        disk.write(0, bytes(512))
        backend = machine.assembly.backends["disk0"]
        machine.assembly.context.start(backend.resize(MIB // 2))
        assert machine.take_messages() == {}
        machine.write(0x10_0000, 4, 0x1234)
        assert machine.take_messages()
        assert disk.read(0, 512) == bytes(512)
    assert kinds(path).count(EventKind.DELIVER) == 1
    assert 0x1234 not in {value for event in events(path) for value in event.detail}
    does_it_again(path)
    assert "interrupts raised outside accesses" in told("show", path)
