"""Messages of the vfio-user protocol, version 0.1.

Follows "vfio-user Protocol Specification" of QEMU's interoperability documents (docs/interop/vfio-user.rst), whose
numbers for regions, interrupts and their flags are those of the kernel's <linux/vfio.h>: a header of 16 bytes, a
payload, and file descriptors beside it.  Numbers have the host's byte order, which is little-endian here.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Annotated, NamedTuple

import msgspec
from construct import Bytes, Int16ul, Int32ul, Int64ul, Struct

from devmodels.wire import Codec

MAJOR = 0
MINOR = 1

TYPE_MASK = 0xF
TYPE_COMMAND = 0
TYPE_REPLY = 1
NO_REPLY = 0x10
ERROR = 0x20

DEFAULT_MAX_FDS = 1
DEFAULT_MAX_TRANSFER = 1 << 20
DEFAULT_MAX_DMA_MAPS = 65535
PAGE_SIZE = 4096
"""What `pgsizes` is where nothing is said."""


class Command(IntEnum):
    """What a message asks for; all but the two of DMA come from the client."""

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


HEADER = Codec.ints(
    Struct("id" / Int16ul, "command" / Int16ul, "size" / Int32ul, "flags" / Int32ul, "error" / Int32ul)
)
"""`size` counts the header, too."""

VERSION = Codec.ints(Struct("major" / Int16ul, "minor" / Int16ul))
"""Followed by JSON with a zero byte behind it, or by nothing."""

DMA_MAP = Codec.ints(
    Struct(
        "argsz" / Int32ul,
        "flags" / Int32ul,
        "offset" / Int64ul,
        "address" / Int64ul,
        "size" / Int64ul,
    )
)
DMA_UNMAP = Codec.ints(Struct("argsz" / Int32ul, "flags" / Int32ul, "address" / Int64ul, "size" / Int64ul))
DEVICE_INFO = Codec.ints(
    Struct("argsz" / Int32ul, "flags" / Int32ul, "num_regions" / Int32ul, "num_irqs" / Int32ul)
)
REGION_INFO = Codec.ints(
    Struct(
        "argsz" / Int32ul,
        "flags" / Int32ul,
        "index" / Int32ul,
        "cap_offset" / Int32ul,
        "size" / Int64ul,
        "offset" / Int64ul,
    )
)
REGION_IO_FDS = Codec.ints(Struct("argsz" / Int32ul, "flags" / Int32ul, "index" / Int32ul, "count" / Int32ul))
IRQ_INFO = Codec.ints(Struct("argsz" / Int32ul, "flags" / Int32ul, "index" / Int32ul, "count" / Int32ul))
IRQ_SET = Codec.ints(
    Struct(
        "argsz" / Int32ul,
        "flags" / Int32ul,
        "index" / Int32ul,
        "start" / Int32ul,
        "count" / Int32ul,
    )
)
"""Followed by `count` bytes where the flags say DATA_BOOL."""
REGION_ACCESS = Codec.ints(Struct("offset" / Int64ul, "region" / Int32ul, "count" / Int32ul))
"""Followed by `count` bytes in a write, and in the answer to a read."""
WRITE_COUNT = Codec.ints(Struct("count" / Int64ul))
"""Followed by so many of WRITE_ONE."""
WRITE_ONE = Codec.of(Struct("offset" / Int64ul, "region" / Int32ul, "count" / Int32ul, "data" / Bytes(8)))
DMA_ACCESS = Codec.ints(Struct("address" / Int64ul, "count" / Int64ul))
"""Followed by `count` bytes in a write, and in the answer to a read."""
DMA_WRITTEN = Codec.ints(Struct("address" / Int64ul, "count" / Int32ul))
"""The answer to a DMA_WRITE by its document; clients that are there send DMA_ACCESS."""


class DmaFlag(IntFlag):
    """Flags of DMA_MAP."""

    READ = 1
    WRITE = 2


UNMAP_ALL = 2
"""Flag of DMA_UNMAP, VFIO_DMA_UNMAP_FLAG_ALL: everything, whatever its address; address and size are 0."""


class DeviceFlag(IntFlag):
    """Flags of DEVICE_INFO, VFIO_DEVICE_FLAGS_…."""

    RESET = 1
    PCI = 2


class RegionFlag(IntFlag):
    """Flags of REGION_INFO, VFIO_REGION_INFO_FLAG_…."""

    READ = 1
    WRITE = 2
    MMAP = 4
    CAPS = 8


class IrqFlag(IntFlag):
    """Flags of IRQ_INFO, VFIO_IRQ_INFO_…."""

    EVENTFD = 1
    MASKABLE = 2
    AUTOMASKED = 4
    NORESIZE = 8


class Irq(IntEnum):
    """Kinds of interrupts that a PCI device has, VFIO_PCI_…_IRQ_INDEX."""

    INTX = 0
    MSI = 1
    MSIX = 2
    ERR = 3
    REQ = 4


NUM_IRQS = len(Irq)

DATA_NONE = 1
DATA_BOOL = 2
DATA_EVENTFD = 4
DATA_MASK = DATA_NONE | DATA_BOOL | DATA_EVENTFD
ACTION_MASK = 8
ACTION_UNMASK = 16
ACTION_TRIGGER = 32
ACTIONS = ACTION_MASK | ACTION_UNMASK | ACTION_TRIGGER


class Shape(NamedTuple):
    """What a command looks like: its payload's least and greatest length in bytes, and most file descriptors."""

    least: int
    most: int
    fds: int = 0


MAX_VERSION = 4096
"""Longest JSON with capabilities that is looked at, in bytes, its zero byte included."""
MAX_WRITES = 1024
"""Most writes in one REGION_WRITE_MULTI."""
MAX_FEATURE = 4096

MAX_FDS = 16
"""Most file descriptors that a message may have here; the most that QEMU accepts, too."""
MAX_TRANSFER = DEFAULT_MAX_TRANSFER
MAX_DMA_MAPS = 1024

SHAPES: dict[int, Shape] = {
    Command.VERSION: Shape(VERSION.size, VERSION.size + MAX_VERSION),
    Command.DMA_MAP: Shape(DMA_MAP.size, DMA_MAP.size, 1),
    Command.DMA_UNMAP: Shape(DMA_UNMAP.size, DMA_UNMAP.size),
    Command.DEVICE_GET_INFO: Shape(DEVICE_INFO.size, DEVICE_INFO.size),
    Command.DEVICE_GET_REGION_INFO: Shape(REGION_INFO.size, REGION_INFO.size),
    Command.DEVICE_GET_REGION_IO_FDS: Shape(REGION_IO_FDS.size, REGION_IO_FDS.size),
    Command.DEVICE_GET_IRQ_INFO: Shape(IRQ_INFO.size, IRQ_INFO.size),
    Command.DEVICE_SET_IRQS: Shape(IRQ_SET.size, IRQ_SET.size + MAX_FEATURE, MAX_FDS),
    Command.REGION_READ: Shape(REGION_ACCESS.size, REGION_ACCESS.size),
    Command.REGION_WRITE: Shape(REGION_ACCESS.size, REGION_ACCESS.size + MAX_TRANSFER),
    Command.DEVICE_RESET: Shape(0, 0),
    Command.REGION_WRITE_MULTI: Shape(WRITE_COUNT.size, WRITE_COUNT.size + MAX_WRITES * WRITE_ONE.size),
    Command.DEVICE_FEATURE: Shape(8, MAX_FEATURE),
}
"""The client's commands."""

MAX_MESSAGE = HEADER.size + max(shape.most for shape in SHAPES.values())
"""Longest message of a client's in bytes, its header included."""


def command_name(number: int) -> str:
    """A command's name, for people."""
    try:
        return Command(number).name
    except ValueError:
        return f"command {number}"


# --- capabilities


Natural = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]


class Capabilities(msgspec.Struct, omit_defaults=True):
    """What one side can do; None where it says nothing of that."""

    max_msg_fds: Natural | None = None
    max_data_xfer_size: Positive | None = None
    max_dma_maps: Natural | None = None
    pgsizes: Natural | None = None
    write_multiple: bool | None = None


class VersionData(msgspec.Struct, omit_defaults=True):
    """The JSON of a VERSION message."""

    capabilities: Capabilities | None = None


def parse_version(payload: bytes) -> tuple[int, int, Capabilities]:
    """Major and minor version and capabilities; ValueError where a VERSION message's payload has none."""
    major, minor = VERSION.unpack_from(payload, 0)
    text = payload[VERSION.size :]
    if not text:
        return major, minor, Capabilities()
    if text[-1]:
        raise ValueError("its JSON has no zero byte behind it")
    try:
        data = msgspec.json.decode(text.rstrip(b"\0"), type=VersionData)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ValueError(f"its JSON is none: {error}") from None
    return major, minor, data.capabilities or Capabilities()


def build_version(minor: int, capabilities: Capabilities) -> bytes:
    """The payload of a VERSION message."""
    text = msgspec.json.encode(VersionData(capabilities))
    return VERSION.pack(MAJOR, minor) + text + b"\0"
