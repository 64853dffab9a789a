"""The client's memory, as DMA_MAP hands it over: mapped where a file descriptor comes with it, else asked for.

What has no descriptor is read and written by messages, each of which waits for its answer.  What the client then does
not give reads as zeroes, and what it does not take is lost: that is for the client to know.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from typing import Protocol

from devmodels.exports.mapped_file import MappingError, check_part, map_part
from devmodels.memory import GuestMemory
from devmodels.memoryregions import ADDRESS_LIMIT, Region, SharedRegion
from devmodels.protocols.vfio_user import DMA_ACCESS, MAX_DMA_MAPS, PAGE_SIZE, Command, DmaFlag

log = logging.getLogger("devmodels.vfio-user")

_ACCESSES = (DmaFlag.READ, DmaFlag.WRITE, DmaFlag.READ | DmaFlag.WRITE)


class RefusedError(Exception):
    """A well-formed command that cannot be done: answered with `error`, an errno; the text says why."""

    def __init__(self, error: int, text: str) -> None:
        super().__init__(text)
        self.error = error


class Client(Protocol):
    """Who answers for memory that is not shared."""

    max_transfer: int
    """Most bytes that one message may ask for or bring."""

    def ask(self, command: int, payload: bytes) -> bytes | None:
        """Send a command and wait for its answer's payload; None where there is none."""
        ...


class AskedRegion(Region):
    """Memory that the client keeps to itself, and reads and writes for us."""

    __slots__ = ("_client", "_refused")

    def __init__(self, base: int, size: int, client: Client, *, readonly: bool, name: str) -> None:
        super().__init__(base, size, readonly=readonly, name=name)
        self._client = client
        self._refused = False

    def load(self, offset: int, length: int) -> bytes:
        """Ask for `length` bytes; zeroes for what does not come."""
        data = bytearray()
        while len(data) < length:
            count = min(length - len(data), self._client.max_transfer)
            place = DMA_ACCESS.pack(self.base + offset + len(data), count)
            reply = self._client.ask(Command.DMA_READ, place)
            if reply is None or len(reply) != DMA_ACCESS.size + count:
                self._note("read")
                return bytes(data).ljust(length, b"\0")
            data += reply[DMA_ACCESS.size :]
        return bytes(data)

    def store(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Have `data` written."""
        done = 0
        while done < len(data):
            count = min(len(data) - done, self._client.max_transfer)
            place = DMA_ACCESS.pack(self.base + offset + done, count)
            if self._client.ask(Command.DMA_WRITE, place + data[done : done + count]) is None:
                self._note("written")
                return
            done += count

    def _note(self, what: str) -> None:
        if not self._refused:
            self._refused = True
            log.warning("%s: the client does not have it %s", self.name, what)


class ClientMemory:
    """What one client has mapped, in `memory`, whose only regions these are.

    `by_message` says whether some of it can only be asked for; `lost` is called, on any thread, when a file of it has
    become too short.
    """

    def __init__(self, memory: GuestMemory, client: Client, lost: Callable[[], None]) -> None:
        self.memory = memory
        self._lost = lost
        self._client = client
        self._mapped: dict[tuple[int, int], Region] = {}
        self._asked = 0

    @property
    def by_message(self) -> bool:
        """Whether some of it is read and written by messages."""
        return self._asked > 0

    def map(self, flags: int, offset: int, address: int, size: int, fd: int | None) -> None:
        """Map one more region; `fd` stays the caller's.  RefusedError where it cannot be."""
        where = f"{size:#x} bytes at {address:#x}"
        self._judge(where, flags, address, size)
        readonly = not flags & DmaFlag.WRITE
        name = f"client@{address:#x}"
        region: Region
        if fd is None:
            region = AskedRegion(address, size, self._client, readonly=readonly, name=name)
        else:
            try:
                if offset + size > ADDRESS_LIMIT:
                    raise MappingError(f"from {offset:#x} on: beyond 2**64")
                check_part(fd, offset, size)
                view = map_part(fd, offset, size, self._lost, writable=not readonly)
            except MappingError as error:
                raise RefusedError(errno.EINVAL, f"{where}: {error}") from None
            region = SharedRegion(address, view, readonly=readonly, name=name)
        if region.view is not None or self.memory.hold is None:
            # Threads of queues cannot ask: for them there is no memory there.
            self.memory.add(region)
            self._asked += region.view is None
        self._mapped[address, size] = region

    def _judge(self, where: str, flags: int, address: int, size: int) -> None:
        if not size or (address | size) % PAGE_SIZE:
            raise RefusedError(errno.EINVAL, f"{where}: not in whole pages of {PAGE_SIZE} bytes")
        if address + size > ADDRESS_LIMIT:
            raise RefusedError(errno.EINVAL, f"{where}: beyond 2**64")
        if flags not in _ACCESSES:
            raise RefusedError(errno.EINVAL, f"{where}: flags {flags:#x}")
        if len(self._mapped) >= MAX_DMA_MAPS:
            raise RefusedError(errno.ENOSPC, f"{where}: more than {MAX_DMA_MAPS} regions")
        for base, other in self._mapped:
            if address < base + other and base < address + size:
                raise RefusedError(errno.EEXIST, f"{where}: overlaps {other:#x} bytes at {base:#x}")

    def is_asked(self, address: int, size: int) -> bool:
        """Whether exactly that is a region that is read and written by messages."""
        region = self._mapped.get((address, size))
        return region is not None and region.view is None

    def unmap(self, address: int, size: int, released: Callable[[], None]) -> bool:
        """Take a region away, exactly as it was mapped; RefusedError where there is none.

        False where a transfer still has it: `released` is called, on any thread, when the last one has ended.
        """
        region = self._mapped.pop((address, size), None)
        if region is None:
            raise RefusedError(errno.ENOENT, f"no region of {size:#x} bytes at {address:#x}")
        return self._remove(region, released)

    def unmap_all(self, released: Callable[[], None]) -> int:
        """Take all away; of so many a transfer still has some, and `released` is called for each."""
        waiting = sum(not self._remove(region, released) for region in self._mapped.values())
        self._mapped.clear()
        return waiting

    def _remove(self, region: Region, released: Callable[[], None]) -> bool:
        if region not in self.memory.regions:
            return True
        self._asked -= region.view is None
        if region.pins:
            region.on_release = released
            self.memory.remove(region)
            return False
        self.memory.remove(region)
        return True

    def clear(self) -> None:
        """Take all away that is still there, when no transfer has any of it."""
        self.unmap_all(lambda: None)
