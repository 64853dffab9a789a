"""A channel's bus master: DMA through a table of physical regions (SFF-8038i §1.2, §3).

A table is up to 64 KiB of entries, and does not lie over a border of 64 KiB; nor does a region.

      31                                     16 15                               1   0
    0 | physical address of the region                                             | 0 |
    4 | EOT | reserved                         | bytes; 0: 65536                   | 0 |

    interrupt active
        0       1      the transfer goes on
        1       0      it is over, and all regions have been used up
        1       1      it is over, and regions are left
        0       0      all regions have been used up, and the device has not finished: the table was too short
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from devmodels.ata.command import AtaError
from devmodels.conformance import written
from devmodels.dma import Direction, DmaMap
from devmodels.ide_cdrom.registers import BusMasterAsQemu, BusMasterRegisters
from devmodels.memory import GuestMemory
from devmodels.memoryregions import GuestMemoryError
from devmodels.wire import Codec

if TYPE_CHECKING:
    from collections.abc import Callable

    from devmodels.ata.command import AtaCommand
    from devmodels.ata.device import AtaDevice
    from devmodels.ata.transfer import Transfer
    from devmodels.ide_cdrom.channel import Channel
    from devmodels.ide_cdrom.masterstate import MasterState
    from devmodels.ide_cdrom.unit import Unit

REGION = Codec.ints(lambda c: c.Struct("address" / c.Int32ul, "count" / c.Int16ul, "flags" / c.Int16ul))
EOT = 0x8000
BORDER = 0x1_0000
"""Neither tables nor regions lie over a multiple of it; a count of 0 stands for it."""
PIECE = 1 << 20
"""So many bytes are moved at a time at most."""


class _Mapped(msgspec.Struct, frozen=True):
    """Memory for a piece of a command's data.

    `before` bytes of that had been moved already; `length` are the guest's, `pad` more are nobody's.
    """

    dma: DmaMap
    scatter: list[tuple[int, int]]
    before: int
    length: int
    pad: int


class BusMaster:
    """`enabled`: the function may be a bus master.  `on_error()` is called where memory could not be reached."""

    def __init__(self, channel: Channel, memory: GuestMemory) -> None:
        self.on_error: Callable[[], None] = _nothing
        self.channel = channel
        self.memory = memory
        self.registers = (BusMasterAsQemu if channel.habits.loose_registers else BusMasterRegisters)(self)
        self.enabled = False
        self._waiting: list[Unit] = []
        self._entry = 0
        self._end = 0
        self._address = 0
        self._left = 0
        self._last = True
        self.habits = channel.habits
        self._maps: dict[AtaCommand, _Mapped] = {}
        """What is mapped for a command."""

    # --- registers

    def start(self) -> None:
        """Begin with the first region of the table."""
        registers = self.registers
        self._entry = registers.table
        self._end = self._entry + self.habits.table
        self._left, self._last = 0, False
        registers.active = 1
        self.go_on()

    def stop(self) -> None:
        """What is being moved is; nothing follows."""
        self._left, self._last = 0, True
        if not self._maps:
            self.registers.active = 0

    def reset(self) -> None:
        """As after power on."""
        self.registers.reset()
        self._waiting.clear()
        self._left, self._last = 0, True

    def enable(self, value: bool) -> None:
        """The function may, or may not, master the bus."""
        self.enabled = value
        self.go_on()

    # --- devices

    def request(self, unit: Unit) -> None:
        """A device has data for memory, or wants some."""
        self._waiting.append(unit)
        self.go_on()

    def forget(self, unit: Unit) -> None:
        """It does not any more."""
        if unit in self._waiting:
            self._waiting.remove(unit)

    def moved(self, command: AtaCommand) -> None:
        """What was mapped for a command has been moved."""
        assert command.transfer is not None
        short = self._maps[command].pad
        self.release(command)
        if not self.enabled and not command.transfer.out and not self.habits.moves_nowhere:
            self._failed("bus mastering was switched off")
            return
        unit = self._waiting[0]
        if self._last and not self._left:
            self.registers.active = 0
        if command.moved >= command.transfer.length and not short:
            if command.packet is not None and self.habits.ends_inactive:
                self.registers.active = 0
            self._waiting.remove(unit)
            assert unit.device is not None
            unit.device.conclude(command)
        elif not short:
            if not self.registers.active and command.packet is not None and self.habits.gives_up:
                # It has what there was room for, and waits for nobody.
                self._waiting.remove(unit)
            self.go_on()

    def release(self, command: AtaCommand) -> None:
        """Unmap what was mapped for it, if anything."""
        mapped = self._maps.pop(command, None)
        if mapped is None:
            return
        to_memory = command.transfer is not None and not command.transfer.out
        done = min(command.moved - mapped.before, mapped.length)
        mapped.dma.unmap(done if to_memory and self.enabled else 0)
        if not self.registers.start_bit and not self._maps:
            self.registers.active = 0

    # --- snapshots

    def save(self) -> MasterState:
        """Where it is in its table, and what it moves."""
        from devmodels.ide_cdrom.masterstate import MasterState, PieceState  # slow, seldom wanted

        mapped = None
        if self._waiting and self._waiting[0].command is not None:
            mapped = self._maps.get(self._waiting[0].command)
        return MasterState(
            self._entry,
            self._end,
            self._address,
            self._left,
            self._last,
            [unit.number for unit in self._waiting],
            None if mapped is None else PieceState(mapped.scatter, mapped.pad),
        )

    def restore(self, state: MasterState) -> None:
        """Be where `save` said; the units that wait come later (`resume`)."""
        self._waiting.clear()
        self._entry, self._end, self._address = state.entry, state.end, state.address
        self._left, self._last = state.left, state.last

    def resume(self, waiting: list[Unit], piece: tuple[list[tuple[int, int]], int] | None) -> None:
        """These units wait; `piece`, regions and padding, is moved again for the first of them."""
        self._waiting += waiting
        if piece is None or not waiting:
            if not self.registers.start_bit:
                # What a reset had dropped was still being moved: that is over here.
                self.registers.active = 0
            self.go_on()
            return
        (unit, *_), (scatter, pad) = waiting, piece
        device, command = unit.device, unit.command
        assert device is not None
        assert command is not None
        assert command.transfer is not None
        length = sum(size for _, size in scatter)
        moved = length + pad
        if moved > command.transfer.length - command.moved or not length or moved % device.granule:
            device.fail(command, AtaError())
            return
        try:
            self._move_to(device, command, scatter, length, pad)
        except GuestMemoryError as error:
            self._failed(error)

    # --- the table

    def go_on(self) -> None:
        """Move the next piece, if there is anything to move, somewhere to move it, and leave to do so."""
        if not (self.registers.active and self.registers.start_bit and self._waiting):
            return
        if not self.enabled and not self.habits.moves_nowhere:
            return
        unit = self._waiting[0]
        command = unit.command
        assert command is not None
        assert command.transfer is not None
        assert unit.device is not None
        if command in self._maps:
            return
        if not command.transfer.length:
            # A packet of QEMU's drive, which has waited for nothing but that.
            self.registers.active = 0
            self._waiting.remove(unit)
            unit.device.conclude(command)
            return
        if not self.enabled:
            self._move_nowhere(unit.device, command, command.transfer)
            return
        try:
            self._move(unit, unit.device, command, command.transfer)
        except GuestMemoryError as error:
            self._failed(error)

    def _move_nowhere(self, device: AtaDevice, command: AtaCommand, transfer: Transfer) -> None:
        """As QEMU without bus mastering: the table and all memory read as zeroes, and nothing is written."""
        length = min(transfer.length - command.moved, PIECE)
        dma = self.memory.map([], Direction.TO_DEVICE if transfer.out else Direction.FROM_DEVICE)
        self._maps[command] = _Mapped(dma, [], command.moved, length, 0)
        device.move(command, [memoryview(bytearray(length))], length)

    def _move(self, unit: Unit, device: AtaDevice, command: AtaCommand, transfer: Transfer) -> None:
        """Map the next piece and have it moved.  A device moves whole sectors: what has no place goes nowhere."""
        if bool(self.registers.to_memory) is transfer.out:
            self.channel.violations.report(
                "SFF-8038i §2.1",
                "the bus master was told the other direction",
                self.channel.name,
                written(self.registers.command, 1),
            )
        left = transfer.length - command.moved
        scatter, length = self._gather(min(left, PIECE))
        if length < min(left, PIECE) and self.habits.gives_up and command.packet is None:
            self.registers.active = 0
            self._waiting.remove(unit)
            unit.give_up(command)
            return
        pad = min(-length % device.granule, left - length)
        if pad and transfer.out:
            length -= length % device.granule
            scatter, pad = _cut(scatter, length), 0
        if not length:
            # The table was too short: the device waits for more until it is reset.
            self.registers.active = 0
            return
        self._move_to(device, command, scatter, length, pad)

    def _move_to(
        self, device: AtaDevice, command: AtaCommand, scatter: list[tuple[int, int]], length: int, pad: int
    ) -> None:
        assert command.transfer is not None
        out = command.transfer.out
        dma = self.memory.map(scatter, Direction.TO_DEVICE if out else Direction.FROM_DEVICE)
        self._maps[command] = _Mapped(dma, scatter, command.moved, length, pad)
        views = [*dma.views, memoryview(bytearray(pad))] if pad else dma.views
        device.move(command, views, length + pad)

    def _gather(self, most: int) -> tuple[list[tuple[int, int]], int]:
        """The next regions, or parts of them, up to `most` bytes together."""
        scatter: list[tuple[int, int]] = []
        total = 0
        while total < most:
            if not self._left:
                if self._last:
                    break
                self._next_region()
            length = min(self._left, most - total)
            scatter.append((self._address, length))
            self._address += length
            self._left -= length
            total += length
        return scatter, total

    def _next_region(self) -> None:
        address, count, flags = REGION.unpack_from(self._read_entry(), 0)
        self._address, self._left = address & ~1, count & ~1 or BORDER
        self._entry += REGION.size
        self._last = bool(flags & EOT) or self._entry >= self._end

    def _read_entry(self) -> bytes:
        try:
            return self.memory.read(self._entry, REGION.size)
        except GuestMemoryError as error:
            if not self.habits.zeroes:
                raise
            if self._entry == self.registers.table:
                self._report(error, error.address)
            return bytes(REGION.size)

    def _failed(self, error: GuestMemoryError | str) -> None:
        registers = self.registers
        self._report(error, error.address if isinstance(error, GuestMemoryError) else registers.table)
        registers.error = 1
        registers.active = 0
        self._left, self._last = 0, True
        self.on_error()

    def _report(self, error: GuestMemoryError | str, address: int) -> None:
        self.channel.violations.report(
            "SFF-8038i §2.2", f"DMA: {error}", self.channel.name, written(address, 4)
        )


def _nothing() -> None:
    pass


def _cut(scatter: list[tuple[int, int]], length: int) -> list[tuple[int, int]]:
    """The first `length` bytes of it."""
    out = []
    for address, size in scatter:
        part = min(size, length)
        if not part:
            break
        out.append((address, part))
        length -= part
    return out
