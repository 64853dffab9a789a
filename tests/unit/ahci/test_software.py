"""What AHCI 1.3.1 wants of software at PxCMD, and what is said where it does otherwise."""

from __future__ import annotations

import pytest

from guestsim.drivers import ahci, ata
from guestsim.drivers.ahci_layouts import Cmd, PortReg
from guestsim.drivers.ahci_port import AhciPort
from guestsim.drivers.transport import Interrupts
from guestsim.guest import Guest
from guestsim.targets.inprocess import InProcessTarget

from .stories import boot
from .test_hostile import world
from .test_stories import DISK, DRIVE, HBA


def test_a_busy_device_is_not_forgotten_while_commands_may_run() -> None:
    """§3.3.7, CLO."""
    with world() as w:
        w.port.write(PortReg.CMD, w.port.read(PortReg.CMD) | Cmd.CLO)
        assert w.clauses() == ["AHCI 1.3.1 §3.3.7"]


def test_a_port_is_not_started_where_no_device_is() -> None:
    """§10.3.1"""
    with InProcessTarget(blockdevs=[DRIVE], devices=[HBA, DISK]) as target:
        hba = ahci.Ahci(Guest(target), ahci.find(Guest(target))[0])
        port = AhciPort(hba, 1)
        port.write(PortReg.CMD, Cmd.FRE)
        port.write(PortReg.CMD, Cmd.FRE | Cmd.ST)
        assert target.violations() == [
            ("AHCI 1.3.1 §10.3.1", "sata0 port 1: PxCMD.ST was set where no device is")
        ]


def test_a_port_is_not_started_while_its_device_is_busy() -> None:
    """§10.3.1"""
    with world() as w:
        w.target.assembly.run_state.stop()
        w.port.submit(ata.read_dma_ext(0, 8))
        w.settle()
        command = w.port.read(PortReg.CMD)
        w.port.write(PortReg.CMD, command & ~Cmd.ST)
        w.port.write(PortReg.CMD, command | Cmd.ST)
        ((clause, summary),) = list(w.target.violations() or [])
        assert (clause, summary.rpartition(": ")[2]) == (
            "AHCI 1.3.1 §10.3.1",
            "PxCMD.ST was set while the device is busy",
        )


def test_a_port_is_not_started_before_it_has_stopped_and_receives_fises() -> None:
    """§10.3.1"""
    slow = {"driver": "delay", "node-name": "d0", "read-ns": 10**6, "file": {**DRIVE, "node-name": "m0"}}
    wrong = ("AHCI 1.3.1 §10.3.1", "sata0 port 0: PxCMD.ST was set before PxCMD.CR was 0 and PxCMD.FRE 1")
    with InProcessTarget(blockdevs=[slow], devices=[HBA, DISK]) as target:
        guest, _, port = boot(target, Interrupts.POLLING)
        port.submit(ata.read_dma_ext(0, 8))
        guest.run(guest.sleep(1000))
        command = port.read(PortReg.CMD)
        port.write(PortReg.CMD, command & ~Cmd.ST)
        assert port.read(PortReg.CMD) & Cmd.CR
        port.write(PortReg.CMD, command)
        assert wrong in (target.violations() or [])
        guest.run(port.stop())
        guest.run(port.comreset())
        port.write(PortReg.CMD, port.read(PortReg.CMD) & ~Cmd.FRE)
        before = len(target.violations() or [])
        port.write(PortReg.CMD, Cmd.ST)
        assert (target.violations() or [])[before:] == [wrong]


def test_fises_are_received_as_long_as_commands_run() -> None:
    """§10.3.2"""
    with world() as w:
        w.port.write(PortReg.CMD, w.port.read(PortReg.CMD) & ~Cmd.FRE)
        assert w.clauses() == ["AHCI 1.3.1 §10.3.2"]


@pytest.mark.parametrize("register", [PortReg.CLB, PortReg.CLBU, PortReg.FB, PortReg.FBU])
def test_nothing_moves_while_fises_are_received(register: PortReg) -> None:
    """§10.3.1, §10.3.2: neither the command list nor the area for FISes, though no command runs any more."""
    with world() as w:
        w.guest.run(w.port.stop())
        assert w.port.read(PortReg.CMD) & (Cmd.CR | Cmd.FR) == Cmd.FR
        w.port.write(register, w.port.read(register))
        assert w.clauses() == ["AHCI 1.3.1 §10.3"]


def test_commands_are_put_into_slots_that_there_are() -> None:
    """§3.3.14: CAP.NCS says how many."""
    with InProcessTarget(blockdevs=[DRIVE], devices=[{**HBA, "slots": 4}, DISK]) as target:
        guest, _, port = boot(target, Interrupts.POLLING)
        port.write(PortReg.CI, 1 << 4)
        assert port.read(PortReg.CI) == 0
        assert [clause for clause, _ in target.violations() or ()] == ["AHCI 1.3.1 §3.3.14"]
        assert guest.run(port.do(ata.flush())).ok
