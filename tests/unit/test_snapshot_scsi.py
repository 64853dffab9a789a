"""A machine with SCSI disks saved in the middle of its work: units know what they knew, what is held is done once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from devmodels.scsi.disk import Disk
from devmodels.snapshot import SnapshotError, restore_snapshot, save_snapshot
from devmodels.virtio_scsi import VirtioScsi as Device
from guestsim.drivers import cdb, mmc_cdb, virtio_scsi
from guestsim.drivers.cdb import Cdb
from guestsim.drivers.scsi_layouts import lun_bytes
from guestsim.drivers.virtio_driver import Pending
from guestsim.drivers.virtio_scsi import Answer
from guestsim.guest import Guest
from guestsim.targets.inprocess import InProcessTarget
from tests.unit.test_snapshot import Movable

KEY = bytes(8) + (7).to_bytes(8, "big") + bytes(8)
USE = (7).to_bytes(8, "big") + bytes(16)


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    paths = [tmp_path / name for name in ("a.img", "b.img")]
    for path in paths:
        path.write_bytes(bytes(1 << 20))
    return [str(path) for path in paths]


def machine(images: list[str], *, state: str = "", **options: object) -> InProcessTarget:
    return InProcessTarget(
        blockdevs=[
            {"driver": "file", "filename": name, "node-name": f"d{number}", "locking": "off"}
            for number, name in enumerate(images)
        ],
        devices=[
            {"driver": "virtio-scsi-pci", "id": "scsi0", "addr": "4", **options},
            {"driver": "scsi-hd", "drive": "d0", "scsi-id": 0, "lun": 0, "removable": True, "state": state},
            {"driver": "scsi-hd", "drive": "d1", "scsi-id": 3, "lun": 300},
        ],
    )


def told(answer: Answer) -> str:
    """The sense data's key and code."""
    sense = answer.sense
    return "" if sense is None else f"{sense.key:x}/{sense.asc:02x}/{sense.ascq:02x}"


class World:
    """A guest with a driver, whose machine is exchanged under it."""

    def __init__(self, make: Callable[[], InProcessTarget]) -> None:
        self._make = make
        self._world = Movable(make())
        self.guest = Guest(cast("Any", self._world))
        self.driver = virtio_scsi.VirtioScsi(self.guest, virtio_scsi.find(self.guest)[0])
        self.guest.run(self.driver.probe())

    @property
    def assembly(self) -> Any:
        return self._world.target.assembly

    @property
    def disk(self) -> Disk:
        device = self.assembly.virtio_device("scsi0")
        assert isinstance(device, Device)
        unit = device.bus.targets[0].units[0]
        assert isinstance(unit, Disk)
        return unit

    def move(self) -> None:
        """Save the machine, and go on in another one."""
        data = save_snapshot(self.assembly)
        self._world.target.close()
        self._world.target = self._make()
        restore_snapshot(self.assembly, data)

    def send(self, command: Cdb, data: bytes = b"", *, target: int = 0, lun: int = 0) -> Answer:
        return self.guest.run(self.driver.send(target, lun, command, data))

    def start(self, command: Cdb, data: bytes = b"", *, attribute: int = 0) -> Pending[Any]:
        request = self.driver.command(lun_bytes(0, 0), command.data, data, command.room, attribute=attribute)
        (pending,) = self.guest.run(self.driver.submit([request]))
        self.guest.run(self.guest.settle())
        return pending

    def finish(self, pending: Pending[Any]) -> Answer:
        return self.guest.run(self.driver.finish(pending))

    def codes(self, target: int = 0, lun: int = 0) -> list[str]:
        """What a unit has to tell."""
        out = []
        while (answer := self.send(cdb.test_unit_ready(), target=target, lun=lun)).sense is not None:
            out.append(told(answer))
            assert len(out) < 9
        return out

    def close(self) -> None:
        self._world.target.close()


@pytest.fixture
def world(images: list[str]) -> Any:
    world = World(lambda: machine(images))
    yield world
    world.close()


def test_what_units_have_to_tell_moves_along(world: World) -> None:
    assert world.codes() == ["6/29/00"]
    world.disk.establish(42 << 8 | 9)  # type: ignore[arg-type]
    world.move()
    assert world.codes() == ["6/2a/09"]
    assert world.codes(3, 300) == ["6/29/00"]


def test_mode_pages_move_along(world: World) -> None:
    world.codes()
    page = bytes(4) + bytes.fromhex("0a 0a 04 10 08 00 00 00 00 00 00 00")
    assert world.send(cdb.mode_select_6(length=16), page).status == 0
    world.move()
    answer = world.send(cdb.write_10(lba=0, blocks=1), bytes(512))
    assert answer.sense_data[:4].hex() == "72072702", "write protected, in the descriptor format"


def test_reservations_move_along(world: World) -> None:
    world.codes()
    assert world.send(cdb.persistent_reserve_out(action=6), KEY).status == 0
    assert world.send(cdb.persistent_reserve_out(action=1, type=3), USE).status == 0
    before = [world.send(cdb.persistent_reserve_in(action=each)).data for each in range(4)]
    world.move()
    assert [world.send(cdb.persistent_reserve_in(action=each)).data for each in range(4)] == before
    assert world.disk.guarded


def test_a_medium_that_was_taken_out_stays_out(world: World) -> None:
    world.codes()
    assert world.send(cdb.start_stop_unit(start=0, loej=1)).status == 0
    world.move()
    assert [told(world.send(cdb.test_unit_ready())) for _ in range(2)] == ["2/3a/00"] * 2
    assert world.send(cdb.start_stop_unit(start=1, loej=1)).status == 0
    assert world.send(cdb.prevent_allow(prevent=1)).status == 0
    world.move()
    assert told(world.send(cdb.start_stop_unit(start=0, loej=1))) == "5/53/02"


@pytest.mark.long
def test_a_unit_that_was_stopped_stays_so(world: World) -> None:
    world.codes()
    world.disk.medium.stopped = True
    world.disk.guard()
    world.move()
    assert [told(world.send(cdb.test_unit_ready())) for _ in range(2)] == ["2/04/02"] * 2
    assert world.send(cdb.start_stop_unit(start=1)).status == 0
    world.move()
    assert world.send(cdb.test_unit_ready()).status == 0


def test_sizes_buffers_priorities_and_copies_move_along(world: World) -> None:
    world.codes()
    write, read = Cdb(bytes.fromhex("3b020000000000000400"), 0), Cdb(bytes.fromhex("3c020000000000000400"), 4)
    assert world.send(write, b"data").status == 0
    echo, answer = (
        Cdb(bytes.fromhex("3b0a0000000000000400"), 0),
        Cdb(bytes.fromhex("3c0a0000000000000400"), 4),
    )
    assert world.send(echo, b"echo").status == 0
    priority = Cdb(bytes.fromhex("a40e00000000000000080000"), 0)
    assert world.send(priority, bytes.fromhex("0300000000000000")).status == 0
    copy = Cdb(bytes.fromhex("83000000000000000000000000100000"), 0)
    assert world.send(copy, bytes((9, *bytes(15)))).status == 0
    world.driver.choose_sizes(40, 32)
    world.move()
    world.driver.forget_config()
    assert world.driver.config["sense_size"] == 40
    assert (world.send(read).data, world.send(answer).data) == (b"data", b"echo")
    report = Cdb(bytes.fromhex("a30e00000000000000400000"), 64)
    assert world.send(report).data[4] == 3
    status = Cdb(bytes.fromhex("84000900000000000000000000200000"), 32)
    assert world.send(status).status == 0


DRIVE_HELD = [cdb.prevent_allow(prevent=3), mmc_cdb.set_cd_speed(read=706)]


@pytest.fixture
def cd(images: list[str]) -> Any:
    """A drive with a disc that takes ten seconds to become ready, whenever its tray is closed."""

    def make() -> InProcessTarget:
        return InProcessTarget(
            blockdevs=[{"driver": "file", "filename": images[0], "node-name": "d0", "locking": "off"}],
            devices=[
                {"driver": "virtio-scsi-pci", "id": "scsi0", "addr": "4"},
                {"driver": "scsi-cd", "id": "cd0", "drive": "d0", "load-time": 10_000},
            ],
            clock="stepped",
        )

    world = World(make)
    assert world.codes() == ["6/29/00"]
    yield world
    world.close()


def test_a_drive_moves_along(cd: World) -> None:
    for command in DRIVE_HELD:
        assert cd.send(command).status == 0
    assert cd.send(cdb.start_stop_unit(start=0, loej=1)).status == 0
    cd.move()
    assert told(cd.send(cdb.test_unit_ready())) == "2/3a/02"
    # The media event that it had to tell: the medium has gone; the lock is the other one.
    assert cd.send(mmc_cdb.get_event_status()).data.hex() == "0006041603010000"
    assert cd.send(mmc_cdb.get_event_status(classes=2)).data.hex() == "0006011602800001"
    speeds = cd.send(cdb.mode_sense_10(page=0x2A)).data
    assert int.from_bytes(speeds[22:24], "big") == 706


def test_a_disc_that_becomes_ready_does_so_elsewhere(cd: World) -> None:
    cd.send(cdb.start_stop_unit(start=0, loej=1))
    cd.send(cdb.start_stop_unit(start=1, loej=1))
    assert told(cd.send(cdb.test_unit_ready())) == "2/04/01"
    cd.assembly.context.step(6_000_000_000)
    cd.move()
    cd.assembly.context.step(3_999_999_999)
    assert told(cd.send(cdb.test_unit_ready())) == "2/04/01"
    cd.assembly.context.step(1)
    assert cd.codes() == ["6/28/00"]
    assert cd.send(cdb.read_10(lba=0, blocks=1, block=2048)).data == bytes(2048)


@pytest.mark.parametrize("packed", [False, True])
def test_what_is_held_is_done_once_and_in_order(images: list[str], packed: bool) -> None:
    world = World(lambda: machine(images, packed=packed))
    world.codes()
    world.assembly.run_state.stop("paused")
    swap = world.start(cdb.compare_and_write(lba=0, blocks=1), bytes(512) + b"A" * 512)
    ordered = world.start(cdb.compare_and_write(lba=0, blocks=1), b"A" * 512 + b"B" * 512, attribute=2)
    last = world.start(cdb.read_10(lba=0, blocks=1))
    world.move()
    assert not any(each.done for each in (swap, ordered, last))
    world.assembly.run_state.cont()
    assert [world.finish(each).status for each in (swap, ordered)] == [0, 0]
    assert world.finish(last).data == b"B" * 512
    assert world.send(cdb.read_10(lba=0, blocks=1)).data == b"B" * 512
    world.close()


def test_a_reservation_that_is_being_kept_is_waited_for(images: list[str], tmp_path: Path) -> None:
    """PERSISTENT RESERVE OUT is done before the machine is saved, not twice."""
    world = World(lambda: machine(images, state=str(tmp_path / "state")))
    world.codes()
    request = world.driver.command(
        lun_bytes(0, 0), cdb.persistent_reserve_out(action=6).data, KEY[:20] + b"\1" + KEY[21:]
    )
    (pending,) = world.guest.run(world.driver.submit([request]))
    world.move()
    # Its interrupt came to the machine that is gone.
    world.driver.device.service()
    assert world.finish(pending).status == 0
    assert world.send(cdb.persistent_reserve_in(action=0)).data[:4] == (1).to_bytes(4, "big")
    world.close()


@pytest.mark.parametrize(
    ("command", "code"), [("48820000000000000000", "3/31/03"), ("041000000000", "3/31/00")]
)
def test_what_is_done_to_a_medium_ends_with_the_machine(images: list[str], command: str, code: str) -> None:
    """Half of it is done in the one, and none in the other, where it has failed."""
    slow = {"driver": "delay", "latency-ns": 1_000_000, "node-name": "d0"}
    file = {"driver": "file", "filename": images[0], "locking": "off"}
    world = World(
        lambda: InProcessTarget(
            blockdevs=[{**slow, "file": file}],
            devices=[
                {"driver": "virtio-scsi-pci", "id": "scsi0", "addr": "4"},
                {"driver": "scsi-hd", "drive": "d0", "scsi-id": 0, "lun": 0},
            ],
        )
    )
    world.codes()
    data = bytes.fromhex("00020000") if command.startswith("04") else b""
    assert world.send(Cdb(bytes.fromhex(command), 0), data).status == 0
    world.assembly.run_state.stop("paused")
    assert world.disk.operation.running
    world.move()
    world.assembly.run_state.cont()
    assert [told(world.send(each)) for each in (cdb.test_unit_ready(), cdb.read_10(lba=0, blocks=1))] == [
        code
    ] * 2
    assert world.send(Cdb(bytes.fromhex("48020000000000000000"), 0)).status == 0
    assert told(world.send(cdb.test_unit_ready())) == ""
    world.close()


def test_a_machine_with_other_units_is_another_machine(world: World, images: list[str]) -> None:
    data = save_snapshot(world.assembly)
    other = InProcessTarget(
        blockdevs=[{"driver": "file", "filename": images[0], "node-name": "d0", "locking": "off"}],
        devices=[
            {"driver": "virtio-scsi-pci", "id": "scsi0", "addr": "4"},
            {"driver": "scsi-hd", "drive": "d0"},
        ],
    )
    with other, pytest.raises(SnapshotError, match=r"of units \['0.0', '3.300'\], expected \['0.0'\]"):
        restore_snapshot(other.assembly, data)


@pytest.mark.parametrize("part", ["0.0", "subscriptions"])
def test_a_damaged_state_changes_nothing(world: World, part: str) -> None:
    world.codes()
    snapshot = msgspec.msgpack.decode(save_snapshot(world.assembly))
    snapshot["virtio"]["scsi0"]["parts"][part] = b"\xc1"
    with pytest.raises(SnapshotError, match="not "):
        restore_snapshot(world.assembly, msgspec.msgpack.encode(snapshot))
    assert world.codes() == []
