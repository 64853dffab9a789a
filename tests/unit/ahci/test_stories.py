"""A driver on our HBA, in every way that it can hear of it and over both kinds of memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from guestsim.drivers import ata
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


def test_a_disk_is_locked_when_its_host_begins_anew(tmp_path: Path) -> None:
    secret = bytes(2) + b"secret".ljust(510, b"\0")
    disk = {**DISK, "state": str(tmp_path / "hd0.json")}
    for locked in (False, True):
        with InProcessTarget(blockdevs=[DRIVE], devices=[HBA, disk]) as target:
            guest, _, port = boot(target, Interrupts.POLLING)
            assert port.identity is not None
            assert bool(port.identity.words[128] & 4) is locked
            assert guest.run(port.do(ata.read_dma_ext(0, 1))).ok is not locked
            if locked:
                guest.run(port.clear_errors())
                assert guest.run(port.do(ata.AtaCommand(0xF2, out=secret))).ok
                assert guest.run(port.do(ata.read_dma_ext(0, 1))).ok
            else:
                assert guest.run(port.do(ata.AtaCommand(0xF1, out=secret))).ok


def test_a_reset_of_the_machine_locks_a_disk_and_one_of_its_hba_does_not() -> None:
    """SATA 3.x §13.5: settings are preserved over a reset of the link (COMRESET), not over power-on."""
    secret = bytes(2) + b"secret".ljust(510, b"\0")
    with InProcessTarget(blockdevs=[DRIVE], devices=[HBA, DISK]) as target:
        guest, hba, port = boot(target, Interrupts.POLLING)
        assert guest.run(port.do(ata.AtaCommand(0xF1, out=secret))).ok
        for what, locked in (("hba", False), ("machine", True)):
            if what == "hba":
                hba.write(4, 1 << 31 | 1)
            else:
                target.assembly.machine.reset()
            target.assembly.machine.run_until_idle()
            _, _, again = boot(target, Interrupts.POLLING)
            assert again.identity is not None
            assert bool(again.identity.words[128] & 4) is locked
