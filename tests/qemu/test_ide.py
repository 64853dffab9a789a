"""The IDE driver on QEMU's PIIX3: what our own controller answers, QEMU's answers, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from guestsim.drivers.ide import IdeController, identify, probe
from guestsim.drivers.ide_layouts import AtaCommand, BmStatus
from guestsim.drivers.ide_task import Task, Way
from guestsim.drivers.pci import scan
from guestsim.guest import Guest
from guestsim.targets.qemu import QemuTarget

from .machines import disk, sector_pattern

if TYPE_CHECKING:
    from pathlib import Path

    from guestsim.targets.qmp import Json

pytestmark = [pytest.mark.qemu, pytest.mark.usefixtures("qemu")]


def test_a_disk_and_a_drive_on_one_channel(image: Path) -> None:
    devices: list[dict[str, Json]] = [
        {"driver": "piix3-ide", "id": "ide0", "addr": "4"},
        {"driver": "ide-hd", "bus": "ide0.0", "unit": 0, "drive": "d0"},
        {"driver": "ide-cd", "bus": "ide0.0", "unit": 1},
    ]
    with QemuTarget(blockdevs=[disk(image)], devices=devices) as target:
        guest = Guest(target)
        (function,) = [each for each in scan(guest) if each.device == 0x7010]
        ide = IdeController(guest, function).channels[0]
        assert guest.run(probe(ide)) == {0: "ata", 1: "atapi"}
        assert guest.run(identify(ide, 1, packet=True))[:2] == b"\xc0\x85"
        task = Task(AtaCommand.READ_SECTORS, lba=3, count=2, way=Way.PIO_IN, length=1024)
        assert guest.run(ide.do(0, task)).data == sector_pattern(3) + sector_pattern(4)
        task = Task(AtaCommand.WRITE_DMA, lba=9, count=1, way=Way.DMA_OUT, data=b"w" * 512)
        assert guest.run(ide.do(0, task)).bus_master == BmStatus.INTERRUPT
        reply = guest.run(ide.packet(1, bytes((0x12, 0, 0, 0, 36)), limit=20))
        assert (reply.blocks, reply.data[:2]) == ([20, 16], b"\x05\x80")
    assert image.read_bytes()[9 * 512 : 10 * 512] == b"w" * 512
