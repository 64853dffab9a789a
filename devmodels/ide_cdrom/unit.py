"""One device on the cable: its task file and status, its command, and the data block at its data register.

What goes on between two accesses of the guest is plain data here: no coroutine waits for a guest.

    IDLE      waits for a command
    BUSY      the device works: BSY
    PACKET    PACKET was written, its 12 bytes are wanted: DRQ
    DATA_IN   a data block is to be read: DRQ
    DATA_OUT  a data block is to be written: DRQ
    DMA       data goes through the bus master, which may have to be started yet: DRQ

ATA/ATAPI-7 vol. 2 (protocols), vol. 1 §6 (commands).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING

from devmodels.ata.command import AtaCommand
from devmodels.ata.constants import DIAGNOSTIC_PASSED, READY, Reset, Status
from devmodels.ata.taskfile import TaskFile

PIO_READS = frozenset({0x20, 0x24, 0x29, 0xC4})
"""READ SECTORS, READ SECTORS EXT, READ MULTIPLE EXT, READ MULTIPLE: there is data from the start."""

if TYPE_CHECKING:
    from devmodels.ata.device import AtaDevice
    from devmodels.ide_cdrom.channel import Channel

DEVICE_RESET = 0x08
PACKET = 0xA0
PACKET_DMA = 0x01
"""Features of PACKET, bit 0."""
COMMAND_DATA, TO_HOST = 0x01, 0x02
"""Interrupt reason (count) of a packet command: C/D, I/O."""
DIRECT = READY | Status.DRQ


class Phase(Enum):
    """Where a device is with its command."""

    IDLE = auto()
    BUSY = auto()
    PACKET = auto()
    DATA_IN = auto()
    DATA_OUT = auto()
    DMA = auto()


class Unit:
    """Place `number` (0 or 1) of `channel`.  `interrupt`: the device asks for one, and nobody has looked yet.

    `buffer` is a packet or a data block, of which `at` bytes have gone.  `resets` counts resets that have begun.
    """

    def __init__(self, channel: Channel, number: int) -> None:
        self.channel = channel
        self.number = number
        self.device: AtaDevice | None = None
        self.taskfile = _nothing()
        self.status = 0
        self.phase = Phase.IDLE
        self.command: AtaCommand | None = None
        self.buffer = bytearray()
        self.at = 0
        self.interrupt = False
        self.resets = 0
        self.resetting = False
        self.attention = False
        """Whether an interrupt follows the reset that goes on."""

    def attach(self, device: AtaDevice) -> None:
        """A device is there from now on, as after power on."""
        self.device = device
        device.attention = self.ask_for_attention
        self.show_signature(Reset.POWER_ON)

    def detach(self) -> None:
        """The device is gone, with its command."""
        device, self.device = self.device, None
        self.channel.bus_master.forget(self)
        self.command = None
        self.resets += 1
        self.resetting = False
        self.phase, self.status, self.taskfile = Phase.IDLE, 0, _nothing()
        self._set_interrupt(False)
        if device is not None:
            device.leave()

    @property
    def _busy(self) -> int:
        """The status while the device works: BSY makes all others meaningless; QEMU shows DRDY, with data DSC, too."""
        if not self.channel.habits.ready_while_busy:
            return Status.BSY
        command = self.command
        data = command is not None and (command.transfer is not None or command.taskfile.command in PIO_READS)
        return Status.BSY | (READY if data else Status.DRDY)

    @property
    def busy(self) -> bool:
        """Whether it takes no command."""
        return bool(self.status & (Status.BSY | Status.DRQ))

    # --- commands

    def execute(self, opcode: int) -> None:
        """A command was written."""
        device = self.device
        assert device is not None
        if opcode == DEVICE_RESET and device.packet_size:
            self.reset(Reset.DEVICE)
            return
        if self.busy:
            return
        self._set_interrupt(False)
        taskfile = self.taskfile
        taskfile.command, taskfile.status, taskfile.error = opcode, 0, 0
        self.command = AtaCommand(self, taskfile)
        self._work(self._ask_for_packet if opcode == PACKET and device.packet_size else self._issue)

    def _work(self, then: Callable[[AtaCommand], None]) -> None:
        """Be busy; `then` comes in a turn of its own, so that BSY is seen."""
        self.phase, self.status = Phase.BUSY, self._busy
        command = self.command
        assert command is not None

        def go_on() -> None:
            if self.command is command:
                then(command)

        self.channel.turns.call_soon(go_on)

    def _issue(self, command: AtaCommand) -> None:
        assert self.device is not None
        self.device.issue(command)

    def _ask_for_packet(self, command: AtaCommand) -> None:
        assert self.device is not None
        command.taskfile.count = command.taskfile.count & ~0xFF | COMMAND_DATA
        self._offer(Phase.PACKET, bytearray(self.device.packet_size))

    def _offer(self, phase: Phase, buffer: bytearray) -> None:
        """There is a packet or a data block to be moved by the data register."""
        self.phase, self.status = phase, DIRECT
        self.buffer, self.at = buffer, 0

    # --- the data register

    def read_word(self) -> int:
        """Two bytes of the data block; what is beyond its end is 0.  0 in any other state."""
        if self.phase is not Phase.DATA_IN:
            return 0
        at, buffer = self.at, self.buffer
        if at + 2 > len(buffer) and self.channel.habits.whole_words:
            return 0
        value = int.from_bytes(buffer[at : at + 2], "little")
        self.at = at + 2
        if at + 2 >= len(buffer):
            self._block_taken()
        return value

    def write_word(self, value: int) -> None:
        """Two bytes for the packet or the data block; nothing in any other state."""
        if self.phase is not Phase.DATA_OUT and self.phase is not Phase.PACKET:
            return
        at, buffer = self.at, self.buffer
        room = min(2, len(buffer) - at)
        buffer[at : at + room] = value.to_bytes(2, "little")[:room]
        self.at = at + 2
        if at + 2 >= len(buffer):
            self._block_given()

    def _block_taken(self) -> None:
        command = self.command
        assert command is not None
        assert command.transfer is not None
        if command.moved < command.transfer.length:
            self._work(self._move_block)
            return
        self.phase, self.status = Phase.BUSY, self._busy
        assert self.device is not None
        self.device.conclude(command)

    def _block_given(self) -> None:
        if self.phase is Phase.PACKET:
            assert self.command is not None
            self.command.packet = bytes(self.buffer)
            self._work(self._issue)
        else:
            self._work(self._move_block)

    def _move_block(self, command: AtaCommand) -> None:
        """Have the next data block filled, or take the one that the guest has filled."""
        transfer = command.transfer
        assert transfer is not None
        assert self.device is not None
        if not transfer.out:
            self.buffer = bytearray(self._next_block(command))
        self.device.move(command, (memoryview(self.buffer),), len(self.buffer))

    def _next_block(self, command: AtaCommand) -> int:
        transfer = command.transfer
        assert transfer is not None
        return min(transfer.block, transfer.length - command.moved)

    def resume(self, command: AtaCommand) -> None:
        """A snapshot is there: move the block again that was being moved, or let the device do what is left."""
        assert command.transfer is not None
        assert self.device is not None
        if command.moved < command.transfer.length:
            self._move_block(command)
        else:
            self.device.conclude(command)

    def forget(self) -> None:
        """Nobody waits for the command any more: a snapshot is about to be restored."""
        self.channel.bus_master.forget(self)
        self.command = None
        self.resets += 1
        if self.device is not None:
            self.device.drop()

    # --- what the device says

    def begin(self, command: AtaCommand) -> None:
        """There is data: by DMA, or block by block."""
        transfer = command.transfer
        assert transfer is not None
        if _by_dma(command):
            self.phase, self.status = Phase.DMA, DIRECT
            if transfer.sector and self.channel.habits.busy_with_data:
                self.status |= Status.BSY
            self.channel.bus_master.request(self)
        elif transfer.out:
            self._ask_for_block(command)
        else:
            self.status = self._busy
            self._move_block(command)

    def _ask_for_block(self, command: AtaCommand) -> None:
        """DRQ for data from the guest; of the first block of a write the guest is not told by an interrupt."""
        self._offer(Phase.DATA_OUT, bytearray(self._next_block(command)))
        if self._announce(command, 0) or command.moved:
            self._set_interrupt(True)

    def _announce(self, command: AtaCommand, reason: int) -> bool:
        """For a packet command, show how many bytes there are, and which way; False for others."""
        if command.packet is None:
            return False
        taskfile = command.taskfile
        taskfile.count = taskfile.count & ~0x07 | reason
        taskfile.lba = taskfile.lba & ~0xFF_FF00 | len(self.buffer) << 8
        return True

    def moved(self, command: AtaCommand) -> None:
        """A piece of data has been moved."""
        if self.phase is Phase.DMA:
            self.channel.bus_master.moved(command)
            return
        transfer = command.transfer
        assert transfer is not None
        if not transfer.out:
            self._offer(Phase.DATA_IN, self.buffer)
            self._announce(command, TO_HOST)
            self._set_interrupt(True)
        elif command.moved < transfer.length:
            self._ask_for_block(command)
        else:
            assert self.device is not None
            self.device.conclude(command)

    def finished(self, command: AtaCommand) -> None:
        """The command is over.  Of one whose data has been read from the data register, the guest knows."""
        entry, taskfile, transfer = command.entry, command.taskfile, command.transfer
        self.channel.bus_master.release(command)
        self.channel.bus_master.forget(self)
        if self.phase is Phase.DMA and taskfile.status & Status.ERR and self.channel.habits.ends_inactive:
            self.channel.bus_master.registers.active = 0
        self.command = None
        self.phase, self.status = Phase.IDLE, taskfile.status
        read = entry is not None and entry.protocol.pio and transfer is not None and not transfer.out
        if (not read or taskfile.status & Status.ERR) and not command.unheard:
            self._set_interrupt(True)

    def give_up(self, command: AtaCommand) -> None:
        """The bus master has no room for the command's data: as on QEMU, it is over, and nobody is told."""
        device = self.device
        assert device is not None
        self.command = None
        self.phase, self.status = Phase.IDLE, READY
        device.drop([command])

    def dropped(self, command: AtaCommand) -> None:
        """A command that was dropped runs no more."""
        self.channel.bus_master.release(command)
        self.channel.bus_master.go_on()

    # --- resets

    def reset(self, kind: Reset, then: Callable[[], None] | None = None) -> None:
        """Drop the command and be busy until the device has been reset, then show its signature and call `then`."""
        device = self.device
        if device is None:
            if kind is not Reset.DEVICE:
                self.taskfile = _nothing()
                # On QEMU both devices pass the diagnostic, but nobody answers with the error of a device 1.
                self.taskfile.error = 1 if kind is Reset.SOFTWARE and not self.number else 0
            if then is not None:
                then()
            return
        self.channel.bus_master.forget(self)
        self.command = None
        self.phase, self.status = Phase.BUSY, Status.BSY
        self.buffer, self.at = bytearray(), 0
        self.taskfile = TaskFile(device=self.taskfile.device)
        self._set_interrupt(False)
        self.resets += 1
        self.resetting, self.attention = True, then is not None
        device.reset(kind, partial(self._was_reset, self.resets, kind, then))

    def _was_reset(self, number: int, kind: Reset, then: Callable[[], None] | None) -> None:
        def show() -> None:
            if number == self.resets:
                self.resetting = False
                self.show_signature(kind)
                if then is not None:
                    then()

        self.channel.turns.call_soon(show)

    def diagnose(self) -> None:
        """QEMU's device shows that it has passed, and its signature; nothing else of it changes."""
        device, taskfile = self.device, self.taskfile
        assert device is not None
        lba, count = device.signature
        taskfile.device, taskfile.error = 0, DIAGNOSTIC_PASSED
        taskfile.count = taskfile.count & ~0xFF | count
        taskfile.lba = taskfile.lba & ~0xFF_FFFF | lba
        self.status = device.reset_status
        self._set_interrupt(not device.packet_size)

    def show_signature(self, kind: Reset = Reset.SOFTWARE) -> None:
        """Be ready, unless the guest holds the cable in reset.

        On QEMU hardware resets are without a diagnostic's result, and after them a device that takes packets is ready.
        """
        device = self.device
        if device is None or self.resetting or self.channel.in_reset:
            return
        registers = device.registers.copy()
        registers.device = self.taskfile.device
        if kind in (Reset.POWER_ON, Reset.HARDWARE) and self.channel.habits.undiagnosed:
            registers.error, registers.status = 0, READY
        self.taskfile = registers
        self.phase, self.status = Phase.IDLE, registers.status

    def _set_interrupt(self, value: bool) -> None:
        self.interrupt = value and not (self.channel.habits.one_interrupt and self.channel.disabled)
        self.channel.update_interrupt()

    def acknowledge(self) -> None:
        """The guest has read the status."""
        if self.interrupt:
            self._set_interrupt(False)

    def ask_for_attention(self) -> None:
        """Ask for an interrupt."""
        self._set_interrupt(True)


def _nothing() -> TaskFile:
    """What QEMU shows after a reset where no device is."""
    return TaskFile(count=1, lba=0xFFFF01)


def _by_dma(command: AtaCommand) -> bool:
    assert command.entry is not None
    if command.packet is not None:
        return bool(command.taskfile.features & PACKET_DMA)
    return command.entry.protocol.dma
