"""What a guest sees of an IDE channel.

Command block and control block hold nothing themselves: they are the devices' (ATA/ATAPI-7 vol. 2 §5.3 to §5.15).

            read                write
    base+0  data                data            16 or 32 bits: two or four bytes of the data block
    base+1  error               features
    base+2  count               count
    base+3  LBA low             LBA low
    base+4  LBA mid             LBA mid
    base+5  LBA high            LBA high
    base+6  device              device
    base+7  status              command

The bus master has 8 bytes a channel (SFF-8038i §2).
"""

from __future__ import annotations

from typing import Protocol

from devmodels.ata.taskfile import Place
from devmodels.registers import RO, RW, RW1C, WO, Port, Register, RegisterFile
from devmodels.registers.pieces import aligned_pieces


class CommandOwner(Protocol):
    """Whose registers they are: a channel."""

    def read_data(self, size: int) -> int:
        """Take `size` bytes of the data block."""
        ...

    def write_data(self, size: int, value: int) -> None:
        """Give `size` bytes."""
        ...

    def read_register(self, place: Place) -> int:
        """Read a register of the selected device."""
        ...

    def write_register(self, place: Place, value: int) -> None:
        """Write a register of both devices, or a command."""
        ...

    def alternate_status(self) -> int:
        """The status, without any effect."""
        ...

    def write_control(self, value: int) -> None:
        """Write the device control register."""
        ...


class CommandBlock(RegisterFile, size=8, widths=(1,), lenient=True):
    """Base + 0 to 7."""

    data = Port(0, widths=(2, 4), clause="ATA/ATAPI-7 vol. 2 §5.6")
    error = Register(1, 1, RO, clause="ATA/ATAPI-7 vol. 2 §5.9", doc="why the last command failed")
    features = Register(1, 1, WO, clause="ATA/ATAPI-7 vol. 2 §5.10", doc="of a command")
    count = Register(
        2, 1, RW, clause="ATA/ATAPI-7 vol. 2 §5.14", doc="sectors, or reason of a packet's interrupt"
    )
    lba_low = Register(3, 1, RW, clause="ATA/ATAPI-7 vol. 2 §5.12", doc="LBA 7:0 or sector")
    lba_mid = Register(
        4, 1, RW, clause="ATA/ATAPI-7 vol. 2 §5.13", doc="LBA 15:8, cylinder or byte count, low"
    )
    lba_high = Register(
        5, 1, RW, clause="ATA/ATAPI-7 vol. 2 §5.11", doc="LBA 23:16, cylinder or byte count, high"
    )
    device = Register(
        6, 1, RW, clause="ATA/ATAPI-7 vol. 2 §5.8", doc="which device, LBA or CHS, LBA 27:24 or head"
    )
    status = Register(
        7, 1, RO, clause="ATA/ATAPI-7 vol. 2 §5.15", doc="of the device; a read ends its interrupt"
    )
    command = Register(7, 1, WO, clause="ATA/ATAPI-7 vol. 2 §5.4", doc="begins it")

    def __init__(self, owner: CommandOwner) -> None:
        super().__init__()
        self._owner = owner

    @data.on_read
    def _read_data(self, size: int) -> int:
        return self._owner.read_data(size)

    @data.on_write
    def _write_data(self, size: int, value: int) -> None:
        self._owner.write_data(size, value)

    @error.on_read
    def _error(self, _value: int) -> int:
        return self._owner.read_register(Place.FEATURES)

    @features.on_write
    def _features(self, _old: int, new: int) -> None:
        self._owner.write_register(Place.FEATURES, new)

    @count.on_read
    def _count(self, _value: int) -> int:
        return self._owner.read_register(Place.COUNT)

    @count.on_write
    def _count_written(self, _old: int, new: int) -> None:
        self._owner.write_register(Place.COUNT, new)

    @lba_low.on_read
    def _lba_low(self, _value: int) -> int:
        return self._owner.read_register(Place.LBA_LOW)

    @lba_low.on_write
    def _lba_low_written(self, _old: int, new: int) -> None:
        self._owner.write_register(Place.LBA_LOW, new)

    @lba_mid.on_read
    def _lba_mid(self, _value: int) -> int:
        return self._owner.read_register(Place.LBA_MID)

    @lba_mid.on_write
    def _lba_mid_written(self, _old: int, new: int) -> None:
        self._owner.write_register(Place.LBA_MID, new)

    @lba_high.on_read
    def _lba_high(self, _value: int) -> int:
        return self._owner.read_register(Place.LBA_HIGH)

    @lba_high.on_write
    def _lba_high_written(self, _old: int, new: int) -> None:
        self._owner.write_register(Place.LBA_HIGH, new)

    @device.on_read
    def _device(self, _value: int) -> int:
        return self._owner.read_register(Place.DEVICE)

    @device.on_write
    def _device_written(self, _old: int, new: int) -> None:
        self._owner.write_register(Place.DEVICE, new)

    @status.on_read
    def _status(self, _value: int) -> int:
        return self._owner.read_register(Place.COMMAND)

    @command.on_write
    def _command(self, _old: int, new: int) -> None:
        self._owner.write_register(Place.COMMAND, new)


class ControlBlock(RegisterFile, size=4, widths=(1,), lenient=True):
    """Four bytes, of which the third one is there: 3F6h and 376h, or BAR 1 and 3."""

    alternate_status = Register(
        2, 1, RO, clause="ATA/ATAPI-7 vol. 2 §5.3", doc="the same status; the interrupt stays"
    )
    control = Register(2, 1, clause="ATA/ATAPI-7 vol. 2 §5.7", doc="device control")
    nien = control.bit(1, WO, doc="no interrupts")
    srst = control.bit(2, WO, doc="software reset, as long as it is 1")
    hob = control.bit(7, WO, doc="reads give the previous content")

    def __init__(self, owner: CommandOwner) -> None:
        super().__init__()
        self._owner = owner

    @alternate_status.on_read
    def _alternate_status(self, _value: int) -> int:
        return self._owner.alternate_status()

    @control.on_write
    def _control(self, _old: int, new: int) -> None:
        self._owner.write_control(new)


class BusMasterOwner(Protocol):
    """Who does what a bus master is told to."""

    def start(self) -> None:
        """The start bit was set."""
        ...

    def stop(self) -> None:
        """The start bit was cleared."""
        ...


class BusMasterRegisters(RegisterFile, size=8, widths=(1, 2, 4), lenient=True):
    """One channel's."""

    command = Register(0, 1, clause="SFF-8038i §2.1", doc="BMICX")
    start_bit = command.bit(0, RW, doc="SSBM: works as long as it is 1")
    to_memory = command.bit(3, RW, doc="RWCON: the device is read")

    status = Register(2, 1, clause="SFF-8038i §2.2", doc="BMISX")
    active = status.bit(0, RO, doc="from start until the last region has been used up, or a stop")
    error = status.bit(1, RW1C, doc="memory could not be reached")
    interrupt = status.bit(2, RW1C, doc="the device's interrupt line has risen")
    capable0 = status.bit(5, RW, doc="device 0 can do DMA: software's own")
    capable1 = status.bit(6, RW, doc="device 1 can do DMA: software's own")
    simplex = status.bit(7, RO, doc="only one channel at a time: both work here")

    table = Register(4, 4, clause="SFF-8038i §2.3", doc="BMIDTPX")
    table_address = table.bits(31, 2, RW, doc="where the region table is: a multiple of 4")

    def __init__(self, owner: BusMasterOwner) -> None:
        super().__init__()
        self._owner = owner

    @start_bit.on_change
    def _started(self, value: int) -> None:
        if value:
            self._owner.start()
        else:
            self._owner.stop()


class BusMasterAsQemu(BusMasterRegisters, size=8, widths=(1, 2, 4), lenient=True):
    """QEMU's: command and status are there for bytes only, and what is not theirs reads all ones.

    An access that is not aligned, or is of the table's address too, comes in pieces that are not.
    """

    def read(self, offset: int, size: int) -> int:
        """All ones where there is nothing of such a width."""
        value = 0
        for at, piece in aligned_pieces(offset, size):
            there = at >= _TABLE or (piece == 1 and not at & 1)
            one = super().read(at, piece) if there else (1 << 8 * piece) - 1
            value |= one << 8 * (at - offset)
        return value

    def write(self, offset: int, size: int, value: int) -> None:
        """Nothing where there is nothing of such a width."""
        for at, piece in aligned_pieces(offset, size):
            if at >= _TABLE or (piece == 1 and not at & 1):
                super().write(at, piece, value >> 8 * (at - offset) & (1 << 8 * piece) - 1)


_TABLE = 4
