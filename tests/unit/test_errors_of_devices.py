"""Errors that stop the machine, as devices and their guests live with them: resets, several queues, moves, options."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from devmodels.assembly import assemble
from devmodels.blockbackend import Op
from devmodels.options import OptionError
from devmodels.snapshot import restore_snapshot, save_snapshot
from guestsim.disk import boot
from guestsim.drivers import virtio_blk
from guestsim.guest import Guest
from guestsim.targets.inprocess import InProcessTarget

from . import faulty
from .errordevices import DEVICES, InMachine, OverVhostUser
from .exports import frontend as fe
from .exports.inflightarea import Area
from .faulty import Faulty
from .test_snapshot import Movable

DATA = b"\x33" * 512


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    with faulty.installed():
        yield


def node_of(device: InMachine | OverVhostUser) -> Faulty:
    node = device.backend.node
    assert isinstance(node, Faulty)
    return node


# --- options


@pytest.mark.parametrize("driver", ["virtio-blk-pci", "virtio-blk-device"])
@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("rerror", "enospc", "'enospc' is given; expected one of 'auto', 'ignore', 'report', 'stop'"),
        ("werror", "retry", "'retry' is given; expected one of 'auto', 'enospc', 'ignore', 'report', 'stop'"),
    ],
)
def test_a_policy_that_there_is_not(driver: str, option: str, value: str, expected: str) -> None:
    drive: dict[str, object] = {"driver": "null-co", "node-name": "d0", "size": 512}
    with pytest.raises(OptionError, match=option) as found:
        assemble(blockdevs=[drive], devices=[{"driver": driver, "drive": "d0", option: value}])
    assert len(str(found.value).splitlines()) == 1


def test_an_export_reports_where_nothing_is_said_and_a_device_stops_for_want_of_space(tmp_path: Path) -> None:
    drive: dict[str, object] = {"driver": "null-co", "node-name": "d0", "size": 512}
    with assemble(blockdevs=[drive], devices=[{"driver": "virtio-blk-pci", "drive": "d0"}]) as assembly:
        policy = assembly.backends["d0"].error_policy
        assert (policy.rerror, policy.werror) == ("report", "enospc")


@pytest.mark.parametrize(
    ("options", "path"),
    [
        (
            {"driver": "virtio-blk-pci", "drive": "d0", "id": "vd0"},
            "/machine/peripheral/vd0/virtio-backend",
        ),
        ({"driver": "virtio-blk-pci", "drive": "d0"}, "/machine/peripheral-anon/device[0]/virtio-backend"),
        ({"driver": "virtio-blk-device", "drive": "d0", "id": "vd0"}, "/machine/peripheral/vd0"),
    ],
)
def test_where_qemu_has_the_device(options: dict[str, object], path: str) -> None:
    drive: dict[str, object] = {"driver": "null-co", "node-name": "d0", "size": 512}
    with assemble(blockdevs=[drive], devices=[options]) as assembly:
        assert assembly.backends["d0"].qom_path == path


# --- resets


@pytest.fixture
def machine() -> Iterator[InMachine]:
    found = InMachine("virtio-blk-pci", "stop", "stop")
    with found.target:
        yield found


def test_a_reset_of_the_device_drops_what_is_held(machine: InMachine) -> None:
    node_of(machine).errors = {Op.WRITE: errno.ENOSPC}
    machine.submit(virtio_blk.write(0, DATA))
    assert machine.answer() is None
    machine.guest.run(machine.disk.driver.reset())
    assert list(machine.backend.in_flight) == []
    node_of(machine).errors = {}
    machine.run_state.cont()
    machine.guest.run(machine.disk.driver.probe())
    assert machine.disk.read(0, 512) == bytes(512)


def test_a_reset_of_the_queue_drops_what_is_held_and_the_queue_goes_on(machine: InMachine) -> None:
    node_of(machine).errors = {Op.WRITE: errno.ENOSPC}
    machine.submit(virtio_blk.write(0, DATA))
    machine.guest.run(machine.disk.driver.reset_queue(0))
    assert list(machine.backend.in_flight) == []
    machine.run_state.cont()
    assert machine.disk.read(0, 512) == bytes(512)


def test_a_device_that_is_taken_out_takes_along_what_is_held(machine: InMachine) -> None:
    node_of(machine).errors = {Op.WRITE: errno.ENOSPC}
    machine.submit(virtio_blk.write(0, DATA))
    assert machine.answer() is None
    assembly = machine.target.assembly
    assembly.context.run(assembly.remove_device("vd0"))
    assert list(machine.backend.in_flight) == []
    machine.run_state.cont()
    assert machine.answer() is None


def test_of_a_request_of_several_parts_each_is_tried_until_all_are_done(machine: InMachine) -> None:
    ranges = [(0, 4096), (8192, 512), (16384, 512)]
    machine.disk.write(0, b"\xff" * 32768)
    node_of(machine).errors = {Op.WRITE_ZEROES: errno.EIO}
    machine.submit(virtio_blk.write_zeroes(ranges))
    assert machine.answer() is None
    node_of(machine).errors = {}
    machine.run_state.cont()
    assert machine.answer() == (0, b"")
    expected = bytearray(b"\xff" * 32768)
    for offset, length in ranges:
        expected[offset : offset + length] = bytes(length)
    assert machine.disk.read(0, 32768) == expected


def test_neighbours_from_a_guest_are_each_answered_once(machine: InMachine) -> None:
    node_of(machine).errors = {Op.WRITE: errno.ENOSPC}
    writes = [virtio_blk.write(at * 512, bytes([at]) * 512) for at in range(8)]
    pending = machine.guest.run(machine.disk.driver.submit(writes))
    machine.guest.run(machine.guest.settle())
    assert not any(one.done for one in pending)
    node_of(machine).errors = {}
    machine.run_state.cont()
    answers = [machine.guest.run(machine.disk.driver.finish(one)) for one in pending]
    assert [answer.status for answer in answers] == [0] * 8
    assert machine.disk.read(0, 4096) == b"".join(bytes([at]) * 512 for at in range(8))
    assert machine.target.violations() == []


def test_two_disks_of_a_machine_stop_together(tmp_path: Path) -> None:
    """The other one's requests wait as well, and both go on."""
    target = InProcessTarget(
        blockdevs=[faulty.options("d0"), faulty.options("d1")],
        devices=[
            {"driver": "virtio-blk-pci", "drive": drive, "werror": "stop", "addr": f"{slot}"}
            for slot, drive in enumerate(("d0", "d1"), 4)
        ],
    )
    with target:
        guest = Guest(target)
        disks = [boot(guest, index) for index in range(2)]
        node = target.assembly.graph["d0"]
        assert isinstance(node, Faulty)
        node.errors = {Op.WRITE: errno.EIO}
        pending: list[virtio_blk.Pending] = []
        for disk in disks:
            pending += guest.run(disk.driver.submit([virtio_blk.write(0, DATA)]))
            guest.run(guest.settle())
        assert not any(one.done for one in pending)
        node.errors = {}
        target.assembly.run_state.cont()
        for disk, one in zip(disks, pending, strict=True):
            assert guest.run(disk.driver.finish(one)).ok


def test_what_a_queue_on_a_thread_of_its_own_waits_for_is_held_too() -> None:
    target = InProcessTarget(
        objects=[{"qom-type": "iothread", "id": "t0"}],
        blockdevs=[faulty.options()],
        devices=[{"driver": "virtio-blk-pci", "drive": "d0", "werror": "stop", "iothread": "t0"}],
        clock="wall",
    )
    with target:
        guest, run_state = Guest(target), target.assembly.run_state
        disk = boot(guest)
        node = target.assembly.graph["d0"]
        assert isinstance(node, Faulty)
        for _ in range(2):
            node.errors = {Op.WRITE: errno.ENOSPC}
            (pending,) = guest.run(disk.driver.submit([virtio_blk.write(0, DATA)]))
            guest.run(guest.wait_until(lambda: not run_state.running, "the stop"))
            assert not pending.done
            node.errors = {}
            run_state.cont()
            assert guest.run(disk.driver.finish(pending)).ok
        node.errors = {Op.WRITE: errno.ENOSPC}
        guest.run(disk.driver.submit([virtio_blk.write(0, bytes(512))]))
        guest.run(guest.wait_until(lambda: not run_state.running, "the stop"))
        node.errors = {}
        disk.driver.guest.run(disk.driver.reset())
        run_state.cont()
        guest.run(disk.driver.probe())
        assert disk.read(0, 512) == DATA


# --- moves


@pytest.mark.parametrize(("packed", "shared"), [(False, True), (True, False)])
def test_what_an_error_holds_moves_and_is_tried_again_elsewhere(
    tmp_path: Path, packed: bool, shared: bool
) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(1 << 20))

    def machine() -> InProcessTarget:
        drive = faulty.options() | {
            "file": {"driver": "file", "filename": str(image), "locking": "off"},
        }
        device: dict[str, object] = {"driver": "virtio-blk-pci", "drive": "d0", "addr": "4"}
        return InProcessTarget(
            blockdevs=[drive], devices=[{**device, "werror": "stop", "packed": packed}], shared=shared
        )

    world = Movable(machine())
    guest = Guest(world)  # type: ignore[arg-type]
    disk = boot(guest)
    old = world.target.assembly
    node = old.graph["d0"]
    assert isinstance(node, Faulty)
    node.errors = {Op.WRITE: errno.ENOSPC}
    # Later ones overlap: the order is seen in the data.
    writes = [virtio_blk.write(at * 512, bytes([at]) * 1024) for at in (1, 2, 3)]
    pending = guest.run(disk.driver.submit(writes))
    guest.run(guest.settle())
    data = save_snapshot(old)
    world.target.close()

    world.target = machine()
    restore_snapshot(world.target.assembly, data)
    assert world.target.assembly.run_state.status == "io-error"
    guest.run(guest.settle())
    assert not any(one.done for one in pending)
    world.target.assembly.run_state.cont()
    assert all(guest.run(disk.driver.finish(one)).ok for one in pending)
    assert disk.read(512, 2048) == b"\1" * 512 + b"\2" * 512 + b"\3" * 1024
    assert world.target.violations() == []
    world.target.close()


# --- vhost-user


@pytest.fixture
def export(tmp_path: Path) -> Iterator[OverVhostUser]:
    with DEVICES["vhost-user-blk"](tmp_path, "stop", "stop") as found:
        assert isinstance(found, OverVhostUser)
        yield found


def test_a_front_end_that_stops_its_ring_waits_for_what_is_held(export: OverVhostUser) -> None:
    node_of(export).errors = {Op.WRITE: errno.ENOSPC}
    export.submit(virtio_blk.write(0, DATA))
    export.front_end.send(fe.GET_VRING_BASE, fe.state(0, 0))
    assert export.front_end.reply() is None
    node_of(export).errors = {}
    export.run_state.cont()
    assert export.answer() == (0, b"")
    assert export.front_end.reply() == (fe.GET_VRING_BASE, struct.pack("<II", 0, 1))


def test_a_reset_by_the_front_end_drops_what_is_held(export: OverVhostUser) -> None:
    node_of(export).errors = {Op.WRITE: errno.ENOSPC}
    export.submit(virtio_blk.write(0, DATA))
    assert export.front_end.acknowledged(fe.RESET_DEVICE) == 0
    assert list(export.backend.in_flight) == []
    assert export.answer() is None


@pytest.mark.parametrize("leaves", [True, False], ids=["front end", "export"])
def test_who_ends_while_a_ring_is_being_stopped_drops_what_is_held(
    export: OverVhostUser, leaves: bool
) -> None:
    """The front end is killed, as one whose user has waited too long, or the export is deleted."""
    node_of(export).errors = {Op.WRITE: errno.ENOSPC}
    export.submit(virtio_blk.write(0, DATA))
    export.front_end.send(fe.GET_VRING_BASE, fe.state(0, 0))
    assert export.front_end.reply() is None
    if leaves:
        export.front_end.socket.close()
    else:
        export.server.close()
    export.context.run_until_idle()
    assert not export.server.connected
    assert list(export.backend.in_flight) == []
    export.run_state.cont()
    assert export.answer() is None


def test_a_front_end_that_leaves_drops_what_is_held(export: OverVhostUser) -> None:
    node_of(export).errors = {Op.FLUSH: errno.EIO}
    export.submit(virtio_blk.flush())
    export.front_end.socket.close()
    export.context.run_until_idle()
    assert not export.server.connected
    assert list(export.backend.in_flight) == []


def test_what_is_held_when_a_front_end_leaves_is_done_when_it_comes_back_with_its_area(
    export: OverVhostUser,
) -> None:
    """As after the death of the daemon: what is noted in the in-flight area is tried again, once, on `cont`."""
    features = fe.F_PROTOCOL | fe.F_VERSION_1

    def connect(area: Area | None) -> Area:
        front_end = fe.FrontEnd(Path(export.server.path), export.context)
        front_end.memory, unused = export.front_end.memory, front_end.memory
        unused.close()
        export.front_end = front_end
        front_end.introduce(fe.MQ | fe.REPLY_ACK | fe.CONFIG | fe.INFLIGHT)
        front_end.set_features(features)
        area = Area(front_end, 1, 8) if area is None else area
        assert front_end.acknowledged(fe.SET_INFLIGHT_FD, area.payload(), [area.fd]) == 0
        front_end.share()
        return area

    def leave() -> None:
        export.front_end.socket.close()
        export.context.run_until_idle()
        assert not export.server.connected

    leave()
    area = connect(None)
    export.ring = fe.Ring(export.front_end.memory)
    export.front_end.start(0, export.ring)
    node_of(export).errors = {Op.WRITE: errno.ENOSPC}
    export.submit(virtio_blk.write(0, DATA))
    assert export.answer() is None
    leave()
    assert list(export.backend.in_flight) == []
    connect(area)
    export.front_end.start(0, export.ring, export.ring.used_idx)
    assert len(export.backend.in_flight) == 1
    node_of(export).errors = {}
    export.run_state.cont()
    assert export.answer() == (0, b"")
    export.submit(virtio_blk.read(0, 512))
    assert export.answer() == (0, DATA)
    area.close()


def test_the_event_of_an_export_has_its_id(export: OverVhostUser) -> None:
    told: list[object] = []
    export.run_state.events.add_listener(lambda name, data: told.append((name, data.get("device"))))
    node_of(export).errors = {Op.FLUSH: errno.EIO}
    export.submit(virtio_blk.flush())
    assert told == [("BLOCK_IO_ERROR", "e0"), ("STOP", None)]
