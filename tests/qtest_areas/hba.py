"""An AHCI HBA driven by hand: one command after the other in slot 0, every sign of its end looked at (AHCI 1.3.1).

It knows addresses only, so that it goes on with another machine after a migration (`machine`).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from guestsim.drivers.ahci_layouts import (
    ACMD_OFFSET,
    COMMAND_LIST_SIZE,
    D2H,
    DET_PRESENT,
    FIS_D2H,
    FIS_PIO_SETUP,
    HEADER,
    HEADER_ATAPI,
    HEADER_WRITE,
    PIO_SETUP,
    PORT_STRIDE,
    PORTS_OFFSET,
    PRD,
    PRDT_OFFSET,
    RECEIVED_SIZE,
    SIGNATURE_ATAPI,
    Cmd,
    Ghc,
    Hba,
    PortIs,
    PortReg,
    h2d_fis,
)
from guestsim.drivers.ata import AtaCommand, AtaStatus
from tests.qtest_areas.bench import Machine

SLOT, FUNCTION = 0x1F, 2
ABAR = 0x24
PLACE = 0xE000_0000
FIRST_RAM = 0x10_0000
PAGE = 4096
MAX_PRD = 4 << 20
PATIENCE = 20_000
ENDED = AtaStatus.BSY | AtaStatus.DRQ


@dataclass(frozen=True, slots=True)
class Issued:
    """A command in slot 0: its buffer, how many bytes it moves, its data blocks by PIO, what PxIS shows at its end."""

    command: AtaCommand
    buffer: int
    length: int
    pio: bool
    expected: PortIs
    block: int


class ByHand:
    """The function at 00:1f.2 of q35."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._next = FIRST_RAM
        self.port = -1
        self.lists: dict[int, tuple[int, int]] = {}
        """Command list and received FIS area, by port."""
        self.table = 0
        assert self.config(0) == 0x2922_8086

    # --- configuration space, and memory

    def config(self, offset: int, size: int = 4) -> int:
        self.machine.io_write(0xCF8, 4, 1 << 31 | SLOT << 11 | FUNCTION << 8 | offset & ~3)
        return self.machine.io_read(0xCFC + offset % 4, size)

    def set_config(self, offset: int, size: int, value: int) -> None:
        self.machine.io_write(0xCF8, 4, 1 << 31 | SLOT << 11 | FUNCTION << 8 | offset & ~3)
        self.machine.io_write(0xCFC + offset % 4, size, value)

    def capabilities(self) -> dict[int, int]:
        """Offset by id, in their order."""
        found = {}
        offset = self.config(0x34, 1)
        while offset:
            found[self.config(offset, 1)] = offset
            offset = self.config(offset + 1, 1)
        return found

    def allocate(self, size: int, align: int = PAGE) -> int:
        address = -(-self._next // align) * align
        self._next = address + size
        return address

    def put(self, data: bytes) -> int:
        address = self.allocate(len(data))
        self.machine.ram_write(address, data)
        return address

    # --- registers

    def read(self, register: int) -> int:
        return self.machine.read(PLACE + register, 4)

    def write(self, register: int, value: int) -> None:
        self.machine.write(PLACE + register, 4, value)

    def get(self, register: int, port: int | None = None) -> int:
        """Of the port in use, or of another one."""
        return self.read(PORTS_OFFSET + PORT_STRIDE * (self.port if port is None else port) + register)

    def set(self, register: int, value: int, port: int | None = None) -> None:
        self.write(PORTS_OFFSET + PORT_STRIDE * (self.port if port is None else port) + register, value)

    def wait(self, register: int, mask: int, value: int, port: int | None = None) -> int:
        for _ in range(PATIENCE):
            now = self.get(register, port)
            if now & mask == value:
                return now
        raise AssertionError(f"port register {register:#x}: {now:#x}, expected {value:#x} of {mask:#x}")

    # --- bringing up

    def enable_function(self) -> int:
        """Find out how large ABAR is, place it, and let the function decode and master; returns the size."""
        self.set_config(ABAR, 4, 0xFFFF_FFFF)
        size = -(self.config(ABAR) & ~0xF) & 0xFFFF_FFFF
        self.set_config(ABAR, 4, PLACE)
        assert self.config(ABAR) == PLACE
        self.set_config(4, 2, self.config(4, 2) | 0x7)
        assert self.config(4, 2) & 0x7 == 0x7
        return size

    def enable(self) -> None:
        """AHCI mode, memory for each port, and those started that have a device (§10.1.2)."""
        self.write(Hba.GHC, Ghc.AE)
        assert self.read(Hba.GHC) & Ghc.AE
        self.lists.clear()
        for port in range(32):
            if self.read(Hba.PI) >> port & 1:
                self._enable_port(port)
        self.write(Hba.GHC, self.read(Hba.GHC) | Ghc.IE)
        self.port = next(port for port in self.lists if self.get(PortReg.CMD, port) & Cmd.CR)
        self.table = self.allocate(PRDT_OFFSET + PRD.size * 256, 128)

    def _enable_port(self, port: int) -> None:
        command = self.get(PortReg.CMD, port)
        if command & (Cmd.ST | Cmd.CR | Cmd.FRE | Cmd.FR):
            self.set(PortReg.CMD, command & ~Cmd.ST & 0xFFFF_FFFF, port)
            self.wait(PortReg.CMD, Cmd.CR, 0, port)
            self.set(PortReg.CMD, command & ~(Cmd.ST | Cmd.FRE) & 0xFFFF_FFFF, port)
            self.wait(PortReg.CMD, Cmd.FR, 0, port)
        places = self.put(bytes(COMMAND_LIST_SIZE)), self.put(bytes(RECEIVED_SIZE))
        self.lists[port] = places
        for register, address in zip((PortReg.CLB, PortReg.FB), places, strict=True):
            self.set(register, address, port)
            assert self.get(register, port) == address
        self.set(PortReg.CMD, self.get(PortReg.CMD, port) | Cmd.FRE, port)
        self.wait(PortReg.CMD, Cmd.FR, Cmd.FR, port)
        self.set(PortReg.SERR, 0xFFFF_FFFF, port)
        assert self.get(PortReg.SERR, port) == 0
        self.set(PortReg.IS, 0xFFFF_FFFF, port)
        assert self.get(PortReg.IS, port) == 0
        self.set(PortReg.IE, 0xFFFF_FFFF, port)
        if self.get(PortReg.SSTS, port) & 0xF != DET_PRESENT:
            return
        if not self.get(PortReg.TFD, port) & ENDED:
            self.set(PortReg.CMD, self.get(PortReg.CMD, port) | Cmd.ST, port)
            self.wait(PortReg.CMD, Cmd.CR, Cmd.CR, port)

    def up(self) -> ByHand:
        """All of it, and IDENTIFY DEVICE or IDENTIFY PACKET DEVICE."""
        self.enable_function()
        self.enable()
        self.clear()
        self.identity()
        return self

    def identity(self) -> bytes:
        opcode = 0xA1 if self.get(PortReg.SIG) == SIGNATURE_ATAPI else 0xEC
        return self.read_in(AtaCommand(opcode, room=512), pio=True)

    def clear(self) -> None:
        """Forget what was received and told."""
        self.machine.ram_write(self.lists[self.port][1], bytes(RECEIVED_SIZE))
        self.set(PortReg.SERR, 0xFFFF_FFFF)
        self.set(PortReg.IS, 0xFFFF_FFFF)
        self.write(Hba.IS, 1 << self.port)
        assert self.get(PortReg.IS) == 0

    # --- commands

    def issue(
        self,
        command: AtaCommand,
        buffer: int,
        *,
        pio: bool = False,
        piece: int = MAX_PRD,
        block: int = 512,
    ) -> Issued:
        """Put a command into slot 0 and issue it; its data lies at `buffer`, in regions of `piece` bytes."""
        length = len(command.out) or command.room
        command = command.tagged(0)
        regions = [(buffer + at, min(piece, length - at)) for at in range(0, length, piece)]
        table = bytearray(h2d_fis(command).ljust(PRDT_OFFSET, b"\0"))
        table[ACMD_OFFSET : ACMD_OFFSET + len(command.packet)] = command.packet
        for address, size in regions:
            table += PRD.pack(address, 0, size - 1)
        self.machine.ram_write(self.table, bytes(table))
        flags = 5 | (HEADER_WRITE if command.out else 0) | (HEADER_ATAPI if command.packet else 0)
        self.machine.ram_write(self.lists[self.port][0], HEADER.pack(flags, len(regions), 0, self.table, 0))
        if command.queued:
            self.set(PortReg.SACT, 1)
        self.set(PortReg.CI, 1)
        expected = PortIs.SDBS if command.queued else PortIs.DHRS
        # Of the packet, and of the first block of what is written, the HBA is told without an interrupt.
        blocks = -(-length // block) - bool(command.out)
        if pio and blocks > 0 and not (command.packet and command.features & 1):
            expected |= PortIs.PSS
        return Issued(command, buffer, length, pio, expected, block)

    def end(self, issued: Issued) -> None:
        """Wait for its end, and see that everything says so."""
        self.wait(PortReg.CI, 1, 0)
        self.wait(PortReg.SACT, 1, 0)
        self.wait(PortReg.TFD, ENDED, 0)
        told, taskfile = PortIs(self.get(PortReg.IS)), self.get(PortReg.TFD)
        assert self.get(PortReg.SERR) == 0
        assert told == issued.expected, f"PxIS {told!r}, expected {issued.expected!r}"
        assert taskfile & 0xFFFF_FF21 == 0, f"PxTFD {taskfile:#x}"
        self.set(PortReg.IS, told)
        assert self.get(PortReg.IS) == 0
        clb, received = self.lists[self.port]
        _, _, moved, _, _ = HEADER.unpack(self.machine.ram_read(clb, HEADER.size))
        if not issued.command.queued:
            assert moved == issued.length, f"PRDBC {moved}, expected {issued.length}"
            fis = self.machine.ram_read(received + D2H, 20)
            assert (fis[0], fis[2], fis[3]) == (FIS_D2H, taskfile & 0xFF, 0), fis.hex(" ")
        if issued.pio:
            self._check_setup(issued, self.machine.ram_read(received + PIO_SETUP, 20))

    def end_failed(self) -> int:
        """The command fails; its error register, after the port has been started anew (§6.2.2.1)."""
        self.wait(PortReg.IS, PortIs.TFES, PortIs.TFES)
        taskfile = self.wait(PortReg.TFD, ENDED | AtaStatus.ERR, AtaStatus.ERR)
        command = self.get(PortReg.CMD)
        self.set(PortReg.CMD, command & ~Cmd.ST & 0xFFFF_FFFF)
        self.wait(PortReg.CMD, Cmd.CR, 0)
        assert self.get(PortReg.CI) == 0
        self.clear()
        self.set(PortReg.CMD, command | Cmd.ST)
        self.wait(PortReg.CMD, Cmd.CR, Cmd.CR)
        return taskfile >> 8

    def _check_setup(self, issued: Issued, fis: bytes) -> None:
        """The PIO Setup FIS of the last data block, or of the packet where no data followed it that way."""
        (count,) = struct.unpack_from("<H", fis, 16)
        assert fis[0] == FIS_PIO_SETUP, fis.hex(" ")
        if issued.command.packet and (not issued.length or issued.command.features & 1):
            assert count in (12, 16), count
        else:
            assert count == (issued.length % issued.block or issued.block), count

    def do(self, command: AtaCommand, buffer: int = 0, *, pio: bool = False, piece: int = MAX_PRD) -> None:
        self.end(self.issue(command, buffer, pio=pio, piece=piece))

    def read_in(self, command: AtaCommand, *, pio: bool = False, piece: int = MAX_PRD) -> bytes:
        """A command that reads; its data."""
        buffer = self.put(bytes(command.room))
        self.do(command, buffer, pio=pio, piece=piece)
        return self.machine.ram_read(buffer, command.room)

    def write_out(self, command: AtaCommand, *, pio: bool = False, piece: int = MAX_PRD) -> None:
        """A command that writes."""
        self.do(command, self.put(command.out), pio=pio, piece=piece)

    # --- packets

    def packet(
        self, cdb: Sequence[int], *, room: int = 0, dma: bool = False, limit: int | None = None
    ) -> bytes:
        """A command packet; by PIO, data comes in blocks of at most `limit` bytes."""
        buffer = self.put(bytes(room)) if room else 0
        self.end(self.issue_packet(cdb, buffer, room=room, dma=dma, limit=limit))
        return self.machine.ram_read(buffer, room) if room else b""

    def issue_packet(
        self,
        cdb: Sequence[int],
        buffer: int = 0,
        *,
        room: int = 0,
        dma: bool = False,
        limit: int | None = None,
    ) -> Issued:
        """Issue it."""
        most = min(room, 0xF800) if limit is None else limit
        packet = bytes(cdb).ljust(16, b"\0")
        command = AtaCommand(0xA0, features=int(dma), lba=most << 8, room=room, packet=packet)
        return self.issue(command, buffer, pio=True, block=2048)
