"""The scripted guest's own drivers against QEMU's devices: what they agree on with the rest of the world."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from guestsim.disk import Disk
from guestsim.drivers import virtio_blk
from guestsim.drivers.transport import Interrupts
from guestsim.guest import Guest

from .machines import machine, sector_pattern

if TYPE_CHECKING:
    from pathlib import Path

    from guestsim.targets import Target

pytestmark = [pytest.mark.qemu, pytest.mark.usefixtures("qemu")]


def boot(target: Target, interrupts: Interrupts) -> Disk:
    guest = Guest(target)
    driver = virtio_blk.VirtioBlk(guest, virtio_blk.find(guest)[0])
    guest.run(driver.probe(interrupts=interrupts))
    return Disk(guest, driver)


@pytest.mark.parametrize("interrupts", Interrupts)
def test_a_disk_reads_and_writes(image: Path, interrupts: Interrupts) -> None:
    with machine(image) as target:
        disk = boot(target, interrupts)
        assert disk.read(3 * 512, 1024, scatter=2) == sector_pattern(3) + sector_pattern(4)
        disk.write(5 * 512, b"w" * 512)
        disk.flush()
        assert image.read_bytes()[4 * 512 : 6 * 512] == sector_pattern(4) + b"w" * 512
        assert bool(disk.interrupts) is (interrupts is not Interrupts.POLLING)


def test_a_disk_sees_the_hosts_resize(image: Path) -> None:
    with machine(image) as target:
        disk = boot(target, Interrupts.MSIX)
        assert disk.capacity == 1 << 20
        target.resize("d0", 2 << 20)
        disk.read(0, 512)
        assert disk.capacity == 2 << 20
