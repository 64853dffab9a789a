"""The link of a port: what PxSCTL and PxCMD.ICC make of it, and what changes of it a driver hears of."""

from __future__ import annotations

import pytest

from guestsim.drivers import ahci, ata
from guestsim.drivers.ahci_layouts import PortReg
from guestsim.drivers.ahci_port import AhciPort
from guestsim.drivers.transport import Interrupts
from guestsim.guest import Guest
from guestsim.targets.inprocess import InProcessTarget

from .stories import boot
from .test_stories import DISK, DRIVE, HBA

PARTIAL, SLUMBER = 2, 6
CHANGED, EXCHANGED = 1 << 16, 1 << 26


def _port(target: InProcessTarget, number: int) -> AhciPort:
    guest = Guest(target)
    hba = ahci.Ahci(guest, ahci.find(guest)[0])
    guest.run(hba.probe(interrupts=Interrupts.POLLING))
    return AhciPort(hba, number)


@pytest.mark.parametrize("icc", [PARTIAL, SLUMBER])
def test_a_command_wakes_a_link_that_sleeps(icc: int) -> None:
    """AHCI 1.3.1 §8.3.1: the HBA brings the link to active where it has something to send."""
    with InProcessTarget(blockdevs=[DRIVE], devices=[HBA, DISK]) as target:
        guest, _, port = boot(target, Interrupts.POLLING)
        port.write(PortReg.CMD, port.read(PortReg.CMD) | icc << 28)
        assert port.read(PortReg.SSTS) == icc << 8 | 0x33
        assert guest.run(port.do(ata.flush())).ok
        assert port.read(PortReg.SSTS) == 0x133


@pytest.mark.parametrize("forbidden", [0, 1, 2, 3])
@pytest.mark.parametrize(("icc", "bit"), [(PARTIAL, 1), (SLUMBER, 2)])
def test_each_sleep_is_forbidden_by_its_own_bit(icc: int, bit: int, forbidden: int) -> None:
    """AHCI 1.3.1 §3.3.11, IPM: 1 forbids partial, 2 slumber; the other one is entered as ever (§3.3.7, ICC)."""
    with InProcessTarget(blockdevs=[DRIVE], devices=[HBA, DISK]) as target:
        _, _, port = boot(target, Interrupts.POLLING)
        port.write(PortReg.SCTL, forbidden << 8)
        port.write(PortReg.CMD, port.read(PortReg.CMD) | icc << 28)
        assert port.read(PortReg.SSTS) >> 8 == (1 if forbidden & bit else icc)
        assert port.read(PortReg.CMD) >> 28 == 0


def test_a_reset_of_a_port_without_a_device_changes_nothing() -> None:
    with InProcessTarget(blockdevs=[DRIVE], devices=[HBA, DISK]) as target:
        port = _port(target, 1)
        port.write(PortReg.SCTL, 0x301)
        port.write(PortReg.SCTL, 0x300)
        assert port.read(PortReg.SSTS) == 0
        assert port.read(PortReg.SERR) == 0
        assert port.read(PortReg.IS) == 0


@pytest.mark.parametrize(("det", "shown"), [(1, 0), (4, 4)])
def test_a_disk_that_comes_to_a_port_held_down_is_seen_when_that_is_let_go(det: int, shown: int) -> None:
    """AHCI 1.3.1 §3.3.11: no COMINIT is answered meanwhile."""
    with InProcessTarget(blockdevs=[DRIVE], devices=[HBA]) as target:
        port = _port(target, 0)
        port.write(PortReg.SCTL, 0x300 | det)
        target.plug(DISK)
        assert port.read(PortReg.SSTS) == shown
        assert port.read(PortReg.SERR) == 0
        port.write(PortReg.SCTL, 0x300)
        assert port.read(PortReg.SSTS) == 0x133
        assert port.read(PortReg.SERR) == CHANGED | EXCHANGED
        assert port.read(PortReg.SIG) == 0x101


def test_a_disk_that_goes_from_a_port_that_is_off_changes_nothing() -> None:
    with InProcessTarget(blockdevs=[DRIVE], devices=[HBA, DISK]) as target:
        _, _, port = boot(target, Interrupts.POLLING)
        port.write(PortReg.CMD, port.read(PortReg.CMD) & ~1)
        port.write(PortReg.SCTL, 0x304)
        port.write(PortReg.SERR, 0xFFFF_FFFF)
        target.unplug("hd0")
        assert port.read(PortReg.SSTS) == 4
        assert port.read(PortReg.SERR) == 0


@pytest.mark.parametrize("det", [1, 4])
def test_a_link_that_goes_down_hears_nothing_of_a_reset_that_goes_on(det: int) -> None:
    with InProcessTarget(blockdevs=[DRIVE], devices=[HBA, DISK]) as target:
        guest, _, port = boot(target, Interrupts.POLLING)
        target.stop()
        port.submit(ata.flush())
        target.advance()
        port.write(PortReg.CMD, port.read(PortReg.CMD) & ~1)
        for control in (0x301, 0x300):
            port.write(PortReg.SCTL, control)
        assert port.read(PortReg.TFD) == ata.AtaStatus.BSY
        port.write(PortReg.SCTL, 0x300 | det)
        target.cont()
        while target.advance():
            pass
        assert port.read(PortReg.CMD) & 0x8000 == 0
        assert port.read(PortReg.TFD) == 0x7F
        assert port.read(PortReg.SIG) == 0xFFFF_FFFF
        port.write(PortReg.SCTL, 0x300)
        guest.run(port.start())
        assert guest.run(port.do(ata.read_dma_ext(0, 1))).ok
