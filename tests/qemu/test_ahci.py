"""The AHCI driver against QEMU's HBA: the same stories as on ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from guestsim.drivers.transport import Interrupts
from guestsim.targets.qemu import QemuTarget
from guestsim.targets.qmp import Json
from tests.unit.ahci import packet_stories
from tests.unit.ahci.stories import STORIES, boot
from tests.unit.ahci.test_packets import CD
from tests.unit.ahci.test_stories import DISK, HBA

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.qemu, pytest.mark.usefixtures("qemu")]


@pytest.mark.parametrize("interrupts", [Interrupts.MSIX, Interrupts.INTX])
@pytest.mark.parametrize("story", STORIES)
def test_a_driver_finds_the_same(image: Path, story: str, interrupts: Interrupts) -> None:
    drive = {"driver": "file", "filename": str(image), "node-name": "d0"}
    with QemuTarget(blockdevs=[drive], devices=[HBA, DISK]) as target:
        guest, _, port = boot(target, interrupts)
        guest.run(STORIES[story](port))


@pytest.mark.parametrize("interrupts", [Interrupts.MSIX, Interrupts.INTX])
@pytest.mark.parametrize("story", packet_stories.STORIES)
def test_a_driver_finds_the_same_cd_drive(image: Path, story: str, interrupts: Interrupts) -> None:
    drive: dict[str, Json] = {
        "driver": "file",
        "filename": str(image),
        "node-name": "c0",
        "read-only": True,
    }
    with QemuTarget(blockdevs=[drive], devices=[HBA, CD]) as target:
        guest, _, port = boot(target, interrupts)
        guest.run(packet_stories.STORIES[story](port))
