"""A driver of a CD drive at a port of our HBA, in every way that it can hear of it and over both kinds of memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from guestsim.drivers import ata, cdb
from guestsim.drivers.ahci_layouts import PIO_SETUP, Cmd, PortIs, PortReg
from guestsim.drivers.ahci_port import AhciPort
from guestsim.drivers.transport import Interrupts
from guestsim.targets.inprocess import InProcessTarget

from .packet_stories import BLOCK, BLOCKS, OURS, STORIES, awake, block, send
from .stories import boot
from .test_stories import HBA

CD = {"driver": "ide-cd", "bus": "sata0.0", "drive": "c0", "id": "cd0", "serial": "SN2"}


@pytest.fixture(scope="module")
def disc(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """A node over a disc."""
    path: Path = tmp_path_factory.mktemp("packets") / "disc"
    path.write_bytes(b"".join(map(block, range(BLOCKS))))
    return {"driver": "file", "filename": str(path), "node-name": "c0", "read-only": True}


@pytest.mark.long
@pytest.mark.parametrize("story", [*STORIES, *OURS])
@pytest.mark.parametrize(
    ("interrupts", "shared"),
    [(Interrupts.MSIX, True), (Interrupts.INTX, False), (Interrupts.POLLING, True)],
    ids=["msi", "intx-bounced", "polling"],
)
def test_a_driver_finds_what_the_specification_says(
    disc: dict[str, object], story: str, interrupts: Interrupts, shared: bool
) -> None:
    with InProcessTarget(blockdevs=[disc], devices=[HBA, CD], shared=shared) as target:
        guest, _, port = boot(target, interrupts)
        guest.run({**STORIES, **OURS}[story](port))
        assert bool(port.interrupts) or interrupts is Interrupts.POLLING
        wrong = [("MMC-6 §4.1.9", f"cd0 LUN 0: 1 blocks at {BLOCKS} of {BLOCKS}")]
        assert target.violations() == (wrong if story == "fails_and_goes_on" else [])


@pytest.fixture
def port(disc: dict[str, object]) -> Iterator[AhciPort]:
    """The drive, which has told of its reset."""
    with InProcessTarget(blockdevs=[disc], devices=[HBA, CD]) as target:
        guest, _, port = boot(target)
        guest.run(awake(port))
        yield port


def setup(port: AhciPort) -> tuple[int, int, int, int]:
    """Flags, count, E_Status and transfer count of the PIO Setup FIS that was received last."""
    data = port.guest.memory.read(port.received + PIO_SETUP, 20)
    return data[1], data[12], data[15], int.from_bytes(data[16:18], "little")


def test_a_packet_is_asked_for_without_an_interrupt(port: AhciPort) -> None:
    port.guest.run(port.do(ata.packet(cdb.test_unit_ready().data)))
    assert setup(port) == (0, 1, 0xD0, 12)


@pytest.mark.parametrize("dma", [True, False])
def test_a_packet_that_could_not_be_asked_for_is_not_sent(port: AhciPort, dma: bool) -> None:
    """Nothing follows a PIO Setup FIS for which there is no memory (AHCI 1.3.1 §5.3.10, §6.1.1): HBFS alone."""
    guest = port.guest
    guest.run(port.stop())
    where = port.read(PortReg.FB)
    port.write(PortReg.FB, 0xF000_0000)
    port.write(PortReg.CMD, port.read(PortReg.CMD) | Cmd.ST)
    read = cdb.read_10(lba=0, blocks=1, block=BLOCK)
    port.submit(ata.packet(read.data, room=read.room, dma=dma))
    table = int.from_bytes(guest.memory.read(port.list + 8, 8), "little")
    data = int.from_bytes(guest.memory.read(table + 0x80, 8), "little")
    guest.memory.write(data, b"\xee" * BLOCK)
    assert isinstance(guest.target, InProcessTarget)
    guest.target.assembly.machine.run_until_idle()
    assert (port.read(PortReg.IS), port.read(PortReg.CI)) == (PortIs.HBFS, 1)
    assert port.read(PortReg.TFD) & 0x80
    assert guest.memory.read(data, BLOCK) == b"\xee" * BLOCK
    port.write(PortReg.CMD, port.read(PortReg.CMD) & ~Cmd.ST)
    port.write(PortReg.FB, where)
    guest.run(port.clear_errors())
    guest.run(port.comreset())
    guest.run(port.start())
    assert guest.run(port.do(ata.packet(cdb.test_unit_ready().data))).error >> 4 == 6


@pytest.mark.parametrize(
    ("limit", "last"), [(BLOCK, BLOCK), (1001, 96), (0xFFFE, 2 * BLOCK), (4095, 2), (4096, 4096)]
)
def test_byte_count_limits_are_kept(port: AhciPort, limit: int, last: int) -> None:
    read = cdb.read_10(lba=0, blocks=2, block=BLOCK)
    answer = port.guest.run(port.do(ata.packet(read.data, room=read.room, dma=False, limit=limit)))
    assert answer.data == block(0) + block(1)
    assert setup(port) == (0x60, 2, 0xD0, last)


def test_without_a_byte_count_limit_there_is_no_pio(port: AhciPort) -> None:
    read = cdb.read_10(lba=0, blocks=2, block=BLOCK)
    answer = port.guest.run(port.do(ata.packet(read.data, room=read.room, dma=False, limit=0)))
    assert (answer.error & 4, answer.moved) == (4, 0)


def test_a_packet_that_the_header_does_not_announce_is_none(port: AhciPort) -> None:
    command = ata.AtaCommand(ata.Opcode.PACKET, lba=0x800 << 8)
    answer = port.guest.run(port.do(command))
    assert answer.error == 4
    assert port.failed & PortIs.TFES
    assert isinstance(port.guest.target, InProcessTarget)
    assert port.guest.target.violations() == [
        ("AHCI 1.3.1 §4.2.2", "sata0 port 0: slot 0: PACKET without the header's A bit")
    ]
    port.guest.run(port.clear_errors())
    port.guest.run(port.identify())


def test_notifications_are_not_offered(port: AhciPort) -> None:
    """CAP.SSNTF is 0: neither does the drive offer them, nor can they be enabled (SATA 3.x §13.8)."""
    assert port.identity is not None
    assert not port.identity.words[78] & 1 << 5
    assert not port.guest.run(port.do(ata.set_features(0x10, 5))).ok


@pytest.mark.parametrize("dma", [True, False])
def test_a_table_that_is_too_short_is_an_overflow(disc: dict[str, object], dma: bool) -> None:
    """What there is room for is moved (AHCI 1.3.1 §3.3.5, OFS)."""
    with InProcessTarget(blockdevs=[disc], devices=[HBA, CD]) as target:
        guest, _, port = boot(target, Interrupts.POLLING)
        guest.run(awake(port))
        read = cdb.read_10(lba=0, blocks=2, block=BLOCK)
        (pending,) = port.submit(ata.packet(read.data, room=read.room, dma=dma), pieces=[BLOCK + 100])
        target.assembly.machine.run_until_idle()
        assert port.read(PortReg.IS) & PortIs.OFS
        answer = guest.run(port.wait(pending))
        assert (answer.moved, answer.data) == (BLOCK + 100, (block(0) + block(1))[: BLOCK + 100])
        assert [clause for clause, _ in target.violations() or ()] == ["AHCI 1.3.1 §3.3.5"]
        guest.run(port.clear_errors())
        assert guest.run(port.do(ata.packet(read.data, room=read.room))).data == block(0) + block(1)


def test_a_reset_ends_a_packet_that_is_under_way(disc: dict[str, object]) -> None:
    slow = {"driver": "delay", "read-ns": 10**9, "node-name": "c0", "file": {**disc, "node-name": "f0"}}
    with InProcessTarget(blockdevs=[slow], devices=[HBA, CD]) as target:
        guest, _, port = boot(target)
        guest.run(awake(port))
        read = cdb.read_10(lba=0, blocks=2, block=BLOCK)
        (pending,) = port.submit(ata.packet(read.data, room=read.room))
        guest.run(guest.sleep(1_000_000))
        assert port.read(PortReg.TFD) & 0x80
        guest.run(port.stop())
        guest.run(port.comreset())
        guest.run(port.start())
        assert pending.dropped
        assert port.read(PortReg.SIG) == 0xEB14_0101
        guest.run(awake(port))
        assert guest.run(port.do(ata.packet(read.data, room=read.room))).data == block(0) + block(1)


@pytest.mark.parametrize(
    ("limit", "told", "last"), [(0xF000, 4096, 2048), (3000, 1096, 1096), (1024, 1024, 1024)]
)
def test_qemus_drive_tells_of_a_block_as_a_whole_and_counts_its_last_part(
    disc: dict[str, object], limit: int, told: int, last: int
) -> None:
    with InProcessTarget(blockdevs=[disc], devices=[HBA, CD], profile="qemu") as target:
        guest, _, port = boot(target)
        guest.run(send(port, cdb.read_10(lba=3, blocks=2, block=BLOCK), dma=False, limit=limit))
        data = port.guest.memory.read(port.received + PIO_SETUP, 20)
        assert (int.from_bytes(data[5:7], "little"), int.from_bytes(data[16:18], "little")) == (told, last)
