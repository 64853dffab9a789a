"""IDE, over pc's PIIX3: what QEMU's program for it looks at, register by register (ATA/ATAPI-7, SFF-8038i)."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from guestsim.drivers.ide import IdeChannel, IdeController
from guestsim.drivers.ide_layouts import (
    DEV,
    EOT,
    LBA_MODE,
    START,
    TO_MEMORY,
    AtaCommand,
    AtaStatus,
    BmStatus,
    BusMaster,
    Reg,
)
from guestsim.drivers.pci import COMMAND_IO, COMMAND_MASTER, COMMAND_MEMORY, PciFunction, scan
from guestsim.guest import Guest
from tests.qtest_areas.bench import MIB, Area, Bench, Machine, pattern

AREA = Area("IDE", 13)
SIZE = 64 * MIB
BLOCK = 2048
BYTE_COUNT = 5120
"""The most bytes of a DRQ data block that the drive is asked for."""
ABRT = 0x04
DSM = 0x06
IRQ = 14
BUSY_FOR = 20_000
"""How often a status is looked at before it is said to stay as it is."""


class Ide:
    """The primary channel of a machine's controller, driven register by register."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.guest = Guest(machine)
        self.function: PciFunction = next(
            each for each in scan(self.guest) if (each.slot, each.function) == (1, 1)
        )
        assert (self.function.vendor, self.function.device) == (0x8086, 0x7010)
        self.channel: IdeChannel = IdeController(self.guest, self.function).channels[0]
        self.get, self.set = self.channel.get, self.channel.set
        self.master = self.channel.master

    def data(self, length: int) -> bytes:
        return self.channel.read_block(length)

    def put(self, data: bytes) -> int:
        return self.guest.memory.store(data, 4096)

    def check(self, *, has: int, lacks: int) -> int:
        """The status, of which some bits are set and others clear."""
        status = self.get(Reg.STATUS)
        assert status & has == has, f"status {status:#x} lacks some of {has:#x}"
        assert not status & lacks, f"status {status:#x} has some of {lacks:#x}"
        return status

    def wait_clear(self, bits: int) -> int:
        for _ in range(BUSY_FOR):
            status = self.get(Reg.STATUS)
            if not status & bits:
                return status
            self.machine.step(400)
        raise AssertionError(f"status {status:#x}: {bits:#x} stays")

    def wait_interrupt(self) -> None:
        for _ in range(BUSY_FOR):
            if self.machine.irq_level(IRQ):
                return
            self.machine.step(400)
        raise AssertionError("no interrupt came")

    def dma(
        self,
        command: int,
        regions: Sequence[tuple[int, int]],
        *,
        sector: int = 0,
        count: int = 1,
        out: bool = False,
        packet: bytes = b"",
        abort: bool = False,
    ) -> int:
        """A command by DMA over a table of (address, second dword); the bus master's status at its end."""
        self.set(Reg.DEVICE, LBA_MODE)
        self.master.write(BusMaster.COMMAND, 1, 0)
        self.master.write(BusMaster.STATUS, 1, BmStatus.INTERRUPT)
        table = self.guest.memory.store(b"".join(struct.pack("<II", *each) for each in regions), 0x1_0000)
        self.master.write(BusMaster.TABLE, 4, table)
        if packet or command == DSM:
            self.set(Reg.ERROR, 1)
        if not packet:
            self.set(Reg.COUNT, count & 0xFF)
            for at, register in enumerate((Reg.LBA_LOW, Reg.LBA_MID, Reg.LBA_HIGH)):
                self.set(register, sector >> 8 * at & 0xFF)
        self.set(Reg.STATUS, command)
        if packet:
            self.channel.write_block(packet)
        self.master.write(BusMaster.COMMAND, 1, START | (0 if out else TO_MEMORY))
        if abort:
            self.master.write(BusMaster.COMMAND, 1, 0)
        status = self._ended()
        assert self.machine.irq_level(IRQ) == bool(status & BmStatus.INTERRUPT)
        self.check(has=AtaStatus.DRDY, lacks=AtaStatus.BSY | AtaStatus.DRQ)
        assert not self.machine.irq_level(IRQ), "the status was read"
        if status & BmStatus.ACTIVE:
            self.master.write(BusMaster.COMMAND, 1, 0)
        self.guest.memory.free(table)
        return status

    def _ended(self) -> int:
        for _ in range(BUSY_FOR):
            status = self.master.read(BusMaster.STATUS, 1)
            if status & (BmStatus.ACTIVE | BmStatus.INTERRUPT) != BmStatus.ACTIVE:
                return status
        raise AssertionError("the transfer does not end")

    def write_sector(self, sector: int, data: bytes) -> None:
        """By DMA, and all is well."""
        buffer = self.put(data)
        assert (
            self.dma(AtaCommand.WRITE_DMA, [(buffer, len(data) | EOT)], sector=sector, out=True)
            == BmStatus.INTERRUPT
        )
        self.check(has=0, lacks=AtaStatus.DF | AtaStatus.ERR)

    def command(self, opcode: int) -> None:
        """To device 0."""
        self.set(Reg.DEVICE, 0)
        self.set(Reg.STATUS, opcode)

    def flush_ends(self) -> None:
        """A flush that was seen busy comes to its end."""
        assert not self.get(Reg.DEVICE) & DEV
        status = self.wait_clear(AtaStatus.BSY)
        assert status & AtaStatus.DRDY
        assert not status & (AtaStatus.DF | AtaStatus.ERR | AtaStatus.DRQ)


def _disk(bench: Bench) -> Ide:
    image = bench.image(SIZE)
    return Ide(
        bench.machine(
            "pc",
            f"-drive file={image},if=ide,cache=writeback,format=raw",
            "-global ide-hd.serial=testdisk -global ide-hd.ver=version",
        )
    )


@AREA.does("IDENTIFY DEVICE by PIO: DRDY and DRQ before each word, serial number, version, write cache on")
def identify(bench: Bench) -> None:
    ide = _disk(bench)
    ide.command(AtaCommand.IDENTIFY_DEVICE)
    assert not ide.get(Reg.DEVICE) & DEV
    words = []
    for _ in range(256):
        ide.check(has=AtaStatus.DRDY | AtaStatus.DRQ, lacks=AtaStatus.BSY | AtaStatus.DF | AtaStatus.ERR)
        words.append(ide.channel.command.read(Reg.DATA, 2))
    ide.check(has=AtaStatus.DRDY, lacks=AtaStatus.BSY | AtaStatus.DF | AtaStatus.ERR | AtaStatus.DRQ)
    text = b"".join(word.to_bytes(2, "big") for word in words)
    assert text[20:40] == b"testdisk".ljust(20)
    assert text[46:54] == b"version "
    assert words[85] & 0x20


@AREA.does("EXECUTE DEVICE DIAGNOSTIC given to device 1: device 0 is selected afterwards")
def diagnostic(bench: Bench) -> None:
    nodes = [
        f"-blockdev driver=file,node-name={name},filename={bench.image(SIZE, name)}"
        for name in ("hda", "hdb")
    ]
    disks = [f"-device ide-hd,drive={name},bus=ide.0,unit={unit}" for unit, name in enumerate(("hda", "hdb"))]
    ide = Ide(bench.machine("pc", *nodes, *disks))
    ide.set(Reg.DEVICE, DEV)
    assert ide.get(Reg.DEVICE) & DEV
    ide.set(Reg.STATUS, AtaCommand.EXECUTE_DEVICE_DIAGNOSTIC)
    ide.wait_clear(AtaStatus.BSY)
    assert not ide.get(Reg.DEVICE) & DEV


@AREA.does("READ DMA and WRITE DMA of two sectors: interrupts, bus master status 04h, the data")
def bmdma_simple(bench: Bench) -> None:
    ide = _disk(bench)
    for sector, byte in ((0, b"\x55"), (1, b"\xaa")):
        ide.write_sector(sector, byte * 512)
    buffer = ide.put(bytes(512))
    for sector, byte in ((0, b"\x55"), (1, b"\xaa")):
        assert ide.dma(AtaCommand.READ_DMA, [(buffer, 512 | EOT)], sector=sector) == BmStatus.INTERRUPT
        ide.check(has=0, lacks=AtaStatus.DF | AtaStatus.ERR)
        assert ide.machine.ram_read(buffer, 512) == byte * 512


@AREA.does("DATA SET MANAGEMENT with TRIM; a range that goes beyond the end: ERR and ABRT")
def bmdma_trim(bench: Bench) -> None:
    ide = _disk(bench)

    def trim(*ranges: tuple[int, int]) -> None:
        data = b"".join((sector | count << 48).to_bytes(8, "little") for sector, count in ranges)
        buffer = ide.put(data.ljust(512, b"\0"))
        status = ide.dma(DSM, [(buffer, 512 | EOT)], out=True)
        assert status == BmStatus.INTERRUPT, (status, ide.get(Reg.STATUS), ide.get(Reg.ERROR))

    trim((0, 2), (6, 8))
    ide.check(has=0, lacks=AtaStatus.DF | AtaStatus.ERR)
    trim((10, 1), (SIZE // 512 - 1, 2))
    ide.check(has=AtaStatus.ERR, lacks=0)
    assert ide.get(Reg.ERROR) & ABRT


@AREA.does(
    "tables shorter than, as long as and longer than 1 to 256 sectors: the bus master's status, also when stopped"
)
def bmdma_various_tables(bench: Bench) -> None:
    ide = _disk(bench)
    for sectors in (1, 2, 4, 8, 16, 32, 64, 128, 256):
        wanted = 512 * sectors
        sizes = {0, 256, 512, 0x1000, 0x8000, 0xFF00, *range(0x3700, 0x10000, 0x3700)}
        sizes |= {
            size for size in (wanted - 256, wanted, wanted + 256, wanted - 2, wanted + 2) if 0 < size < 65536
        }
        for size in sorted(sizes):
            room = size or 65536
            ended = 0 if room < wanted else BmStatus.INTERRUPT
            active = BmStatus.ACTIVE if room > wanted else 0
            for abort in (False, True):
                status = ide.dma(AtaCommand.READ_DMA, [(0, size | EOT)], count=sectors, abort=abort)
                assert status == ended | (0 if abort else active), (sectors, size, abort, status)
                ide.check(has=0, lacks=AtaStatus.DF | AtaStatus.ERR)


@AREA.does("a table without an end, no bus mastering: the transfer ends, and nobody is harmed")
def bmdma_no_busmaster(bench: Bench) -> None:
    ide = _disk(bench)
    ide.function.set_command(on=COMMAND_IO | COMMAND_MEMORY, off=COMMAND_MASTER)
    status = ide.dma(AtaCommand.READ_DMA, [(0, 0)] * 4096, count=512)
    assert status == BmStatus.ACTIVE | BmStatus.INTERRUPT, f"{status:#x}"
    ide.check(has=0, lacks=AtaStatus.DF | AtaStatus.ERR)


@AREA.does("FLUSH CACHE held at blkdebug's break point flush_to_os: BSY until it is resumed")
def flush(bench: Bench) -> None:
    ide = Ide(
        bench.machine("pc", f"-drive file=blkdebug::{bench.image(SIZE)},if=ide,cache=writeback,format=raw")
    )
    ide.write_sector(1, pattern(512))
    ide.machine.hmp('qemu-io ide0-hd0 "break flush_to_os A"')
    ide.command(AtaCommand.FLUSH_CACHE)
    ide.check(has=AtaStatus.BSY | AtaStatus.DRDY, lacks=AtaStatus.DF | AtaStatus.ERR | AtaStatus.DRQ)
    ide.machine.hmp('qemu-io ide0-hd0 "resume A"')
    ide.flush_ends()


@AREA.does("a flush that fails stops the machine (werror=stop), and is done again after cont")
def flush_retry(bench: Bench) -> None:
    config = bench.failing_once("flush_to_disk")
    image = f"blkdebug:{config}:{bench.image(SIZE)}"
    drive = f"-drive file={image},if=ide,cache=writeback,format=raw,rerror=stop,werror=stop"
    ide = Ide(bench.machine("pc", drive))
    ide.write_sector(1, pattern(512))
    ide.command(AtaCommand.FLUSH_CACHE)
    ide.check(has=AtaStatus.BSY | AtaStatus.DRDY, lacks=AtaStatus.DF | AtaStatus.ERR | AtaStatus.DRQ)
    ide.machine.wait_event("STOP")
    ide.machine.cont()
    ide.flush_ends()


@AREA.does("FLUSH CACHE where no device is: nobody is harmed")
def flush_nodev(bench: Bench) -> None:
    ide = Ide(bench.machine("pc"))
    ide.command(AtaCommand.FLUSH_CACHE)
    assert ide.machine.qmp("query-status")


@AREA.does("FLUSH CACHE to a CD-ROM drive without a medium: nobody is harmed")
def flush_empty_drive(bench: Bench) -> None:
    ide = Ide(bench.machine("pc", "-device ide-cd,bus=ide.0"))
    ide.command(AtaCommand.FLUSH_CACHE)
    assert ide.machine.qmp("query-status")


def _cd(bench: Bench, blocks: int) -> tuple[Ide, bytes]:
    data = pattern(max(16, blocks) * BLOCK, step=BLOCK)
    image = bench.image(len(data), "cd.iso", data)
    drive = f"-drive if=none,file={image},media=cdrom,format=raw,id=sr0,index=0"
    return Ide(bench.machine("pc", drive, "-device ide-cd,drive=sr0,bus=ide.0")), data


def _read10(blocks: int) -> bytes:
    return struct.pack(">BxIxHxxx", 0x28, 0, blocks)


def _cd_pio(bench: Bench, blocks: int) -> None:
    ide, data = _cd(bench, blocks)
    ide.set(Reg.DEVICE, 0)
    ide.set(Reg.LBA_MID, BYTE_COUNT & 0xFF)
    ide.set(Reg.LBA_HIGH, BYTE_COUNT >> 8)
    ide.set(Reg.STATUS, AtaCommand.PACKET)
    ide.machine.step(400)
    status = ide.wait_clear(AtaStatus.BSY)
    assert status & (AtaStatus.DRQ | AtaStatus.DRDY) == AtaStatus.DRQ | AtaStatus.DRDY
    assert not status & (AtaStatus.ERR | AtaStatus.DF)
    ide.channel.write_block(_read10(blocks))
    length = BLOCK * blocks
    got = b""
    while len(got) < length:
        ide.wait_interrupt()
        status = ide.wait_clear(AtaStatus.BSY)
        assert status & (AtaStatus.DRQ | AtaStatus.DRDY) == AtaStatus.DRQ | AtaStatus.DRDY, (
            f"{status:#x} at {len(got)}"
        )
        assert not status & (AtaStatus.ERR | AtaStatus.DF)
        got += ide.data(min(BYTE_COUNT, length - len(got)))
    ide.wait_interrupt()
    status = ide.wait_clear(AtaStatus.DRQ)
    assert status & AtaStatus.DRDY
    assert not status & (AtaStatus.ERR | AtaStatus.DF | AtaStatus.BSY)
    assert got == data[:length]


@AREA.does("READ (10) of one block of a CD by PIO: an interrupt for the block, one for the end")
def cdrom_pio(bench: Bench) -> None:
    _cd_pio(bench, 1)


@AREA.does("READ (10) of ten blocks by PIO in DRQ data blocks of 5120 bytes")
def cdrom_pio_large(bench: Bench) -> None:
    _cd_pio(bench, BYTE_COUNT * 4 // BLOCK)


@AREA.does("READ (10) of one block of a CD by DMA")
def cdrom_dma(bench: Bench) -> None:
    ide, data = _cd(bench, 1)
    buffer = ide.put(bytes(BLOCK))
    ide.dma(AtaCommand.PACKET, [(buffer, BLOCK | EOT)], packet=_read10(1))
    assert ide.machine.ram_read(buffer, BLOCK) == data[:BLOCK]
