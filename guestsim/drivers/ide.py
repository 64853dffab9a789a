"""IDE as an operating system drives it: a PCI function's channels, their devices, commands by PIO and by DMA.

A command is a `Task`, its answer a `Reply`.  The driver waits for interrupts where it has them on, else it polls the
alternate status register.  ATA/ATAPI-7 vol. 2 §7 for the protocols, SFF-8038i for the bus master.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from guestsim.drivers.ide_layouts import (
    COMMAND_PORTS,
    CONTROL_PORTS,
    DEV,
    DISK_SIGNATURE,
    EOT,
    IDETIM,
    IDETIM_DECODE,
    IRQS,
    NATIVE,
    OBSOLETE,
    PACKET_SIGNATURE,
    PROG_IF,
    REGION_BORDER,
    START,
    TO_MEMORY,
    AtaCommand,
    AtaStatus,
    BmStatus,
    BusMaster,
    Control,
    Reason,
    Reg,
)
from guestsim.drivers.ide_task import Reply, Task, Way
from guestsim.drivers.pci import Bar, PciFunction
from guestsim.errors import GuestCheckError, GuestError, GuestTimeoutError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guestsim.guest import Guest

PACKET_BYTES = 12
BLOCK_LIMIT = 0xFFFE
LONG_WAIT_NS = 3_000_000_000


class IdeChannel:
    """One channel.  `interrupts` counts those that came; `polling` switches them off (nIEN)."""

    def __init__(
        self, guest: Guest, number: int, command: Bar, control: Bar, master: Bar, *, wide_data: bool = False
    ) -> None:
        self.guest = guest
        self.number = number
        self.command = command
        self.control = control
        self.master = master
        self.wide_data = wide_data
        self.polling = False
        self.interrupts = 0
        self.block_bytes = 512
        """Bytes in a DRQ data block of disks; 0: all that a command moves."""
        self._seen = 0
        self._master_status = 0
        """The bus master's as it was seen last."""

    # --- registers

    def get(self, register: Reg) -> int:
        """Read a register of the command block."""
        return self.command.read(register, 1)

    def set(self, register: Reg, value: int) -> None:
        """Write one."""
        self.command.write(register, 1, value)

    @property
    def alternate_status(self) -> int:
        """The status, which acknowledges nothing."""
        return self.control.read(0, 1)

    def set_control(self, value: int) -> None:
        """Write the device control register."""
        self.control.write(0, 1, value | (Control.NIEN if self.polling else 0))

    def select(self, unit: int, bits: int = 0) -> None:
        """Select a device."""
        self.set(Reg.DEVICE, OBSOLETE | (DEV if unit else 0) | bits)

    # --- interrupts

    def interrupted(self) -> bool:
        """The interrupt handler: is it this channel's?"""
        status = self.master.read(BusMaster.STATUS, 1)
        if not status & BmStatus.INTERRUPT:
            return False
        self.get(Reg.STATUS)
        self.master.write(BusMaster.STATUS, 1, status & 0x60 | BmStatus.INTERRUPT)
        self._master_status = status
        self.interrupts += 1
        return True

    async def wait_idle(self, what: str, timeout_ns: int | None = None) -> int:
        """Poll until BSY is clear; returns the status."""
        await self.guest.wait_until(lambda: not self.alternate_status & AtaStatus.BSY, what, timeout_ns)
        return self.alternate_status

    async def _wait(self, what: str) -> int:
        """Wait for the device's next word: an interrupt, or where there are none, the end of BSY."""
        if self.polling:
            return await self.wait_idle(what)
        await self.guest.wait_until(lambda: self.interrupts > self._seen, f"an interrupt ({what})")
        self._seen += 1
        return await self.wait_idle(what)

    # --- resets

    async def reset(self) -> None:
        """SRST, then wait for both devices (ATA/ATAPI-7 vol. 2 §7.3)."""
        self.set_control(Control.SRST)
        await self.guest.sleep(5_000)
        self.set_control(0)
        await self.guest.sleep(2_000_000)
        await self.wait_idle("the end of a software reset")
        self._seen = self.interrupts

    def signature(self, unit: int) -> tuple[int, int, int, int]:
        """Count and LBA low, mid, high."""
        self.select(unit)
        return (
            self.get(Reg.COUNT),
            self.get(Reg.LBA_LOW),
            self.get(Reg.LBA_MID),
            self.get(Reg.LBA_HIGH),
        )

    def present(self, unit: int) -> bool:
        """Whether registers of a device there keep what is written, as libata finds out."""
        self.select(unit)
        for first, second in ((0x55, 0xAA), (0xAA, 0x55)):
            self.set(Reg.COUNT, first)
            self.set(Reg.LBA_LOW, second)
        return (self.get(Reg.COUNT), self.get(Reg.LBA_LOW)) == (0xAA, 0x55)

    # --- commands

    def write_task(self, unit: int, task: Task) -> None:
        """Write the registers of a command, and the command."""
        self.select(unit, task.device & ~(OBSOLETE | DEV))
        if task.wide:
            self.set(Reg.ERROR, task.features >> 8)
            self.set(Reg.COUNT, task.count >> 8 & 0xFF)
            for at, register in enumerate((Reg.LBA_LOW, Reg.LBA_MID, Reg.LBA_HIGH)):
                self.set(register, task.lba >> 24 + 8 * at & 0xFF)
        self.set(Reg.ERROR, task.features & 0xFF)
        self.set(Reg.COUNT, task.count & 0xFF)
        for at, register in enumerate((Reg.LBA_LOW, Reg.LBA_MID, Reg.LBA_HIGH)):
            self.set(register, task.lba >> 8 * at & 0xFF)
        self.set(Reg.STATUS, task.command)

    async def do(self, unit: int, task: Task) -> Reply:
        """Give a command and see it to its end."""
        self.select(unit)
        await self.wait_idle("a device that takes commands")
        self._seen = self.interrupts
        if task.way.dma:
            return await self._dma(unit, task)
        self.write_task(unit, task)
        reply = Reply()
        if task.way is Way.PIO_IN:
            await self._pio_in(task, reply)
        elif task.way is Way.PIO_OUT:
            await self._pio_out(task, reply)
        else:
            await self._wait("the end of a command")
        return self._end(reply, wide=task.wide)

    def _end(self, reply: Reply, *, wide: bool = False) -> Reply:
        reply.status = self.get(Reg.STATUS)
        reply.error = self.get(Reg.ERROR)
        reply.count = self.get(Reg.COUNT)
        reply.lba = self._lba()
        reply.device = self.get(Reg.DEVICE)
        if wide:
            self.set_control(Control.HOB)
            reply.count |= self.get(Reg.COUNT) << 8
            reply.lba |= self._lba() << 24
            self.set_control(0)
        return reply

    def _lba(self) -> int:
        return self.get(Reg.LBA_LOW) | self.get(Reg.LBA_MID) << 8 | self.get(Reg.LBA_HIGH) << 16

    def read_block(self, length: int) -> bytes:
        """Read a data block at the data register, an odd last byte with a word of its own."""
        out = bytearray()
        size = 4 if self.wide_data else 2
        while len(out) < length:
            if length - len(out) < size:
                size = 2
            out += self.command.read(Reg.DATA, size).to_bytes(size, "little")
        return bytes(out[:length])

    def write_block(self, data: bytes) -> None:
        """Write one."""
        size = 4 if self.wide_data and len(data) % 4 == 0 else 2
        for at in range(0, len(data), size):
            self.command.write(Reg.DATA, size, int.from_bytes(data[at : at + size], "little"))

    async def _pio_in(self, task: Task, reply: Reply) -> None:
        """`task.count` sectors or one block: as many blocks as the device has."""
        out = bytearray()
        while len(out) < task.length:
            status = await self._wait("a data block")
            if not status & AtaStatus.DRQ:
                break
            out += self.read_block(min(self.block_bytes or task.length, task.length - len(out)))
            reply.blocks.append(len(out) - sum(reply.blocks))
        if len(out) == task.length:
            await self.wait_idle("the end of a command")
        reply.data = bytes(out)

    async def _pio_out(self, task: Task, reply: Reply) -> None:
        done = 0
        status = await self.wait_idle("a data block")
        while status & AtaStatus.DRQ and done < len(task.data):
            block = task.data[done : done + self.block_bytes]
            self.write_block(block)
            reply.blocks.append(len(block))
            done += len(block)
            status = await self._wait("a data block to be taken")

    # --- bus master

    def table(self, task: Task) -> tuple[int, list[tuple[int, int]]]:
        """Memory for a command's data, and a table that says where: its address, and the regions."""
        memory = self.guest.memory
        lengths = task.regions
        if lengths is None:
            total = task.length or len(task.data)
            lengths = [min(REGION_BORDER, total - at) for at in range(0, total, REGION_BORDER)]
        regions = [(memory.allocate(length, REGION_BORDER), length) for length in lengths]
        entries = [
            struct.pack("<II", address, length & 0xFFFF | (EOT if at == len(regions) - 1 else 0))
            for at, (address, length) in enumerate(regions)
        ]
        table = memory.allocate(8 * len(entries), REGION_BORDER if len(entries) > 512 else 4096)
        memory.write(table, b"".join(entries))
        return table, regions

    def _fill(self, regions: list[tuple[int, int]], data: bytes) -> None:
        """Write what goes to the device."""
        done = 0
        for address, length in regions:
            self.guest.memory.write(address, data[done : done + length])
            done += length

    def _content(self, regions: list[tuple[int, int]]) -> bytes:
        """What has come from it."""
        return b"".join(self.guest.memory.read(address, length) for address, length in regions)

    def _free(self, table: int, regions: list[tuple[int, int]]) -> None:
        """Give the memory back."""
        for address in (table, *(address for address, _ in regions)):
            self.guest.memory.free(address)

    def prepare(self, table: int, *, to_memory: bool) -> None:
        """Give the bus master its table."""
        self.master.write(BusMaster.TABLE, 4, table)
        self.master.write(BusMaster.COMMAND, 1, TO_MEMORY if to_memory else 0)
        status = self.master.read(BusMaster.STATUS, 1)
        self.master.write(BusMaster.STATUS, 1, status | BmStatus.INTERRUPT | BmStatus.ERROR)

    def start(self, *, to_memory: bool) -> None:
        """Let it begin."""
        self.master.write(BusMaster.COMMAND, 1, START | (TO_MEMORY if to_memory else 0))

    def stop(self) -> int:
        """Stop it; returns its status before."""
        status = self.master.read(BusMaster.STATUS, 1)
        self.master.write(BusMaster.COMMAND, 1, 0)
        return status

    async def _dma(self, unit: int, task: Task) -> Reply:
        table, regions = self.table(task)
        to_memory = not task.way.out
        if not to_memory:
            self._fill(regions, task.data)
        self.prepare(table, to_memory=to_memory)
        self.write_task(unit, task)
        self.start(to_memory=to_memory)
        try:
            await self.wait_dma()
            reply = Reply(bus_master=self._master_status | self.master.read(BusMaster.STATUS, 1) & ~1)
        except GuestTimeoutError:
            reply = Reply(bus_master=self.master.read(BusMaster.STATUS, 1))
        finally:
            self.stop()
        if to_memory:
            reply.data = self._content(regions)
        self._free(table, regions)
        return self._end(reply, wide=task.wide)

    async def wait_dma(self, timeout_ns: int = LONG_WAIT_NS) -> None:
        """Wait until the device, or the bus master, has ended."""

        def over() -> bool:
            if self.interrupts > self._seen:
                return True
            status = self.master.read(BusMaster.STATUS, 1)
            self._master_status = status
            return bool(status & BmStatus.INTERRUPT and self.polling) or not status & BmStatus.ACTIVE

        await self.guest.wait_until(over, "the end of a DMA", timeout_ns)
        if self.interrupts == self._seen and not self.polling:
            # The regions are used up; the device says at once whether that was all.
            await self.guest.settle()
        if self.interrupts > self._seen:
            self._seen = self.interrupts

    # --- packets

    async def packet(
        self,
        unit: int,
        cdb: bytes,
        *,
        room: int = 0,
        data: bytes = b"",
        limit: int = BLOCK_LIMIT,
        dma: bool = False,
        regions: Sequence[int] | None = None,
        features: int = 0,
    ) -> Reply:
        """Send a command packet with its data."""
        self.select(unit)
        await self.wait_idle("a device that takes packets")
        self._seen = self.interrupts
        way = (Way.DMA_OUT if data else Way.DMA_IN) if dma and (room or data) else Way.NONE
        task = Task(
            AtaCommand.PACKET,
            features=features | (1 if dma else 0),
            lba=limit << 8,
            device=0,
            way=way,
            length=room,
            data=data,
            regions=regions,
        )
        table, placed = self.table(task) if way.dma else (0, [])
        if way.dma:
            self.prepare(table, to_memory=not data)
        if data:
            self._fill(placed, data)
        self.write_task(unit, task)
        status = await self.wait_idle("DRQ for a packet")
        reply = Reply()
        if status & AtaStatus.DRQ:
            self._check_reason(Reason.COD, "a packet is wanted")
            self.write_block(cdb.ljust(PACKET_BYTES, b"\0"))
            if way.dma:
                self.start(to_memory=not data)
                await self._packet_dma(reply, placed, to_memory=not data)
            else:
                await self._packet_pio(reply, data)
        if way.dma:
            self._free(table, placed)
        return self._end(reply)

    def _check_reason(self, wanted: int, what: str) -> None:
        reason = self.get(Reg.COUNT) & 0x07
        if reason != wanted:
            raise GuestCheckError("SFF-8020i §5.3", f"interrupt reason {reason:#x} where {what}")

    async def _packet_dma(self, reply: Reply, regions: list[tuple[int, int]], *, to_memory: bool) -> None:
        await self.guest.wait_until(
            lambda: (
                self.interrupts > self._seen
                or (self.polling and not self.alternate_status & (AtaStatus.BSY | AtaStatus.DRQ))
            ),
            "the end of a packet command",
        )
        self._seen = self.interrupts
        reply.bus_master = self.stop() | (self._master_status & BmStatus.INTERRUPT)
        if to_memory:
            reply.data = self._content(regions)

    async def _packet_pio(self, reply: Reply, data: bytes) -> None:
        out = bytearray()
        done = 0
        while True:
            status = await self._wait("a packet command's data, or its end")
            reason = self.get(Reg.COUNT) & 0x07
            if not status & AtaStatus.DRQ:
                break
            length = self.get(Reg.LBA_MID) | self.get(Reg.LBA_HIGH) << 8
            reply.blocks.append(length)
            reply.reasons.append(reason)
            if reason & Reason.IO:
                out += self.read_block(length)
            else:
                self.write_block(data[done : done + length].ljust(length, b"\0"))
                done += length
        reply.data = bytes(out)


class IdeController:
    """A PCI IDE function with both its channels, in compatibility or native mode."""

    def __init__(self, guest: Guest, function: PciFunction) -> None:
        self.guest = guest
        self.function = function
        function.place_bars()
        master = function.bars.get(4)
        if master is None:
            raise GuestError(f"{function} has no bus master")
        prog_if = function.read(PROG_IF, 1)
        self.channels = [self._channel(number, prog_if, master) for number in range(2)]
        if any(prog_if & bit for bit in NATIVE):
            guest.interrupts.connect(function.slot, function.interrupt_pin, self._interrupted)

    def _channel(self, number: int, prog_if: int, master: Bar) -> IdeChannel:
        function, target = self.function, self.guest.target
        timing = function.read(IDETIM + 2 * number, 2)
        function.write(IDETIM + 2 * number, 2, timing | IDETIM_DECODE)
        own = Bar(target, 4, master.base + 8 * number, 8, io=True)
        if prog_if & NATIVE[number]:
            command, control = function.bars[2 * number], function.bars[2 * number + 1]
            control = Bar(target, control.index, control.base + 2, 1, io=True)
            return IdeChannel(self.guest, number, command, control, own)
        command = Bar(target, 0, COMMAND_PORTS[number], 8, io=True)
        control = Bar(target, 1, CONTROL_PORTS[number], 1, io=True)
        channel = IdeChannel(self.guest, number, command, control, own)
        self.guest.interrupts.connect_irq(IRQS[number], channel.interrupted)
        return channel

    def _interrupted(self) -> bool:
        served = [channel.interrupted() for channel in self.channels]
        return any(served)


async def probe(channel: IdeChannel) -> dict[int, str]:
    """Reset the channel and see what is there: `ata` or `atapi`, by unit."""
    there = [unit for unit in range(2) if channel.present(unit)]
    if not there:
        return {}
    await channel.reset()
    found = {}
    for unit in there:
        _, _, mid, high = channel.signature(unit)
        if (mid, high) == PACKET_SIGNATURE:
            found[unit] = "atapi"
        elif (mid, high) == DISK_SIGNATURE and channel.alternate_status:
            found[unit] = "ata"
    return found


async def identify(channel: IdeChannel, unit: int, *, packet: bool = False) -> bytes:
    """IDENTIFY DEVICE, or IDENTIFY PACKET DEVICE."""
    command = AtaCommand.IDENTIFY_PACKET_DEVICE if packet else AtaCommand.IDENTIFY_DEVICE
    reply = await channel.do(unit, Task(command, device=0, way=Way.PIO_IN, length=512))
    if not reply.ok or len(reply.data) != 512:
        raise GuestError(f"{command.name}: status {reply.status:#x}, error {reply.error:#x}")
    return reply.data
