"""A driver on our HBA, in every way that it can hear of it and over both kinds of memory."""

from __future__ import annotations

import pytest

from guestsim.drivers.transport import Interrupts
from guestsim.targets.inprocess import InProcessTarget

from .stories import SIZE, STORIES, boot

DRIVE = {"driver": "memory", "size": SIZE, "node-name": "d0"}
HBA = {"driver": "ich9-ahci", "id": "sata0", "addr": "4"}
DISK = {"driver": "ide-hd", "bus": "sata0.0", "drive": "d0", "id": "hd0", "serial": "SN1"}


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize(
    ("interrupts", "shared"),
    [(Interrupts.MSIX, True), (Interrupts.INTX, False), (Interrupts.POLLING, True)],
    ids=["msi", "intx-bounced", "polling"],
)
def test_a_driver_finds_what_the_specification_says(story: str, interrupts: Interrupts, shared: bool) -> None:
    with InProcessTarget(blockdevs=[DRIVE], devices=[HBA, DISK], shared=shared) as target:
        guest, _, port = boot(target, interrupts)
        guest.run(STORIES[story](port))
        assert bool(port.interrupts) or interrupts is Interrupts.POLLING
        assert target.violations() == []
