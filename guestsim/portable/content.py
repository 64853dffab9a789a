"""What a disk holds, as far as a recorded guest could tell: what it held first, and what nobody can foretell.

Undefined is what was discarded (VIRTIO 1.4 §5.2.6 leaves to the device what a read of it returns), what failed writes
and writes in flight at one time have left, and what was read while it was written.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from guestsim.drivers.layouts import BLK_HEADER, BLK_RANGE, SECTOR, BlkStatus, BlkType
from guestsim.portable.ranges import RangeMap
from guestsim.portable.requests import RANGE_TYPES, Request, Unknown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import BinaryIO

    from guestsim.life import Life

EVERYTHING = 1 << 73
"""Above every byte that a sector number and a length can name."""

DISCARDED = "it was discarded, and what a read of it returns is the device's choice"
FAILED = "a write of it had failed"
TOGETHER = "writes of it were in flight at one time"
WHILE_WRITTEN = "a write of it was in flight at the same time"
NOT_FED = "a write of it was not fed"
NEVER_ANSWERED = "a write of it was never answered"

_COPIED = 1 << 20
_MOST_RANGES = 4096
"""Of one request; nobody's limit is higher."""


class Clash(NamedTuple):
    """Bytes of the disk, from `start` to `end`, that one request writes while another touches them; `both` write."""

    start: int
    end: int
    both: bool


@dataclass(frozen=True, slots=True)
class Touch:
    """Which bytes of the disk a request reads and writes: starts and ends, None and none where it does not."""

    reads: tuple[int, int] | None = None
    writes: tuple[tuple[int, int], ...] = ()

    def clash(self, other: Touch) -> list[Clash]:
        """Where one of both writes what the other reads or writes."""
        if not self.writes and not other.writes:
            return []
        pairs = [(ours, theirs, True) for ours in self.writes for theirs in other.writes]
        if self.reads is not None:
            pairs += [(self.reads, theirs, False) for theirs in other.writes]
        if other.reads is not None:
            pairs += [(ours, other.reads, False) for ours in self.writes]
        found = [Clash(max(one[0], two[0]), min(one[1], two[1]), both) for one, two, both in pairs]
        return [clash for clash in found if clash.start < clash.end]


_NOTHING = Touch()


def touch_of(life: Life) -> Touch | None:
    """What of the disk a buffer is about; None where the device has not read enough of it to tell."""
    header = life.header
    if header is None:
        return None
    kind, _, sector = header
    start = sector * SECTOR
    if kind == BlkType.IN:
        return Touch(reads=(start, start + sum(piece.length for piece in life.writable) - 1))
    payload = sum(piece.length for piece in life.readable) - BLK_HEADER.size
    if kind == BlkType.OUT:
        return Touch(writes=((start, start + payload),) if payload else ())
    if kind not in RANGE_TYPES:
        return _NOTHING
    count = min(payload // BLK_RANGE.size, _MOST_RANGES)
    if life.used is None and sum(min(piece.known, piece.length) for piece in life.readable) < payload:
        return None
    end = BLK_HEADER.size + count * BLK_RANGE.size
    data = b""
    for piece in life.readable:
        data += piece.cut(0, min(piece.length, end - len(data)))
    ranges = BLK_RANGE.struct.iter_unpack(data[BLK_HEADER.size : end])
    return Touch(writes=tuple((first * SECTOR, (first + n) * SECTOR) for first, n, _ in ranges if n))


@dataclass(slots=True)
class Content:
    """Follows the requests of a trace in the order in which they end."""

    undefined: RangeMap[str] = field(default_factory=RangeMap)

    def ended(self, request: Request, touch: Touch, clashes: Sequence[Clash]) -> None:
        """A request is over: what it read cannot be held against anybody where it is undefined."""
        if touch.reads is not None and request.status == BlkStatus.OK:
            start, end = touch.reads
            for first, last, why in self.undefined.find(start, end):
                request.unknown.append(Unknown(first - start, last - start, why))
        for start, end in touch.writes:
            self._written(start, end, request)
        for start, end, both in clashes:
            if both and self._has_written(request):
                self.undefined.set(start, end, TOGETHER)

    def _has_written(self, request: Request) -> bool:
        """Whether a write may have left anything: what is refused never reaches the disk."""
        return request.status is None or request.status == BlkStatus.OK or request.failed

    def _written(self, start: int, end: int, request: Request) -> None:
        header = request.header
        why: str | None = None
        if not self._has_written(request):
            return
        if request.used is None:
            why = NEVER_ANSWERED
        elif request.failed or request.status != BlkStatus.OK:
            why = FAILED
        elif header is not None and header.type in (BlkType.DISCARD, BlkType.SECURE_ERASE):
            why = DISCARDED
        elif request.skip:
            why = NOT_FED
        self.undefined.set(start, end, why)

    def lost(self) -> None:
        """Nothing is known any more."""
        self.undefined.set(0, EVERYTHING, NOT_FED)


class FirstContent(Content):
    """Puts what the disk held before the trace into a sparse file of `size` bytes: what was read before it was written.

    `found` is where that was, zeroes as well.  OSError where there can be no such file.
    """

    __slots__ = ("_file", "_settled", "_size", "found")

    def __init__(self, path: Path, size: int) -> None:
        super().__init__()
        self._file: BinaryIO = path.open("wb")
        self._size = size
        self._settled: RangeMap[bool] = RangeMap()
        self.found: RangeMap[bool] = RangeMap()
        try:
            self._file.truncate(size)
        except BaseException:
            self._file.close()
            raise

    def ended(self, request: Request, touch: Touch, clashes: Sequence[Clash]) -> None:
        """As `Content`; what a read of something untouched returned was there from the beginning."""
        if touch.reads is not None and request.status == BlkStatus.OK and request.answer:
            self._read(*touch.reads, request.answer)
        super().ended(request, touch, clashes)
        for start, end in touch.writes:
            if self._has_written(request):
                self._settled.set(start, end, value=True)

    def _read(self, start: int, end: int, data: bytes) -> None:
        for first, last in self._settled.gaps(start, min(end, self._size)):
            for here, there in self.undefined.gaps(first, last):
                piece = data[here - start : there - start]
                if piece.count(0) != len(piece):
                    os.pwrite(self._file.fileno(), piece, here)
                self._settled.set(here, there, value=True)
                self.found.set(here, there, value=True)

    def close(self) -> None:
        """The file is complete. Idempotent."""
        self._file.close()


def copy_sparse(source: Path, target: Path) -> None:
    """Copy a file, with its holes."""
    with source.open("rb") as old, target.open("wb") as new:
        size = os.fstat(old.fileno()).st_size
        new.truncate(size)
        at = 0
        while at < size:
            try:
                at = os.lseek(old.fileno(), at, os.SEEK_DATA)
            except OSError:
                return
            end = os.lseek(old.fileno(), at, os.SEEK_HOLE)
            while at < end:
                at += os.pwrite(new.fileno(), os.pread(old.fileno(), min(_COPIED, end - at), at), at)
