"""Which FIS changes which register, and what PxIS says of it (AHCI 1.3.1 §5.3)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from devmodels.ahci import AhciPci, delivery, prdt
from devmodels.blockbackend import BlockBackend, Request
from guestsim.drivers import ahci, ata
from guestsim.drivers.ahci_layouts import HEADER, Cmd, Hba, PortIs, PortReg, h2d_fis
from guestsim.drivers.ahci_port import AhciPort
from guestsim.guest import Guest
from guestsim.targets.inprocess import InProcessTarget

from .test_hostile import World, world
from .test_stories import DISK, DRIVE, HBA

D2H = 0x40
OK, FAILED = 0x50, 0x51
CLEAR_BUSY = 0x400
DIAG_X = 1 << 26


def received(w: World) -> bytes:
    """The Register – Device to Host FIS that was received last."""
    return w.guest.memory.read(w.port.received + D2H, 20)


def control(w: World, bits: int, flags: int = 0) -> None:
    """A FIS with the device control register, in slot 0."""
    w.guest.memory.write(w.table, h2d_fis(ata.AtaCommand(0), control=bits, is_command=False))
    w.guest.memory.write(w.port.list, HEADER.pack(5 | flags, 0, 0, w.table, 0))
    w.issue()


def test_an_error_is_told_by_tfes_alone() -> None:
    with world() as w:
        w.command(ata.AtaCommand(0xFF))
        assert w.status == PortIs.TFES
        assert received(w)[:4] == bytes((0x34, 0x40, FAILED, 0x04))
        assert w.port.read(PortReg.TFD) == 0x04 << 8 | FAILED


def test_an_error_of_a_queued_command_is_told_by_tfes_alone() -> None:
    with world() as w:
        w.command(ata.write_queued(0, bytes(512)))
        assert w.status == PortIs.OFS | PortIs.TFES
        assert w.port.read(PortReg.SACT) == 1


def test_nothing_is_done_after_an_error_before_commands_are_stopped() -> None:
    """§6.2.2.1"""
    with world() as w:
        w.command(ata.AtaCommand(0xFF))
        w.guest.memory.write(w.table, h2d_fis(ata.flush()))
        w.guest.memory.write(w.port.list + HEADER.size, HEADER.pack(5, 0, 0, w.table, 0))
        w.issue(slots=2)
        assert w.port.read(PortReg.CI) == 3
        assert w.status == PortIs.TFES
        w.port.write(PortReg.CMD, w.port.read(PortReg.CMD) & ~Cmd.ST)
        assert w.port.read(PortReg.CI) == 0
        w.works_again()


def test_causes_that_a_command_without_an_error_has() -> None:
    """§3.3.5: DHRS, PSS where the data goes by PIO, DPS where a PRD of it asks for that."""
    with world() as w:
        buffer = w.guest.memory.allocate(512)
        for command, interrupt, expected in (
            (ata.flush(), 0, PortIs.DHRS),
            (ata.read_dma_ext(0, 1), 0, PortIs.DHRS),
            (ata.read_dma_ext(0, 1), 1 << 31, PortIs.DHRS | PortIs.DPS),
            (ata.read_dma_ext(0, 1, pio=True), 0, PortIs.PSS),
        ):
            w.port.write(PortReg.IS, 0xFFFF_FFFF)
            prds = [(buffer, 512 + interrupt)] if command.opcode != 0xEA else []
            w.command(command, *prds)
            assert w.status == expected, command


def test_a_queued_command_is_taken_by_a_fis_that_does_not_interrupt() -> None:
    with world() as w:
        buffer = w.guest.memory.allocate(512)
        w.guest.memory.write(w.port.received + D2H, bytes(20))
        w.command(ata.read_queued(0, 1), (buffer, 512))
        assert received(w)[:4] == bytes((0x34, 0x00, OK, 0x00))
        assert w.status == PortIs.SDBS


def test_a_control_fis_keeps_its_place_until_the_device_answers_unless_it_clears_busy() -> None:
    with world() as w:
        control(w, 4, CLEAR_BUSY)
        assert w.port.read(PortReg.CI) == 0
        w.guest.memory.write(w.table, h2d_fis(ata.AtaCommand(0), control=0, is_command=False))
        w.guest.memory.write(w.port.list, HEADER.pack(5, 0, 0, w.table, 0))
        w.port.write(PortReg.CI, 1)
        assert w.port.read(PortReg.CI) == 1
        w.settle()
        assert w.port.read(PortReg.CI) == 0
        assert w.port.read(PortReg.TFD) == 0x150
        control(w, 4)
        assert w.port.read(PortReg.CI) == 1
        assert w.port.read(PortReg.TFD) & 0x80
        w.guest.run(w.port.stop())
        w.guest.run(w.port.comreset())
        w.works_again()


def test_a_disk_shows_its_signature_without_received_fises() -> None:
    with InProcessTarget(blockdevs=[DRIVE], devices=[HBA, DISK]) as target:
        guest = Guest(target)
        hba = ahci.Ahci(guest, ahci.find(guest)[0])
        port = AhciPort(hba, 0)
        target.assembly.machine.run_until_idle()
        assert not port.read(PortReg.CMD) & Cmd.FR
        assert port.read(PortReg.TFD) == 0x150
        assert port.read(PortReg.SIG) == 0x101


def test_a_link_that_comes_up_after_a_reset_is_told_of() -> None:
    with world() as w:
        w.port.write(PortReg.SERR, 0xFFFF_FFFF)
        w.guest.run(w.hba.reset())
        assert w.port.read(PortReg.SERR) & DIAG_X
        assert w.status & PortIs.PCS


def test_the_link_is_not_reset_while_commands_run() -> None:
    with world() as w:
        w.port.write(PortReg.SCTL, 0x301)
        w.port.write(PortReg.SCTL, 0x300)
        assert "AHCI 1.3.1 §3.3.11" in w.clauses()
        w.guest.run(w.port.stop())
        w.guest.run(w.port.start())
        w.guest.run(w.port.identify())


def test_pio_of_several_blocks_is_offered() -> None:
    """Multiple DRQ data blocks, as HBAs since AHCI 1.2 have to (§3.1.1, PMD)."""
    with world() as w:
        assert w.hba.read(Hba.CAP) & 1 << 15
        answer = w.guest.run(w.port.do(ata.read_dma_ext(0, 4, pio=True)))
        assert answer.moved == 2048


def test_a_busy_device_is_forgotten_by_clo() -> None:
    """PxCMD.CLO clears BSY and DRQ, and itself, so that a device that hangs can be reset (§3.3.7, §10.4.1)."""
    with world() as w:
        control(w, 4)
        w.guest.run(w.port.stop())
        assert w.port.read(PortReg.TFD) & 0x80
        w.port.write(PortReg.CMD, w.port.read(PortReg.CMD) | Cmd.CLO)
        assert not w.port.read(PortReg.CMD) & Cmd.CLO
        assert not w.port.read(PortReg.TFD) & 0x88
        w.guest.run(w.port.start())
        w.guest.run(w.port.software_reset())
        w.guest.run(w.port.identify())
        assert not w.clauses()


def test_clo_clears_busy_and_request_and_nothing_else() -> None:
    """What is there before a signature has come, 7Fh, has both of them (§3.3.7, §3.3.8)."""
    with InProcessTarget(blockdevs=[DRIVE], devices=[HBA, DISK]) as target:
        port = AhciPort(ahci.Ahci(Guest(target), ahci.find(Guest(target))[0]), 0)
        (function,) = target.assembly.ata_hosts.values()
        assert isinstance(function, AhciPci)
        for status in (0x7F, 0x80, 0x88, 0x08):
            function.hba.ports[0].registers.tfd = 0x5500 | status
            port.write(PortReg.CMD, port.read(PortReg.CMD) | Cmd.CLO)
            assert port.read(PortReg.TFD) == 0x5500 | status & ~0x88
            assert not port.read(PortReg.CMD) & Cmd.CLO


def test_queued_commands_of_high_priority_are_done_first() -> None:
    with world() as w:
        done = []
        backend = w.target.assembly.drives["hd0"]
        submit = backend.submit

        def see(request: Request) -> None:
            done.append(request.offset // 512)
            submit(request)

        backend.submit = see  # type: ignore[method-assign]
        writes = [
            replace(ata.write_queued(lba, bytes(512)), count=priority << 14)
            for lba, priority in ((1, 0), (2, 1), (3, 2), (4, 0), (5, 2))
        ]
        pending = w.port.submit(*writes)
        assert all(w.guest.run(w.port.wait(each)).ok for each in pending)
        # Slots are looked at in turn, of which the first one comes last here.
        assert done == [3, 5, 2, 4, 1]


def test_the_table_of_a_queued_read_is_read_once_whether_or_not_its_data_is_at_hand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with world() as w:
        walks = []

        def see(*arguments: Any) -> prdt.Regions:
            walks.append(arguments)
            return prdt.walk(*arguments)

        monkeypatch.setattr(delivery, "walk", see)
        monkeypatch.setattr(BlockBackend, "read_now", lambda *_: 0)
        buffer = w.guest.memory.allocate(512)
        w.command(ata.read_queued(0, 1), (buffer, 512))
        assert w.status == PortIs.SDBS
        assert len(walks) == 1
