"""FISes: what host and device send each other (SATA 3.x §10.5).

Registers of three and one byte are declared as one dword, as they lie: LBA 23:0 below the device field.
"""

from __future__ import annotations

from enum import IntEnum

from devmodels.ata.taskfile import TaskFile
from devmodels.wire import Codec


class FisType(IntEnum):
    """First byte of a FIS (SATA 3.x §10.5.1)."""

    REGISTER_H2D = 0x27
    REGISTER_D2H = 0x34
    DMA_ACTIVATE = 0x39
    DMA_SETUP = 0x41
    DATA = 0x46
    BIST_ACTIVATE = 0x58
    PIO_SETUP = 0x5F
    SET_DEVICE_BITS = 0xA1


REGISTER_H2D = Codec.ints(
    lambda c: c.Struct(
        "type" / c.Int8ul,
        "flags" / c.Int8ul,
        "command" / c.Int8ul,
        "features" / c.Int8ul,
        "lba_device" / c.Int32ul,
        "lba_features_exp" / c.Int32ul,
        "count" / c.Int16ul,
        "icc" / c.Int8ul,
        "control" / c.Int8ul,
        "auxiliary" / c.Int32ul,
    )
)
"""Register – Host to Device (SATA 3.x §10.5.5)."""

REGISTER_D2H = Codec.ints(
    lambda c: c.Struct(
        "type" / c.Int8ul,
        "flags" / c.Int8ul,
        "status" / c.Int8ul,
        "error" / c.Int8ul,
        "lba_device" / c.Int32ul,
        "lba_exp" / c.Int32ul,
        "count" / c.Int16ul,
        "reserved" / c.Padding(6),
    )
)
"""Register – Device to Host (SATA 3.x §10.5.6)."""

SET_DEVICE_BITS = Codec.ints(
    lambda c: c.Struct(
        "type" / c.Int8ul, "flags" / c.Int8ul, "status" / c.Int8ul, "error" / c.Int8ul, "sactive" / c.Int32ul
    )
)
"""Set Device Bits, with the tags that are over (SATA 3.x §10.5.7)."""

DMA_SETUP = Codec.ints(
    lambda c: c.Struct(
        "type" / c.Int8ul,
        "flags" / c.Int8ul,
        "reserved0" / c.Padding(2),
        "buffer_low" / c.Int32ul,
        "buffer_high" / c.Int32ul,
        "reserved1" / c.Padding(4),
        "offset" / c.Int32ul,
        "count" / c.Int32ul,
        "reserved2" / c.Padding(4),
    )
)
"""DMA Setup: the buffer is a tag (SATA 3.x §10.5.9)."""

PIO_SETUP = Codec.ints(
    lambda c: c.Struct(
        "type" / c.Int8ul,
        "flags" / c.Int8ul,
        "status" / c.Int8ul,
        "error" / c.Int8ul,
        "lba_device" / c.Int32ul,
        "lba_exp" / c.Int32ul,
        "count" / c.Int16ul,
        "reserved0" / c.Padding(1),
        "e_status" / c.Int8ul,
        "transfer_count" / c.Int16ul,
        "reserved1" / c.Padding(2),
    )
)
"""PIO Setup: status before, and e_status after the DRQ data block (SATA 3.x §10.5.11)."""

COMMAND_BIT = 0x80
"""C, of a Register – Host to Device: it has a command; else the control field is meant."""
DIRECTION_BIT = 0x20
"""D, of setups: to the host."""
INTERRUPT_BIT = 0x40
SRST = 0x04
"""Control: software reset."""
SDB_STATUS = 0x77
"""The bits of the status that Set Device Bits changes."""

H2D_SIZE = 20
H2D_DWORDS = H2D_SIZE // 4


def parse_register(data: bytes) -> tuple[int, int, TaskFile, int]:
    """Type, flags, task file and control of a Register – Host to Device."""
    kind, flags, command, features, low, high, count, icc, control, auxiliary = REGISTER_H2D.unpack_from(
        data, 0
    )
    taskfile = TaskFile(
        command,
        features=high >> 24 << 8 | features,
        count=count,
        lba=low & 0xFF_FFFF | (high & 0xFF_FFFF) << 24,
        device=low >> 24,
        icc=icc,
        auxiliary=auxiliary,
    )
    return kind, flags, taskfile, control


def register_d2h(taskfile: TaskFile, *, interrupt: bool, status: int | None = None) -> bytes:
    """A Register – Device to Host with the fields of `taskfile`; with another `status`, it is not over yet."""
    flags = INTERRUPT_BIT if interrupt else 0
    status = taskfile.status if status is None else status
    return REGISTER_D2H.pack(
        FisType.REGISTER_D2H, flags, status, taskfile.error, *_address(taskfile), taskfile.count
    )


def set_device_bits(status: int, error: int, sactive: int) -> bytes:
    """Set Device Bits, with the interrupt bit."""
    return SET_DEVICE_BITS.pack(FisType.SET_DEVICE_BITS, INTERRUPT_BIT, status & SDB_STATUS, error, sactive)


def dma_setup(tag: int, length: int, *, out: bool) -> bytes:
    """DMA Setup for all of the data of the command `tag`."""
    return DMA_SETUP.pack(FisType.DMA_SETUP, 0 if out else DIRECTION_BIT, tag, 0, 0, length)


def pio_setup(
    taskfile: TaskFile, status: int, e_status: int, length: int, *, out: bool, interrupt: bool
) -> bytes:
    """PIO Setup for a DRQ data block of `length` bytes."""
    flags = (0 if out else DIRECTION_BIT) | (INTERRUPT_BIT if interrupt else 0)
    return PIO_SETUP.pack(
        FisType.PIO_SETUP,
        flags,
        status,
        taskfile.error,
        *_address(taskfile),
        taskfile.count,
        e_status,
        length & 0xFFFF,
    )


def _address(taskfile: TaskFile) -> tuple[int, int]:
    return taskfile.lba & 0xFF_FFFF | taskfile.device << 24, taskfile.lba >> 24
