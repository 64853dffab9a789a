"""The disk for people who write tests: every call once."""

from __future__ import annotations

import pytest

from guestsim.disk import Disk, boot
from guestsim.drivers import virtio_blk
from guestsim.drivers.layouts import BlkFeature
from guestsim.guest import Guest
from guestsim.quick import DEVICE, disk_machine, first_request
from guestsim.targets import TargetError
from guestsim.targets.inprocess import InProcessTarget


@pytest.mark.disk(size="1M", serial="it-is-me", secure_erase=True)
def test_every_call(disk: Disk, machine: InProcessTarget) -> None:
    disk.write(0, b"\x11" * 4096)
    disk.flush()
    disk.write_zeroes(512, 512, unmap=True)
    disk.secure_erase(1024, 512)
    assert disk.read(0, 4096) == b"\x11" * 512 + bytes(1024) + b"\x11" * 2560
    disk.discard(0, 4096)
    assert disk.get_id() == "it-is-me"
    disk.set_write_cache(on=False)
    assert disk.config["writeback"] == 0
    first, second = disk.requests(virtio_blk.read(0, 512), virtio_blk.flush())
    assert first.ok
    assert second.ok
    assert BlkFeature.SECURE_ERASE in disk.features
    assert machine.statistics(DEVICE)["wr_operations"] >= 2
    assert machine.violations() == []


def test_lifetime_by_name() -> None:
    with InProcessTarget(
        blockdevs=[{"driver": "memory", "node-name": "d0", "size": 1 << 20}],
        devices=[{"driver": "virtio-blk-pci", "drive": "d0", "lifetime": {"pre-eol-info": 3}}],
    ) as target:
        disk = boot(Guest(target))
        assert disk.get_lifetime() == {
            "pre_eol_info": 3,
            "device_lifetime_est_typ_a": 0,
            "device_lifetime_est_typ_b": 0,
        }


def test_a_first_request_takes_no_time_worth_speaking_of() -> None:
    assert 0 < first_request() < 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ram": 1000}, "ram of 1000 bytes"),
        ({"blockdevs": [{"driver": "punch-cards", "node-name": "d0"}]}, "punch-cards"),
        ({"devices": [{"driver": "virtio-blk-pci", "drive": "d9"}]}, "d9"),
    ],
)
def test_a_machine_that_cannot_be_says_why(options: dict[str, object], message: str) -> None:
    with pytest.raises(TargetError, match=message):
        InProcessTarget(**options)  # type: ignore[arg-type]


def test_the_host_knows_its_devices(machine: InProcessTarget) -> None:
    with pytest.raises(TargetError, match="no device 'vd9'"):
        machine.statistics("vd9")
    with pytest.raises(TargetError, match="no device uses a node 'd9'"):
        machine.resize("d9", 512)


def test_a_machine_on_the_wall_clock_goes_on_in_real_time() -> None:
    with InProcessTarget(clock="wall") as target:
        before = target.now_ns()
        assert target.advance()
        assert target.now_ns() > before


def test_a_machine_can_be_given_up_with_a_request_in_flight() -> None:
    with disk_machine() as machine:
        guest = Guest(machine)
        low, _ = guest.memory.windows
        guest.memory.allocate(low.size - 4096)
        disk = boot(guest)
        machine.stop()
        guest.run(disk.driver.submit([virtio_blk.read(0, 8192)]))
        assert disk.driver.in_flight == 1
