"""A machine with IDE channels that is another one at any moment: the guest does not notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from devmodels.snapshot import SnapshotError, restore_snapshot, save_snapshot
from guestsim.drivers.ide import IdeChannel, IdeController, identify, probe
from guestsim.drivers.ide_layouts import AtaCommand, AtaStatus, BmStatus, BusMaster, Control, Reg
from guestsim.drivers.ide_task import Reply, Task, Way
from guestsim.drivers.pci import scan
from guestsim.guest import Guest
from guestsim.targets.inprocess import InProcessTarget
from tests.unit.ide_cdrom.machine import block, sector
from tests.unit.moving import MovingTarget, changed
from tests.unit.test_snapshot import RAM

LATENCY = 1_000_000


@pytest.fixture
def images(tmp_path: Path) -> tuple[str, str]:
    disk, disc = tmp_path / "disk", tmp_path / "disc"
    disk.write_bytes(b"".join(map(sector, range(64))).ljust(1 << 20, b"\0"))
    disc.write_bytes(b"".join(map(block, range(64))))
    return str(disk), str(disc)


Make = Callable[[], InProcessTarget]


def maker(
    images: tuple[str, str], *, native: bool = False, clock: str = "virtual", slow: bool = False
) -> Make:
    file = {"driver": "file", "locking": "off"}

    def node(name: str, filename: str, **more: object) -> dict[str, object]:
        options = {**file, "filename": filename, **more}
        if slow:
            options = {"driver": "delay", "latency-ns": LATENCY, "file": options, **more}
        return {**options, "node-name": name}

    def make() -> InProcessTarget:
        return InProcessTarget(
            blockdevs=[node("d0", images[0]), node("c0", images[1], **{"read-only": True})],
            devices=[
                {"driver": "piix3-ide", "id": "ide0", "addr": "4", "native": native},
                {"driver": "ide-hd", "id": "hd0", "bus": "ide0.0", "unit": 0, "drive": "d0"},
                {"driver": "ide-cd", "id": "cd0", "bus": "ide0.0", "unit": 1, "drive": "c0"},
            ],
            ram=RAM,
            clock=clock,
        )

    return make


class World:
    """A guest whose driver has found both devices."""

    def __init__(self, make: Make, period: int = 0, start: int = 0) -> None:
        self.moving = MovingTarget(make, period, start)
        self.guest = Guest(cast("Any", self.moving))
        (function,) = [each for each in scan(self.guest) if each.slot == 4]
        self.ide: IdeChannel = IdeController(self.guest, function).channels[0]
        assert self.guest.run(probe(self.ide)) == {0: "ata", 1: "atapi"}

    @property
    def assembly(self) -> Any:
        return self.moving.target.assembly

    def do(self, unit: int, task: Task) -> Reply:
        return self.guest.run(self.ide.do(unit, task))

    def packet(self, cdb: bytes, **options: Any) -> Reply:
        return self.guest.run(self.ide.packet(1, cdb, **options))

    def settle(self) -> None:
        self.guest.run(self.guest.settle())


@contextmanager
def world(make: Make, period: int = 0, start: int = 0) -> Iterator[World]:
    made = World(make, period, start)
    try:
        yield made
    finally:
        made.guest.close()
        made.moving.target.close()


def read(blocks: int, first: int = 3) -> bytes:
    return bytes((0x28, 0, 0, 0, 0, first, 0, 0, blocks, 0, 0, 0))


def story(world: World) -> list[object]:
    """Every protocol once; what the guest sees."""
    seen: list[object] = [world.guest.run(identify(world.ide, 0)), world.packet(bytes(12)).error]
    for opcode, way in ((AtaCommand.READ_SECTORS, Way.PIO_IN), (AtaCommand.READ_DMA, Way.DMA_IN)):
        seen.append(world.do(0, Task(opcode, lba=3, count=3, way=way, length=1536)))
    for opcode, way in ((AtaCommand.WRITE_SECTORS, Way.PIO_OUT), (AtaCommand.WRITE_DMA, Way.DMA_OUT)):
        seen.append(world.do(0, Task(opcode, lba=100, count=2, way=way, data=b"w" * 1024)))
    seen.append(world.do(0, Task(AtaCommand.READ_SECTORS, lba=100, count=2, way=Way.PIO_IN, length=1024)))
    seen.append(world.do(0, Task(AtaCommand.FLUSH_CACHE)))
    seen += [world.packet(read(2), room=4096, limit=2048, dma=dma) for dma in (False, True)]
    seen.append(world.packet(bytes((0x12, 0, 0, 0, 36, *bytes(7))), room=36))
    mode = bytes((0x55, 0x10, *bytes(6), 20, *bytes(3)))
    page = bytes(8) + bytes.fromhex("01 0a 00 05 00 00 00 00 00 00 00 00")
    seen.append(world.packet(mode, data=page))
    return seen


@pytest.mark.long
@pytest.mark.parametrize(("native", "start"), [(False, 0), (True, 3)])
def test_a_machine_may_be_another_one_at_any_moment(
    images: tuple[str, str], native: bool, start: int
) -> None:
    with world(maker(images, native=native)) as still:
        expected = story(still)
    with world(maker(images, native=native), 700, 100 + 31 * start) as moved:
        assert story(moved) == expected
        assert moved.moving.moves > 3
        assert moved.moving.target.violations() == []


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, 24, 8))
def test_a_machine_may_be_another_one_at_really_any_moment(images: tuple[str, str], start: int) -> None:
    with world(maker(images)) as still:
        expected = story(still)
    with world(maker(images), 24, 100 + start) as moved:
        assert story(moved) == expected


@pytest.mark.parametrize("way", [Way.PIO_IN, Way.DMA_IN, Way.PIO_OUT, Way.DMA_OUT])
def test_what_is_held_is_done_in_the_other_machine(images: tuple[str, str], way: Way) -> None:
    opcode = {
        Way.PIO_IN: AtaCommand.READ_SECTORS,
        Way.DMA_IN: AtaCommand.READ_DMA,
        Way.PIO_OUT: AtaCommand.WRITE_SECTORS,
        Way.DMA_OUT: AtaCommand.WRITE_DMA,
    }[way]
    with world(maker(images)) as w:
        w.assembly.run_state.stop("paused")
        task = Task(opcode, lba=3, count=2, way=way, length=1024, data=b"w" * 1024 if way.out else b"")
        future = w.guest.start(w.ide.do(0, task))
        for _ in range(2):
            w.settle()
            assert not future.finished
            w.moving.move()
        w.assembly.run_state.cont()
        w.guest.run(w.guest.wait_until(lambda: future.finished, "the command"))
        reply = future.result()
        assert reply.ok
        assert way.out or reply.data == sector(3) + sector(4)
        reply = w.do(0, Task(AtaCommand.READ_SECTORS, lba=3, count=2, way=Way.PIO_IN, length=1024))
        assert reply.data == (b"w" * 1024 if way.out else sector(3) + sector(4))


@pytest.mark.parametrize("dma", [False, True])
def test_a_packet_command_that_is_held_is_done_in_the_other_machine(
    images: tuple[str, str], dma: bool
) -> None:
    with world(maker(images)) as w:
        while not w.packet(bytes(12)).ok:
            pass
        w.assembly.run_state.stop("paused")
        future = w.guest.start(w.ide.packet(1, read(3), room=6144, limit=1000, dma=dma))
        w.settle()
        w.moving.move()
        w.assembly.run_state.cont()
        w.guest.run(w.guest.wait_until(lambda: future.finished, "the command"))
        assert future.result().data == block(3) + block(4) + block(5)


@pytest.mark.parametrize("unit", [0, 1])
def test_a_controller_has_settled_when_the_last_command_is_over(images: tuple[str, str], unit: int) -> None:
    """An embedder waits for it, and is told once, whichever device works."""
    told: list[str] = []
    with world(maker(images)) as w:
        controller = w.assembly.ata_hosts["ide0"]
        controller.when_settled(lambda: told.append("at rest"))
        assert told == ["at rest"]
        while unit and not w.packet(bytes(12)).ok:
            pass
        w.assembly.run_state.stop("paused")
        task = Task(AtaCommand.READ_SECTORS, count=1, way=Way.PIO_IN, length=512)
        job = w.guest.start(w.ide.packet(1, read(1), room=2048) if unit else w.ide.do(0, task))
        w.settle()
        controller.when_settled(lambda: told.append("again"))
        assert told == ["at rest"]
        w.assembly.run_state.cont()
        w.guest.run(w.guest.wait_until(lambda: job.finished, "the command"))
        assert told == ["at rest", "again"]


def test_a_reset_that_waits_is_over_in_the_other_machine(images: tuple[str, str]) -> None:
    """A clock that stands: what is in the delay node cannot be taken back."""
    with world(maker(images, clock="stepped", slow=True)) as w:
        w.ide.write_task(0, Task(AtaCommand.READ_SECTORS, lba=3, count=1))
        w.settle()
        w.ide.set_control(Control.SRST)
        w.ide.set_control(0)
        w.settle()
        assert w.ide.alternate_status & AtaStatus.BSY
        w.moving.move()
        assert w.ide.alternate_status == 0x50
        assert w.ide.signature(0) == (1, 1, 0, 0)


def test_a_transfer_in_the_middle_of_its_table(images: tuple[str, str]) -> None:
    """A bus master that is stopped and has to go on where it was; one that waits for more."""
    with world(maker(images)) as w:
        task = Task(AtaCommand.READ_DMA, lba=0, count=4, way=Way.DMA_IN, length=2048, regions=(1024,))
        table, regions = w.ide.table(task)
        w.ide.prepare(table, to_memory=True)
        w.ide.write_task(0, task)
        w.moving.move()
        w.ide.start(to_memory=True)
        w.settle()
        w.moving.move()
        status = w.ide.master.read(BusMaster.STATUS, 1)
        assert not status & (BmStatus.ACTIVE | BmStatus.INTERRUPT)
        assert w.guest.memory.read(regions[0][0], 1024) == sector(0) + sector(1)
        assert w.ide.alternate_status & AtaStatus.DRQ
        w.guest.run(w.ide.reset())
        assert w.do(0, Task(AtaCommand.READ_SECTORS, count=1, way=Way.PIO_IN, length=512)).data == sector(0)


def test_a_bus_master_that_has_failed_moves_along(images: tuple[str, str]) -> None:
    """A table outside memory: the error is there after the move, and what comes then works."""
    with world(maker(images)) as w:
        w.ide.prepare(0xE000_0000, to_memory=True)
        w.ide.write_task(0, Task(AtaCommand.READ_DMA, lba=0, count=1))
        w.ide.start(to_memory=True)
        w.settle()
        assert w.ide.master.read(BusMaster.STATUS, 1) & BmStatus.ERROR
        w.moving.move()
        assert w.ide.stop() & (BmStatus.ERROR | BmStatus.ACTIVE) == BmStatus.ERROR
        w.moving.move()
        w.guest.run(w.ide.reset())
        task = Task(AtaCommand.READ_DMA, lba=3, count=1, way=Way.DMA_IN, length=512)
        assert w.do(0, task).data == sector(3)


@pytest.mark.parametrize("length", [1024, 1536, 4096])
def test_a_piece_that_is_longer_than_what_is_left_fails(images: tuple[str, str], length: int) -> None:
    """A state may be of anybody: a device is not told to move more than its command has."""
    with world(maker(images)) as w:
        w.assembly.run_state.stop("paused")
        task = Task(AtaCommand.READ_DMA, lba=3, count=1, way=Way.DMA_IN, length=512)
        table, ((address, _),) = w.ide.table(task)
        w.ide.prepare(table, to_memory=True)
        w.ide.write_task(0, task)
        w.ide.start(to_memory=True)
        w.settle()
        change = put(0, "master", "piece", "regions", value=[[address, length]])
        w.moving.move(lambda data: changed(data, "ide0", change))
        w.assembly.run_state.cont()
        w.settle()
        assert w.ide.alternate_status & AtaStatus.ERR
        w.guest.run(w.ide.reset())
        assert w.do(0, Task(AtaCommand.READ_SECTORS, count=1, way=Way.PIO_IN, length=512)).data == sector(0)


def test_a_piece_in_no_memory_is_an_error_of_the_bus_master(images: tuple[str, str]) -> None:
    """Another machine may have less memory than the one that was saved."""
    with world(maker(images)) as w:
        w.assembly.run_state.stop("paused")
        task = Task(AtaCommand.READ_DMA, lba=3, count=1, way=Way.DMA_IN, length=512)
        w.ide.prepare(w.ide.table(task)[0], to_memory=True)
        w.ide.write_task(0, task)
        w.ide.start(to_memory=True)
        w.settle()
        change = put(0, "master", "piece", "regions", value=[[0xE000_0000, 512]])
        w.moving.move(lambda data: changed(data, "ide0", change))
        w.assembly.run_state.cont()
        w.settle()
        assert w.ide.stop() & (BmStatus.ERROR | BmStatus.ACTIVE) == BmStatus.ERROR
        assert [clause for clause, _ in w.moving.target.violations() or ()] == ["SFF-8038i §2.2"]
        w.guest.run(w.ide.reset())
        assert w.do(0, task).data == sector(3)


def test_a_machine_that_is_rolled_back_forgets_what_it_did(images: tuple[str, str]) -> None:
    with world(maker(images)) as w:
        data = save_snapshot(w.assembly)
        w.assembly.run_state.stop("paused")
        w.ide.write_task(0, Task(AtaCommand.READ_SECTORS, lba=3, count=1))
        w.settle()
        restore_snapshot(w.assembly, data)
        w.settle()
        w.ide.select(0)
        assert w.ide.get(Reg.STATUS) == 0x50


def waiting(w: World) -> None:
    """A device waits for a block."""
    w.ide.write_task(0, Task(AtaCommand.WRITE_SECTORS, lba=3, count=2))
    w.settle()
    assert w.ide.alternate_status & AtaStatus.DRQ


def put(*path: Any, value: object) -> Callable[[Any], None]:
    def change(state: Any) -> None:
        for name in path[:-1]:
            state = state[name]
        state[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _state: b"\xc1", "not the state of an IDE controller"),
        (lambda state: state[:1], "Expected `array` of length 2"),
        (put(0, "units", 0, "phase", value="IDLE"), "no device can be in phase IDLE so"),
        (put(0, "units", 0, "phase", value="PACKET"), "no device can be in phase PACKET so"),
        (put(0, "units", 1, "phase", value="DMA"), "no device can be in phase DMA so"),
        (put(0, "units", 1, "device", value=None), "the state is of another unit; this one has a device"),
        (put(0, "units", 1, "device", value=b"\xc1"), "not the state of an ATA device"),
        (put(0, "master", "waiting", value=[0]), "no device can be in phase DATA_OUT so"),
        (put(0, "master", "piece", value={"regions": [], "pad": 0}), "units \\[\\] wait"),
        (put(0, "units", 0, "command", "transfer", "length", value=0), "Expected `int` >= 1"),
        (put(0, "units", 0, "taskfile", "lba", value=1 << 48), "Expected `int` <= 281474976710655"),
    ],
)
def test_a_damaged_state_changes_nothing(
    images: tuple[str, str], change: Callable[[Any], Any], message: str
) -> None:
    with world(maker(images)) as w:
        waiting(w)
        data = changed(save_snapshot(w.assembly), "ide0", change)
        with pytest.raises(SnapshotError, match=message):
            restore_snapshot(w.assembly, data)
        for _ in range(2):
            w.ide.write_block(b"w" * 512)
            w.settle()
        assert w.ide.get(Reg.STATUS) == 0x50


OUT = {"length": 512, "data": b"", "block": 512}


@pytest.mark.parametrize(
    "change",
    [
        put(0, "units", 0, "command", "moved", value=1 << 30),
        put(0, "units", 0, "command", "transfer", "offset", value=77),
        put(
            0,
            "units",
            0,
            "command",
            "transfer",
            value={**OUT, "type": "data-out"},
        ),
        put(
            0,
            "units",
            0,
            "command",
            "transfer",
            value={**OUT, "type": "packet-out"},
        ),
        put(0, "units", 0, "command", "transfer", "out", value=False),
        put(0, "units", 0, "buffer", value=bytes(4096)),
        put(0, "units", 0, "taskfile", "command", value=0xFF),
    ],
)
def test_a_command_that_cannot_be_fails(images: tuple[str, str], change: Callable[[Any], Any]) -> None:
    with world(maker(images)) as w:
        waiting(w)
        w.moving.move(lambda data: changed(data, "ide0", change))
        w.ide.select(0)
        if w.ide.alternate_status & AtaStatus.DRQ:
            w.ide.write_block(bytes(1024))
            w.settle()
        assert w.ide.alternate_status & AtaStatus.ERR or not w.ide.alternate_status & AtaStatus.DRQ
        w.guest.run(w.ide.reset())
        assert w.do(0, Task(AtaCommand.READ_SECTORS, count=1, way=Way.PIO_IN, length=512)).data == sector(0)
