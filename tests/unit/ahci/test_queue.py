"""A queue that one command ends: a driver asks which one it was, and does the others again (AHCI 1.3.1 §6.2.2.2)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from guestsim.drivers import ata
from guestsim.drivers.ahci_layouts import HEADER, PRD, PRDT_OFFSET, PortIs, PortReg, h2d_fis
from guestsim.drivers.transport import Interrupts
from guestsim.errors import GuestError
from guestsim.script.load import parse
from guestsim.script.run import Options, YamlScript
from guestsim.targets.inprocess import InProcessTarget

from .stories import SIZE, boot
from .test_hostile import SLOW, World, world
from .test_stories import DISK, DRIVE, HBA

WRITE_UNCORRECTABLE, PSEUDO = 0x45, 0x55
BAD = 43


@pytest.mark.parametrize("interrupts", Interrupts)
def test_the_others_of_a_queue_are_done_again(interrupts: Interrupts) -> None:
    with InProcessTarget(blockdevs=[DRIVE], devices=[HBA, DISK]) as target:
        guest, _, port = boot(target, interrupts)
        written = {at: bytes([at]) * 4096 for at in (8, 48)}
        for at, data in written.items():
            assert guest.run(port.do(ata.write_dma_ext(at, data))).ok
        bad = ata.AtaCommand(WRITE_UNCORRECTABLE, features=PSEUDO, count=1, lba=BAD, device=ata.LBA_MODE)
        assert guest.run(port.do(bad)).ok
        queue = port.submit(ata.read_queued(8, 8), ata.read_queued(40, 8), ata.read_queued(48, 8))
        answers = [guest.run(port.wait(each)) for each in queue]
        assert not all(each.ok for each in answers)
        found = guest.run(port.recover_queue())
        assert (found.tag, found.status, found.error, found.lba) == (1, 0x51, ata.AtaErrorBits.UNC, BAD)
        assert [each.data for each in found.again] == [written[8], written[48]]
        assert guest.run(port.do(ata.read_queued(48, 8))).data == written[48]
        assert target.violations() == []


def test_a_queue_that_a_single_command_ends() -> None:
    with InProcessTarget(blockdevs=[DRIVE], devices=[HBA, DISK]) as target:
        guest, _, port = boot(target, Interrupts.POLLING)
        assert not guest.run(port.do(ata.read_queued(SIZE // 512, 1))).ok
        found = guest.run(port.recover_queue())
        assert (found.tag, found.error, found.again) == (0, ata.AtaErrorBits.IDNF, ())
        with pytest.raises(GuestError, match="no queue has failed"):
            guest.run(port.recover_queue())


@pytest.mark.parametrize(
    ("command", "counted"),
    [
        (ata.read_queued(0, 2), 0),
        (ata.write_queued(0, bytes(1024)), 0),
        (ata.read_dma_ext(0, 2), 1024),
        (ata.write_dma_ext(0, bytes(1024)), 1024),
    ],
)
def test_the_hba_counts_what_it_has_moved_but_not_for_queued_commands(
    command: ata.AtaCommand, counted: int
) -> None:
    """PRDBC of these stays as software has left it (AHCI 1.3.1 §5.4.1)."""
    with InProcessTarget(blockdevs=[DRIVE], devices=[HBA, DISK]) as target:
        guest, _, port = boot(target, Interrupts.POLLING)
        (sent,) = port.submit(command)
        guest.run(port.wait(sent))
        count = guest.memory.read(port.list + 32 * sent.slot + 4, 4)
        assert int.from_bytes(count, "little") == counted


def test_a_script_tells_how_much_queued_commands_have_moved() -> None:
    """PRDBC says nothing of them (AHCI 1.3.1 §5.4.1)."""
    script = """\
name: x
drives: [{driver: memory, node-name: d0, size: 1M}]
devices: [{driver: ich9-ahci, id: sata0}, {driver: ide-hd, bus: sata0.0, drive: d0}]
steps:
  - ata-probe: {}
  - ncq: {commands: [{command: read-fpdma-queued, lba: 0, count: 2}, {command: read-fpdma-queued, count: 3}]}
"""
    report = YamlScript(*parse(script, "f")).run(Options())
    assert report.failures == []
    assert report.steps[-1].answered.startswith("status 0x50, 2560 bytes")


def issue_two_reads(w: World, second: tuple[int, int]) -> None:
    """Two queued reads of a sector in one write of PxCI; `second`: what the PRD of the one behind has."""
    first = (w.guest.memory.allocate_zeroed(512), 511)
    for tag, (address, count) in enumerate((first, second)):
        fis = h2d_fis(replace(ata.read_queued(1, 1), count=tag << 3))
        table = fis.ljust(PRDT_OFFSET, b"\0") + PRD.pack(address, 0, count)
        w.guest.memory.write(w.table + 1024 * tag, table)
        w.guest.memory.write(w.port.list + HEADER.size * tag, HEADER.pack(5, 1, 0, w.table + 1024 * tag, 0))
    w.port.write(PortReg.IS, 0xFFFF_FFFF)
    w.issue(tags=3, slots=3)
    assert w.port.read(PortReg.CI) == w.port.read(PortReg.SACT) == 0
    assert w.port.read(PortReg.TFD) == 0x50


@pytest.mark.parametrize("drive", [DRIVE, SLOW], ids=["at once", "not at once"])
def test_a_prd_of_a_queued_read_asks_to_be_told_of(drive: dict[str, object]) -> None:
    """PxIS.DPS (AHCI 1.3.1 §3.3.5), whether its data is at hand or has to be waited for."""
    with world(drive=drive) as w:
        buffer = w.guest.memory.allocate_zeroed(512)
        issue_two_reads(w, (buffer, 511))
        assert w.status == PortIs.SDBS
        issue_two_reads(w, (buffer, 1 << 31 | 511))
        assert w.status == PortIs.SDBS | PortIs.DPS
        assert w.target.violations() == []


@pytest.mark.parametrize("drive", [DRIVE, SLOW], ids=["at once", "not at once"])
@pytest.mark.parametrize(("shift", "count"), [(1, 511), (0, 512)], ids=["address", "length"])
def test_an_odd_prd_of_a_queued_read_is_reported(drive: dict[str, object], shift: int, count: int) -> None:
    """Bit 0 of its address counts as 0, and the command ends as others do (AHCI 1.3.1 §4.2.3.3)."""
    with world(drive=drive) as w:
        w.guest.run(w.port.do(ata.write_dma_ext(1, b"\xa5" * 512)))
        buffer = w.guest.memory.allocate_zeroed(1024)
        issue_two_reads(w, (buffer + shift, count))
        assert w.status == PortIs.SDBS
        assert w.guest.memory.read(buffer, 513) == b"\xa5" * 512 + b"\0"
        assert w.clauses() == ["AHCI 1.3.1 §4.2.3.3"]
