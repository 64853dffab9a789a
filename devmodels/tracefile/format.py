"""The layout of a trace file.

    MAGIC, length of the header, CRC-32 of it, the header as JSON
    frames: FRAME, the number of its first event, how many there are, length of the table, length of table and payload,
            length and CRC-32 of what follows; table and payload, compressed with zstd
    the end: a frame without events, END, with an `Ending` as JSON for its data, not compressed

Numbers are little-endian.  The table is msgpack, an array of five: the sources of the frame's events, and for each
event the ns since the one before (for the first: the time itself), its source's and its kind's place in the sources and
in the header's `kinds`, its detail as an array.  Where a detail ends in bytes, it has their number there, and they are
in the payload, in order.  What cannot be read is never believed: every length is bounded, and the table is judged
against the kinds' shapes.
"""

from __future__ import annotations

import struct
from typing import Literal, NamedTuple

import msgspec

from devmodels.trace import PLAIN_DISC, EventKind

MAGIC = b"devmodels-trace\n"
VERSION = 2
FRAME, END = b"FRAM", b"END."

HEAD = struct.Struct("<II")
"""Length and CRC-32 of the header."""
FRAME_HEAD = struct.Struct("<4sQIIIII")

MAX_HEADER = 1 << 16
MAX_EVENTS = 1 << 14
MAX_TABLE = 4 << 20
"""Most that one frame has, besides MAX_PAYLOAD."""

ENDING_ROOM = FRAME_HEAD.size + 512
"""What an end may take."""

MemoryKind = Literal["shared", "bounced"]
"""Whether devices can look at guest memory, or only copy from and to it."""

Columns = tuple[list[str], list[int], list[int], list[int], list[tuple[int | str, ...]]]
"""Sources; for each event: ns since the one before, its source, its kind, its detail."""


class TraceFileError(ValueError):
    """The file is no trace, or is damaged; the text is one line."""


class FrameHead(NamedTuple):
    """What stands before a frame's data; lengths in bytes."""

    magic: bytes
    first: int
    events: int
    table: int
    raw: int
    length: int
    crc: int


class DiskFacts(msgspec.Struct, frozen=True, rename="kebab", omit_defaults=True):
    """What a device sees of its disk: `size` in bytes, limits in bytes and pieces (0: none).

    `disc` is what a drive has for one: `trace.NO_DISC`, `PLAIN_DISC` (its blocks are those of the node), or tracks as
    JSON.
    `running` is whether its machine ran when the device was made, None in older files.
    """

    node_name: str
    size: int
    read_only: bool = False
    can_unmap: bool = False
    write_cache: bool = True
    max_transfer: int = 0
    max_iov: int = 1024
    discard_alignment: int = 1
    disc: str = PLAIN_DISC
    running: bool | None = None


class DeviceFacts(msgspec.Struct, frozen=True, rename="kebab", omit_defaults=True):
    """One device of a trace, as its DEVICE event has it in JSON: its options and its disk when it was made.

    `kind` is `device` (a machine's, as `-device` has it) or `export` (as `--export` has it); `name` is its source in
    the trace, `memory` that of the memory that it reaches.  A host of SCSI units has no disk; a unit's `host` is the
    name of that, and `saved` is what its state file had in it.  So it is with hosts of ATA devices and these; what
    one of them knew already is `saved` in hexadecimal, and `kept` is what its state file had in it where it is new.
    """

    name: str
    kind: str
    options: dict[str, object]
    disk: DiskFacts | None = None
    memory: str = "memory"
    host: str = ""
    saved: str = ""
    kept: str = ""


class TraceHeader(msgspec.Struct, frozen=True, rename="kebab"):
    """What a file says of itself: `kinds` by the numbers that its events use; `program` wrote it.

    `strict` is whether every departure from the specification was reported; `memory` is `bounced` where devices can
    only copy from and to guest memory.
    """

    version: int
    program: str
    kinds: list[str]
    strict: bool = True
    memory: MemoryKind = "shared"

    @classmethod
    def of(cls, program: str, *, strict: bool = True, memory: MemoryKind = "shared") -> TraceHeader:
        """The header of a file that is written now."""
        return cls(VERSION, program, [kind.value for kind in EventKind], strict, memory)

    def again(self) -> TraceHeader:
        """The header of a file that is written now, of the same recording."""
        return self.of(self.program, strict=self.strict, memory=self.memory)


class Ending(msgspec.Struct, frozen=True, rename="kebab"):
    """Why a recording came to its end: it was `closed`, it reached its `limit`, or there was an `error`."""

    reason: Literal["closed", "limit", "error"]
    text: str = ""
