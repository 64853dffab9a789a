"""Logs of writes in the format of Linux's dm-log-writes: what is in one, and all of it done once more to another disk.

    sector 0      superblock
    then, `entries` times:
    1 sector      entry; of a mark, its text as well
    n sectors     what was written (a discard has none)

Sectors are the log's own, of a size that the superblock says.  Linux, device-mapper/log-writes.rst in
Documentation/admin-guide; the numbers are those of drivers/md/dm-log-writes.c.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from enum import IntFlag
from typing import NamedTuple

from construct import Int32ul, Int64ul, Struct

from devmodels.blockbackend.backend import BlockBackend
from devmodels.blockbackend.request import Flags, Op, Request
from devmodels.iocontext import Future
from devmodels.wire import Codec

MAGIC = 0x6A736677736872
VERSION = 1

SUPER = Codec.ints(
    Struct("magic" / Int64ul, "version" / Int64ul, "nr_entries" / Int64ul, "sectorsize" / Int32ul)
)
ENTRY = Codec.ints(
    Struct("sector" / Int64ul, "nr_sectors" / Int64ul, "flags" / Int64ul, "data_len" / Int64ul)
)

MAX_SECTOR = 1 << 24
"""Sectors are smaller than this many bytes, as in QEMU."""

_PIECE = 1 << 20
"""How many bytes a replay reads at once."""

Read = Callable[[int, int], Awaitable[bytes]]
"""So many bytes of the log, from an offset on."""


class LogFlags(IntFlag):
    """What an entry is about; 0: a write."""

    NONE = 0
    FLUSH = 1
    FUA = 2
    DISCARD = 4
    MARK = 8
    METADATA = 16


class LogError(ValueError):
    """A log is not what it should be; the text is one line."""


class Superblock(NamedTuple):
    """`entries` in the log; a sector has `sector_size` bytes."""

    entries: int
    sector_size: int

    def pack(self) -> bytes:
        """The superblock as a sector."""
        return SUPER.pack(MAGIC, VERSION, self.entries, self.sector_size).ljust(self.sector_size, b"\0")


class LogEntry(NamedTuple):
    """One entry: `length` bytes at `offset` of the disk; the data is at `data` of the log, the next entry at `end`."""

    offset: int
    length: int
    flags: LogFlags
    mark: str
    data: int
    end: int


def valid_sector(size: int) -> bool:
    """Whether sectors may have so many bytes."""
    return max(SUPER.size, ENTRY.size) <= size < MAX_SECTOR and not size & (size - 1)


async def superblock(read: Read, size: int) -> Superblock:
    """The superblock of a log of `size` bytes; LogError where it is none."""
    if size < SUPER.size:
        raise LogError(f"the log has {size} bytes; expected a superblock of {SUPER.size}")
    magic, version, entries, sector_size = SUPER.unpack_from(await read(0, SUPER.size), 0)
    if magic != MAGIC:
        raise LogError(f"the log begins with {magic:#x}; expected {MAGIC:#x}")
    if version != VERSION:
        raise LogError(f"the log has version {version}; expected {VERSION}")
    if not valid_sector(sector_size):
        raise LogError(f"the log has sectors of {sector_size} bytes; expected a power of 2 from 32 to 2**23")
    return Superblock(entries, sector_size)


async def log_entries(read: Read, size: int) -> AsyncIterator[LogEntry]:
    """The entries of a log of `size` bytes, in order; LogError where one is wrong."""
    count, sector_size = await superblock(read, size)
    at = sector_size
    for number in range(count):
        where = f"entry {number} of the log, at {at}"
        if at + sector_size > size:
            raise LogError(f"{where}, lies behind its end at {size}")
        sector, sectors, flags, data_len = ENTRY.unpack_from(await read(at, ENTRY.size), 0)
        if flags & ~sum(LogFlags):
            raise LogError(f"{where}, has flags {flags:#x}; expected some of {sum(LogFlags):#x}")
        mark = b""
        if flags & LogFlags.MARK:
            if data_len > sector_size - ENTRY.size:
                raise LogError(
                    f"{where}, is a mark of {data_len} bytes; expected at most {sector_size - ENTRY.size}"
                )
            mark = await read(at + ENTRY.size, data_len)
        data = at + sector_size
        end = data if flags & LogFlags.DISCARD else data + sectors * sector_size
        if end > size:
            raise LogError(f"{where}, has data up to {end}; the log ends at {size}")
        text = mark.decode(errors="replace")
        yield LogEntry(sector * sector_size, sectors * sector_size, LogFlags(flags), text, data, end)
        at = end


class WriteLog:
    """The log in a disk."""

    def __init__(self, backend: BlockBackend) -> None:
        self._backend = backend

    async def _read(self, offset: int, length: int) -> bytes:
        buffer = bytearray(length)
        await _do(self._backend, Request(Op.READ, offset, length, [memoryview(buffer)]))
        return bytes(buffer)

    def entries(self) -> AsyncIterator[LogEntry]:
        """What has been logged, in order; LogError where the log is wrong."""
        return log_entries(self._read, self._backend.size)

    async def replay(self, onto: BlockBackend, *, until: Callable[[LogEntry], bool] | None = None) -> int:
        """Do once more, to another disk, what has been logged before the first entry that is `until`; returns how much.

        LogError or OSError where that cannot be.
        """
        done = 0
        _, sector_size = await superblock(self._read, self._backend.size)
        # The last sector may reach beyond the disk's end.
        end = -(-onto.size // sector_size) * sector_size
        async for entry in self.entries():
            if until is not None and until(entry):
                break
            if onto.size < entry.offset + entry.length <= end:
                entry = entry._replace(length=max(onto.size - entry.offset, 0))
            await self._again(entry, onto)
            done += 1
        return done

    async def _again(self, entry: LogEntry, onto: BlockBackend) -> None:
        if entry.flags & LogFlags.MARK:
            return
        if entry.flags & LogFlags.FLUSH:
            await _do(onto, Request(Op.FLUSH, 0, 0))
        if entry.flags & LogFlags.DISCARD:
            await _do(onto, Request(Op.DISCARD, entry.offset, entry.length))
            return
        flags = Flags.FUA if entry.flags & LogFlags.FUA else Flags.NONE
        for at in range(0, entry.length, _PIECE):
            data = await self._read(entry.data + at, min(_PIECE, entry.length - at))
            await _do(onto, Request(Op.WRITE, entry.offset + at, len(data), [memoryview(data)], flags))


async def _do(backend: BlockBackend, request: Request) -> None:
    """Submit, and wait for it; OSError where it fails."""
    over: Future[None] = Future(backend.context)
    request.done = lambda _request: over.set_result(None)
    backend.submit(request)
    await over
    if request.error:
        raise OSError(request.error, f"{request!r}: {os.strerror(request.error)}")
