"""Guest memory and the device's way into it.

Three ways, each for one kind of use:

* `read` and `write` copy: for small structures, which are judged from the copy because the guest may change
  them meanwhile.
* `words` and `records` give element access to a ring: single loads and stores of 2, 4 or 8 bytes that never tear
  (see `memorywords`), and whole structures.
* `map` gives a `DmaMap` for payload: memoryviews of the guest's own pages where memory is shared, a bounce
  buffer where it belongs to an embedder.

An address outside memory, a wrap at 2**64, a range over several regions, a read-only region: all are defined.  The
first two and a write to read-only memory raise `GuestMemoryError`, which a device turns into its specified answer.
"""

from __future__ import annotations

import struct
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

from devmodels.dma import Direction, DmaMap
from devmodels.memoryregions import ADDRESS_LIMIT, GuestMemoryError, Region
from devmodels.memorywords import ITEM_SIZE, NATIVE_LITTLE, SeenWords, SlowWords, Words, cast
from devmodels.trace import EventKind, Tracer

if TYPE_CHECKING:
    from devmodels.dirtylog import WriteLog

BOUNCE_LIMIT = 1 << 30
"""Most bytes of bounce buffers that one `GuestMemory` holds at a time: a guest that names one page a million times in
its requests does not get a million pages of ours."""

_new_map = DmaMap.__new__
Window = tuple[int, int, memoryview]
"""First address, end, and the bytes between."""
NOWHERE: Window = (0, 0, memoryview(b""))


def memory_name(device: str) -> str:
    """What a trace calls the memory that `device` alone reaches in this way."""
    return f"{device}.memory"


class GuestMemory:
    """A guest's physical address space.

    `generation` changes whenever cached views (`words`, `records`) must be fetched again: a region came or went,
    or a dirty log or a trace was switched.  `bounced_bytes` is how much the maps of the moment hold in bounce buffers.
    `name` is what a trace calls it.
    """

    __slots__ = (
        "_bases",
        "_fence",
        "_plain",
        "_regions",
        "bounced_bytes",
        "dirty_log",
        "followers",
        "generation",
        "hold",
        "name",
        "observed",
        "trace",
    )

    map_type = DmaMap

    def __init__(self, *regions: Region, name: str = "memory") -> None:
        self.name = name
        self._regions: list[Region] = []
        self._bases: list[int] = []
        self._plain: tuple[tuple[int, int, memoryview, Region], ...] = ()
        self._fence = threading.Lock()
        self.generation = 0
        self.bounced_bytes = 0
        self.dirty_log: WriteLog | None = None
        self.trace: Tracer | None = None
        self.observed = False
        self.followers: list[Callable[[], None]] = []
        """Called whenever `generation` has changed."""
        self.hold: AbstractContextManager[None] | None = None
        """Where devices reach this memory on threads of their own: it changes while these stand still.  What can only
        be copied belongs to one thread, so all regions are shared then."""
        for region in regions:
            self.add(region)

    @property
    def regions(self) -> tuple[Region, ...]:
        """The regions in the address space, by address."""
        return tuple(self._regions)

    def add(self, region: Region) -> None:
        """Put `region` into the address space; ValueError where it overlaps another."""
        if self.hold is not None and region.view is None:
            raise ValueError(
                f"region {region.name!r} is reached by copies; devices with iothreads need shared memory"
            )
        for other in self._regions:
            if region.base < other.end and other.base < region.end:
                raise ValueError(f"region {region.name!r} at {region.base:#x} overlaps {other.name!r}")
        with self.hold or nullcontext():
            self._regions.append(region)
            self._changed()

    def remove(self, region: Region) -> None:
        """Take `region` out; it is released when its last map ends."""
        with self.hold or nullcontext():
            self._regions.remove(region)
            self._changed()
            region.detach()

    def _changed(self) -> None:
        self._regions.sort(key=lambda region: region.base)
        self._bases = [region.base for region in self._regions]
        # What can be read and written through a view is tried first, the largest before the others.
        plain = [region for region in self._regions if not region.readonly]
        plain.sort(key=lambda region: -region.size)
        self._plain = tuple((r.base, r.end, r.view, r) for r in plain if r.view is not None)
        self.generation += 1
        self.show_regions()
        for follow in self.followers:
            follow()

    def show_regions(self) -> None:
        """Tell the trace what memory there is; a replay fetches its views again, too."""
        if self.trace is not None:
            parts = [(region.base, region.size, int(region.readonly)) for region in self._regions]
            self.trace.emit(self.name, EventKind.MEMORY, *(number for part in parts for number in part))

    def observe(self, *, dirty_log: WriteLog | None = None, trace: Tracer | None = None) -> None:
        """Switch dirty log and trace; None switches off."""
        with self.hold or nullcontext():
            goes_on = trace is self.trace
            self.dirty_log = dirty_log
            self.trace = trace
            self.observed = dirty_log is not None or trace is not None
            self.generation += 1
            if goes_on:
                self.show_regions()
            for follow in self.followers:
                follow()

    @contextmanager
    def unseen(self) -> Iterator[None]:
        """What is done meanwhile is not the device's own: the trace gets nothing of it."""
        trace, self.trace = self.trace, None
        try:
            yield
        finally:
            self.trace = trace

    def note_write(self, address: int, length: int, data: bytes) -> None:
        """A device wrote `data` at `address`: mark the dirty log and emit the trace."""
        if self.dirty_log is not None:
            self.dirty_log.mark(address, length)
        if self.trace is not None and length:
            self.trace.emit(self.name, EventKind.DMA_WRITE, address, data)

    def fence(self) -> None:
        """Order every earlier load and store before every later one (a lock's atomic operations do)."""
        self._fence.acquire()
        self._fence.release()

    def _find(self, address: int, length: int, *, write: bool) -> Region:
        """The region at `address`, or GuestMemoryError; the range may end beyond it."""
        if address < 0 or length < 0 or address + length > ADDRESS_LIMIT:
            raise GuestMemoryError(address, length, "beyond the address space")
        at = bisect_right(self._bases, address) - 1
        if at < 0 or address >= self._regions[at].end:
            raise GuestMemoryError(address, length, "no memory there")
        region = self._regions[at]
        if write and region.readonly:
            raise GuestMemoryError(address, length, "memory is read-only")
        return region

    def pieces(self, address: int, length: int, *, write: bool) -> list[tuple[Region, int, int]]:
        """Split a range into (region, offset, length), all of it checked."""
        pieces = []
        while length:
            region = self._find(address, length, write=write)
            offset = address - region.base
            size = min(length, region.size - offset)
            pieces.append((region, offset, size))
            address += size
            length -= size
        return pieces

    def contains(self, address: int, length: int, *, write: bool = False) -> bool:
        """Whether the whole range can be read (or written)."""
        try:
            self.pieces(address, length, write=write)
        except GuestMemoryError:
            return False
        return True

    def load(self, address: int, length: int) -> bytes:
        """Copy `length` bytes out as the guest's own CPU would: unseen by dirty log and trace."""
        for base, end, view, _ in self._plain:
            if base <= address <= address + length <= end:
                return bytes(view[address - base : address - base + length])
        pieces = self.pieces(address, length, write=False)
        return b"".join(region.load(offset, size) for region, offset, size in pieces)

    def store(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Copy `data` in as the guest's own CPU would: unseen by dirty log and trace."""
        length = len(data)
        for base, end, view, _ in self._plain:
            if base <= address and address + length <= end:
                view[address - base : address - base + length] = data
                return
        done = 0
        left = memoryview(data)
        for region, offset, size in self.pieces(address, length, write=True):
            region.store(offset, left[done : done + size])
            done += size

    def read(self, address: int, length: int) -> bytes:
        """A device reads `length` bytes of guest memory; GuestMemoryError where any of them is not there."""
        for base, end, view, _ in self._plain:
            if base <= address and 0 <= length <= end - address:
                data = bytes(view[address - base : address - base + length])
                break
        else:
            data = self.load(address, length)
        if self.trace is not None:
            self.trace.emit(self.name, EventKind.DMA_READ, address, data)
        return data

    def unpack(self, address: int, layout: struct.Struct) -> tuple[int, ...]:
        """A device reads one structure, copied out once; GuestMemoryError where any byte of it is not there."""
        if self.trace is None:
            for base, end, view, _ in self._plain:
                if base <= address and address + layout.size <= end:
                    return layout.unpack_from(view, address - base)
        return layout.unpack(self.read(address, layout.size))

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """A device writes `data`; GuestMemoryError, and nothing written, where any byte cannot be."""
        self.store(address, data)
        if self.observed:
            self.note_write(address, len(data), bytes(data))

    def write_byte(self, address: int, value: int) -> None:
        """A device writes one byte; GuestMemoryError where it cannot be."""
        if not self.observed:
            for base, end, view, _ in self._plain:
                if base <= address < end:
                    view[address - base] = value
                    return
        self.write(address, bytes((value,)))

    def map(self, scatter: Sequence[tuple[int, int]], direction: Direction) -> DmaMap:
        """Map a list of (address, length) for one transfer.

        All or nothing: GuestMemoryError where any byte cannot be accessed.  Zero-length elements are allowed.
        """
        if self.trace is None:
            for base, end, view, region in self._plain:
                views: list[memoryview] = []
                for address, length in scatter:
                    if address < base or address + length > end or length <= 0:
                        break
                    views.append(view[address - base : address - base + length])
                else:
                    region.maps.append(None)
                    # As `DmaMap(...)`, at half its price.
                    dma = _new_map(DmaMap)
                    dma.memory = self
                    dma.scatter = scatter
                    dma.direction = direction
                    dma.views = views
                    dma.regions = (region,)
                    dma.bounces = None
                    return dma
        return self._map_pieces(scatter, direction)

    def _map_pieces(self, scatter: Sequence[tuple[int, int]], direction: Direction) -> DmaMap:
        write = direction is Direction.FROM_DEVICE
        pieces = [piece for address, n in scatter for piece in self.pieces(address, n, write=write)]
        bounced = sum(size for region, _, size in pieces if region.view is None)
        if self.bounced_bytes + bounced > BOUNCE_LIMIT:
            address, length = scatter[0]
            raise GuestMemoryError(address, length, "more bytes to bounce than are allowed at a time")
        views: list[memoryview] = []
        bounces: list[tuple[int, Region, int, bytearray]] = []
        total = 0
        for region, offset, size in pieces:
            if region.view is not None:
                views.append(region.view[offset : offset + size])
            else:
                buffer = bytearray(size) if write else bytearray(region.load(offset, size))
                bounces.append((total, region, offset, buffer))
                views.append(memoryview(buffer))
            total += size
        for region, _, _ in pieces:
            region.maps.append(None)
        self.bounced_bytes += bounced
        dma = self.map_type(self, scatter, direction, views, pieces, bounces)
        if self.trace is not None and not write:
            # What the trace has is what the device is given, whatever the guest writes meanwhile.
            dma.views = [memoryview(bytes(view)) for view in views]
            done = 0
            for address, length in scatter:
                self.trace.emit(self.name, EventKind.DMA_READ, address, dma.gather(done, length))
                done += length
        return dma

    def words(self, address: int, count: int, code: str, *, write: bool = False) -> Words:
        """`count` little-endian words at `address`: code H, I or Q for 2, 4 or 8 bytes.

        `address` must be a multiple of the word's size, so that one word is one access; ValueError otherwise.
        The result is good until `generation` changes.
        """
        size = ITEM_SIZE[code]
        if address % size:
            raise ValueError(f"words of {size} bytes at {address:#x} are not aligned")
        pieces = self.pieces(address, count * size, write=write)
        if len(pieces) == 1 and NATIVE_LITTLE:
            region, offset, length = pieces[0]
            if region.view is not None:
                view = cast(region.view[offset : offset + length], code)
                return SeenWords(self, address, view, size) if self.observed else view
        return SlowWords(self, address, count, code)

    def records(self, address: int, count: int, layout: struct.Struct) -> Callable[[int], tuple[int, ...]]:
        """`count` structures at `address`: a function from byte offset to the structure there, copied out once.

        The result is good until `generation` changes; its offset must be that of one of the structures.
        """
        size = layout.size
        view = self.view(address, count * size)
        if view is not None:
            return partial(layout.unpack_from, view)
        return lambda offset: layout.unpack(self.read(address + offset, size))

    def window(self, address: int) -> Window:
        """The region at `address` for code that looks at guest memory again and again before anything else happens.

        An empty one where it is not both readable and writable through a view, or while somebody observes.
        """
        if not self.observed:
            for base, end, view, _ in self._plain:
                if base <= address < end:
                    return base, end, view
        return NOWHERE

    def view(self, address: int, length: int) -> memoryview | None:
        """The guest's own bytes to look at, or None where they can only be copied or somebody observes reads.

        GuestMemoryError where any of them is not there.  The result is good until `generation` changes.
        """
        pieces = self.pieces(address, length, write=False)
        if len(pieces) == 1 and self.trace is None:
            region, start, length = pieces[0]
            if region.view is not None:
                return region.view[start : start + length]
        return None
