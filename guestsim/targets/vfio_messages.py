"""The vfio-user protocol's messages as a client sends and receives them.

Written down from "vfio-user Protocol Specification" among QEMU's interoperability documents
(docs/interop/vfio-user.rst) and from <linux/vfio.h>, apart from any server's declarations on purpose.  Numbers have the
host's own order, which is little-endian here.
"""

from __future__ import annotations

import struct
from enum import IntEnum

REPLY = 1
TYPE_MASK = 0xF
NO_REPLY = 0x10
ERROR = 0x20
"""Bits of a header's flags ("Header")."""

MAX_MESSAGE = 16 + 16 + (1 << 20)
"""Longest message here: a header, a place, and as much data as goes into one."""


class Command(IntEnum):
    """What a message asks for ("Commands")."""

    VERSION = 1
    DMA_MAP = 2
    DMA_UNMAP = 3
    DEVICE_GET_INFO = 4
    DEVICE_GET_REGION_INFO = 5
    DEVICE_GET_REGION_IO_FDS = 6
    DEVICE_GET_IRQ_INFO = 7
    DEVICE_SET_IRQS = 8
    REGION_READ = 9
    REGION_WRITE = 10
    DMA_READ = 11
    DMA_WRITE = 12
    DEVICE_RESET = 13
    REGION_WRITE_MULTI = 15
    DEVICE_FEATURE = 16


HEADER = struct.Struct("<HHIII")
"""Message id, command, size of the whole message, flags, errno."""

VERSION = struct.Struct("<HH")
"""Major and minor; JSON and a zero byte follow."""

DMA_MAP = struct.Struct("<IIQQQ")
"""Size of this, flags, offset in the file, address, size."""
DMA_READABLE = 1
DMA_WRITABLE = 2

DMA_UNMAP = struct.Struct("<IIQQ")
"""Size of this, flags, address, size."""

DEVICE_INFO = struct.Struct("<IIII")
"""Size of this, flags, number of regions, kinds of interrupts."""

REGION_INFO = struct.Struct("<IIIIQQ")
"""Size of this, flags, index, offset of capabilities, size, offset."""

IRQ_INFO = struct.Struct("<IIII")
"""Size of this, flags, index, number of interrupts."""
IRQ_EVENTFD = 1
IRQ_MASKABLE = 2
IRQ_AUTOMASKED = 4

IRQ_SET = struct.Struct("<IIIII")
"""Size of this, flags, index, first interrupt, number of interrupts."""
DATA_NONE = 1
DATA_BOOL = 2
DATA_EVENTFD = 4
ACTION_MASK = 8
ACTION_UNMASK = 16
ACTION_TRIGGER = 32

INTX, MSI, MSIX, ERR, REQ = range(5)
"""Kinds of interrupts."""

REGION_ACCESS = struct.Struct("<QII")
"""Offset, region, number of bytes; they follow in a write and in the answer to a read."""
CONFIG_REGION = 7

WRITE_ONE = struct.Struct("<QII8s")
"""One of several writes: offset, region, number of bytes, the bytes."""

DMA_ACCESS = struct.Struct("<QQ")
"""Address, number of bytes; they follow in a write and in the answer to a read."""


def name(command: int) -> str:
    """A command's name, for people."""
    return Command(command).name if command in set(Command) else f"command {command}"
