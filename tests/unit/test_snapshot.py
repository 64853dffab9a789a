"""A machine saved in the middle of its work goes on in another one, and the guest does not notice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from devmodels.snapshot import SnapshotError, restore_snapshot, save_snapshot
from guestsim.disk import boot
from guestsim.drivers import virtio_blk
from guestsim.guest import Guest
from guestsim.targets.inprocess import InProcessTarget

RAM = 17 << 20
"""Little: all of it is looked through each time."""


class Movable:
    """A target whose machine can be exchanged under the guest."""

    def __init__(self, target: InProcessTarget) -> None:
        self.target = target

    def __getattr__(self, name: str) -> object:
        if callable(getattr(self.target, name)):
            return lambda *arguments: getattr(self.target, name)(*arguments)
        return getattr(self.target, name)


def machine(filename: str, *, shared: bool = True, **options: object) -> InProcessTarget:
    return InProcessTarget(
        blockdevs=[{"driver": "file", "filename": filename, "node-name": "d0", "locking": "off"}],
        devices=[{"driver": "virtio-blk-pci", "drive": "d0", "id": "vd0", "addr": "4", **options}],
        ram=RAM,
        shared=shared,
    )


@pytest.fixture
def image(tmp_path: Path) -> str:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(1 << 20))
    return str(path)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("shared", [True, False])
def test_a_guest_goes_on_in_another_machine(image: str, shared: bool, packed: bool) -> None:
    world = Movable(machine(image, shared=shared, packed=packed))
    guest = Guest(world)  # type: ignore[arg-type]
    disk = boot(guest)
    disk.write(4096, b"before" * 512)
    old = world.target
    data = save_snapshot(old.assembly)
    old.close()

    world.target = machine(image, shared=shared, packed=packed)
    restore_snapshot(world.target.assembly, data)

    assert disk.read(4096, 3072) == b"before" * 512
    disk.write(0, b"x" * 512)
    assert disk.read(0, 512) == b"x" * 512
    assert world.target.violations() == []
    world.target.close()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("in_order", [False, True])
def test_requests_held_back_are_carried_out_where_the_machine_is_restored(
    image: str, in_order: bool, packed: bool
) -> None:
    world = Movable(machine(image, in_order=in_order, packed=packed))
    guest = Guest(world)  # type: ignore[arg-type]
    disk = boot(guest)
    old = world.target
    old.assembly.run_state.stop("paused")
    answers = [
        guest.start(disk.driver.execute(virtio_blk.write(sector * 512, bytes([sector]) * 512)))
        for sector in range(3)
    ]
    guest.run(guest.settle())
    assert not any(answer.finished for answer in answers)
    data = save_snapshot(old.assembly)
    old.close()

    world.target = machine(image, in_order=in_order, packed=packed)
    restore_snapshot(world.target.assembly, data)
    guest.run(guest.settle())
    assert not any(answer.finished for answer in answers)
    world.target.assembly.run_state.cont()
    guest.run(guest.wait_until(lambda: all(answer.finished for answer in answers), "the writes"))

    assert [answer.result().status for answer in answers] == [0, 0, 0]
    assert disk.read(0, 1536) == bytes([0]) * 512 + bytes([1]) * 512 + bytes([2]) * 512
    world.target.close()


def test_the_write_cache_mode_moves_along(image: str) -> None:
    world = Movable(machine(image))
    guest = Guest(world)  # type: ignore[arg-type]
    disk = boot(guest)
    disk.set_write_cache(on=False)
    data = save_snapshot(world.target.assembly)
    world.target.close()
    world.target = machine(image)
    restore_snapshot(world.target.assembly, data)
    assert disk.config["writeback"] == 0
    world.target.close()


def test_rolling_a_machine_back_drops_what_it_was_doing(image: str) -> None:
    """What was held when the machine is restored belongs to a future that no longer happens."""
    with machine(image) as target:
        guest = Guest(target)
        disk = boot(guest)
        data = save_snapshot(target.assembly)
        target.assembly.run_state.stop("paused")
        guest.start(disk.driver.execute(virtio_blk.write(0, b"F" * 512)))
        guest.run(guest.settle())
        restore_snapshot(target.assembly, data)
        target.assembly.machine.run_until_idle()
        assert target.assembly.run_state.running
        assert target.assembly.backends["d0"].stats.wr_operations == 0
        queue = target.assembly.virtio_device("vd0").queues[0]
        assert not queue.in_flight


def test_a_reset_after_restoring_drops_the_requests_that_were_saved(image: str) -> None:
    world = Movable(machine(image))
    guest = Guest(world)  # type: ignore[arg-type]
    disk = boot(guest)
    world.target.assembly.run_state.stop("paused")
    guest.start(disk.driver.execute(virtio_blk.write(0, b"A" * 512)))
    guest.run(guest.settle())
    data = save_snapshot(world.target.assembly)
    world.target.close()
    world.target = machine(image)
    restore_snapshot(world.target.assembly, data)
    disk.driver.device.set("device_status", 0)
    world.target.assembly.run_state.cont()
    world.target.assembly.machine.run_until_idle()
    assert world.target.assembly.backends["d0"].stats.wr_operations == 0
    world.target.close()


@pytest.mark.parametrize("packed", [False, True])
def test_a_device_that_needs_a_reset_goes_along(image: str, packed: bool) -> None:
    """A request that ends after its ring broke is not given back: the ring's positions still hold its place."""
    world = Movable(machine(image, packed=packed))
    guest = Guest(world)  # type: ignore[arg-type]
    disk = boot(guest)
    world.target.assembly.run_state.stop("paused")
    guest.start(disk.driver.execute(virtio_blk.write(0, bytes(512))))
    guest.run(guest.settle())
    world.target.assembly.virtio_device("vd0").needs_reset()
    world.target.assembly.run_state.cont()
    data = save_snapshot(world.target.assembly)
    world.target.close()
    world.target = machine(image, packed=packed)
    restore_snapshot(world.target.assembly, data)
    assert disk.driver.device.get("device_status") & 0x40
    assert boot(guest).read(0, 512) == bytes(512)
    world.target.close()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("whole", [True, False], ids=["device", "queue"])
def test_a_reset_that_waits_for_a_request_is_over_where_the_machine_is_restored(
    whole: bool, packed: bool
) -> None:
    """Nobody moves the clock, so the request takes for ever; a snapshot does not."""

    def slow() -> InProcessTarget:
        drive = {"driver": "null-co", "node-name": "d0", "size": 1 << 20, "latency-ns": 1_000_000}
        device = {"driver": "virtio-blk-pci", "drive": "d0", "id": "vd0", "addr": "4", "packed": packed}
        return InProcessTarget(blockdevs=[drive], devices=[device], clock="stepped", ram=RAM)

    world = Movable(slow())
    guest = Guest(world)  # type: ignore[arg-type]
    disk = boot(guest)
    registers = disk.driver.device
    guest.start(disk.driver.execute(virtio_blk.write(0, bytes(512))))
    guest.run(guest.settle())
    register = "device_status" if whole else "queue_reset"
    registers.set("queue_select", 0)
    registers.set(register, 0 if whole else 1)
    assert registers.get(register)
    data = save_snapshot(world.target.assembly)
    world.target.close()
    world.target = slow()
    restore_snapshot(world.target.assembly, data)
    assert registers.get(register) == 0
    assert registers.get("queue_enable") == 0
    assert not world.target.assembly.virtio_device("vd0").queues[0].in_flight
    assert world.target.violations() == []
    world.target.close()


def test_limits_hold_after_restoring(image: str) -> None:
    world = Movable(machine(image, seg_max=2))
    guest = Guest(world)  # type: ignore[arg-type]
    disk = boot(guest)
    data = save_snapshot(world.target.assembly)
    world.target.close()
    world.target = machine(image, seg_max=2)
    restore_snapshot(world.target.assembly, data)
    wide = virtio_blk.Operation(
        virtio_blk.read(0, 512).readable, 1537, writable_split=(512, 512, 512, 1), checked=False
    )
    assert disk.request(wide).status_name == "IOERR"
    world.target.close()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("last_avail", 0xFFFF),
        ("last_avail", 0),
        ("used_idx", 0x8001),
        ("used_idx", -1),
        ("size", 0),
        ("head", -1),
    ],
)
def test_a_packed_ring_that_cannot_be_is_refused(image: str, field: str, value: int) -> None:
    with machine(image, packed=True) as target:
        guest = Guest(target)
        disk = boot(guest)
        target.assembly.run_state.stop("paused")
        guest.start(disk.driver.execute(virtio_blk.write(0, bytes(512))))
        guest.run(guest.settle())
        data = msgspec.msgpack.decode(save_snapshot(target.assembly))
        queue = data["virtio"]["vd0"]["queues"][0]
        assert (queue["ring"]["last_avail"], queue["ring"]["used_idx"]) == (0x8001, 0x8000)
        {"size": queue, "head": queue["in_flight"][0]}.get(field, queue["ring"])[field] = value
        with pytest.raises(SnapshotError, match="snapshot of another machine"):
            restore_snapshot(target.assembly, msgspec.msgpack.encode(data))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda data: b"nonsense", "not a snapshot"),
        (lambda data: b"\x81\xa4more" + b"\x91" * 9999 + b"\x00", "not a snapshot"),
        (lambda data: data[: len(data) // 2], "not a snapshot"),
        (lambda data: msgspec.msgpack.encode({**msgspec.msgpack.decode(data), "version": 99}), "version 99"),
        (lambda data: msgspec.msgpack.encode({**msgspec.msgpack.decode(data), "virtio": {}}), "devices"),
        (lambda data: msgspec.msgpack.encode({**msgspec.msgpack.decode(data), "regions": []}), "memory"),
    ],
)
def test_what_is_no_snapshot_of_this_machine_is_refused(image: str, change, says: str) -> None:  # type: ignore[no-untyped-def]
    with machine(image) as target:
        data = change(save_snapshot(target.assembly))
        with pytest.raises(SnapshotError, match=says):
            restore_snapshot(target.assembly, data)


@pytest.mark.parametrize("options", [{"vectors": 5}, {"addr": "5"}, {"vectors": 0}], ids=str)
def test_a_snapshot_of_a_function_made_otherwise_is_refused(image: str, options: dict[str, Any]) -> None:
    with machine(image) as target:
        data = save_snapshot(target.assembly)
    with machine(image, **options) as target:
        before = target.assembly.machine.save()
        with pytest.raises(SnapshotError, match="snapshot of another machine"):
            restore_snapshot(target.assembly, data)
        assert target.assembly.machine.save() == before


@pytest.mark.parametrize(
    ("driver", "name", "value"),
    [
        ("virtio-blk-pci", "04.0.0x40.message_control", 1 << 16),
        ("virtio-blk-pci", "04.0.0x40.table.entry[1].message_address", 1 << 32),
        ("virtio-blk-pci", "04.0.0x40.table.entry[99].message_address", 4),
        ("virtio-blk-pci", "04.0.common.nothing", 1),
        ("virtio-blk-pci", "04.0.common.queue_select", 1 << 16),
        ("virtio-blk-pci", "04.0.isr", 4),
        ("virtio-blk-pci", "04.0.isr", -1),
        ("virtio-blk-pci", "config_address", 1 << 40),
        ("virtio-blk-device", "0xfeb00000.registers.queue_sel", 1 << 32),
        ("virtio-blk-device", "0xfeb00000.registers.nothing", 1),
    ],
)
def test_registers_that_no_machine_can_have_change_nothing(driver: str, name: str, value: int) -> None:
    def made() -> InProcessTarget:
        place = {"addr": "4"} if driver == "virtio-blk-pci" else {}
        return InProcessTarget(
            blockdevs=[{"driver": "memory", "size": 1 << 20, "node-name": "d0"}],
            devices=[{"driver": driver, "drive": "d0", "id": "vd0", **place}],
            ram=RAM,
        )

    with made() as target:
        boot(Guest(target))
        content = msgspec.msgpack.decode(save_snapshot(target.assembly))
    content["machine"][name] = value
    with made() as target:
        before = target.assembly.machine.save()
        with pytest.raises(SnapshotError, match="snapshot of another machine"):
            restore_snapshot(target.assembly, msgspec.msgpack.encode(content))
        assert target.assembly.machine.save() == before


def held_elsewhere(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """A snapshot in which the device's state has been changed."""
    content = msgspec.msgpack.decode(data)
    change(content["virtio"]["vd0"])
    return msgspec.msgpack.encode(content)


@pytest.mark.parametrize(
    "change",
    [
        lambda device: device["own"].clear(),
        lambda device: device["queues"][0]["in_flight"][0].update(writable=[[0x1000, 1 << 33]]),
        lambda device: device["queues"][0]["in_flight"][0].update(readable=[[0x1000, -512]]),
        lambda device: device["queues"][0]["in_flight"][0].update(readable=[[-4096, 512]]),
    ],
)
def test_a_state_that_no_device_can_have_is_refused(
    image: str, change: Callable[[dict[str, Any]], None]
) -> None:
    with machine(image) as target:
        guest = Guest(target)
        disk = boot(guest)
        target.assembly.run_state.stop("paused")
        guest.start(disk.driver.execute(virtio_blk.write(0, bytes(512))))
        guest.run(guest.settle())
        data = save_snapshot(target.assembly)
    with machine(image) as target, pytest.raises(SnapshotError):
        restore_snapshot(target.assembly, held_elsewhere(data, change))
