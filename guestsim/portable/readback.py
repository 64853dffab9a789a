"""What is on a target's disk when all has been fed: what a guest has written, and may never have read again.

An operating system reads little of what it wrote: its page cache has it.  A write that ends up somewhere else, or
loses its end, would not show in any recorded answer.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from guestsim.drivers.layouts import BLK_HEADER, SECTOR, BlkStatus, BlkType
from guestsim.portable.content import Content, copy_sparse
from guestsim.portable.differences import CONTENT, Difference, DiskPlace
from guestsim.portable.ranges import RangeMap
from guestsim.portable.requests import ranges_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import BinaryIO, Self

    from guestsim.drivers.virtio_blk import VirtioBlk
    from guestsim.portable.content import Clash, Touch
    from guestsim.portable.requests import Request

_AT_ONCE = 1 << 20
_SHOWN = 8


class Source(NamedTuple):
    """Where bytes of the disk come from: the request with this number (-1: they were there first), and if zeroed."""

    number: int
    zeroed: bool = False


class LastContent(Content):
    """Follows what the disk holds in a sparse file, which begins as `image`; there the ranges `first` are known.

    OSError where there can be no such file.
    """

    __slots__ = ("_file", "known")

    def __init__(self, path: Path, image: Path, first: RangeMap[bool]) -> None:
        super().__init__()
        copy_sparse(image, path)
        self._file: BinaryIO = path.open("r+b")
        self.known: RangeMap[Source] = RangeMap()
        for start, end, _ in first.find(0, image.stat().st_size):
            self.known.set(start, end, Source(-1))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def ended(self, request: Request, touch: Touch, clashes: Sequence[Clash]) -> None:
        """As `Content`; what was written is kept."""
        super().ended(request, touch, clashes)
        header = request.header
        if header is None or request.skip or request.status != BlkStatus.OK:
            return
        if header.type == BlkType.OUT:
            for start, end in touch.writes:
                os.pwrite(self._file.fileno(), b"".join(request.readable)[BLK_HEADER.size :], start)
                self.known.set(start, end, Source(request.number))
        elif header.type == BlkType.WRITE_ZEROES:
            for start, end in touch.writes:
                self.known.set(start, end, Source(request.number, zeroed=True))

    def forget(self, start: int, end: int) -> None:
        """Nothing is known of these bytes any more."""
        self.known.set(start, end, None)

    def certain(self, size: int) -> Iterator[tuple[int, int]]:
        """Where it is known, on a disk of `size` bytes: starts and ends, in order, in pieces of moderate length."""
        joined: RangeMap[bool] = RangeMap()
        for start, end, _ in self.known.find(0, size):
            joined.set(start, end, value=True)
        for start, end, _ in self.undefined.find(0, size):
            joined.set(start, end, None)
        for start, end, _ in joined.find(0, size):
            for at in range(start, end, _AT_ONCE):
                yield at, min(at + _AT_ONCE, end)

    def parts(self, start: int, end: int) -> Iterator[tuple[int, bytes, Source]]:
        """What is in a piece of it: where, the bytes, and where they come from."""
        for first, last, source in self.known.find(start, end):
            length = last - first
            held = bytes(length) if source.zeroed else os.pread(self._file.fileno(), length, first)
            yield first, held.ljust(length, b"\0"), source


def forget_what_differs(content: LastContent, request: Request) -> None:
    """The target has answered a write otherwise than it was recorded: nobody knows what it has written."""
    header = request.header
    assert header is not None
    if header.type == BlkType.OUT:
        start = header.sector * SECTOR
        content.forget(start, start + request.payload_length)
    else:
        for start, end in ranges_of(request):
            content.forget(start, end)


async def read_back(driver: VirtioBlk, content: LastContent) -> tuple[int, list[Difference]]:
    """Bring the device up once more and read all that is known; how many bytes, and what is not as it should be.

    GuestError where that cannot be.
    """
    await driver.probe()
    nbytes = 0
    found = []
    for start, end in content.certain(driver.capacity):
        got = await driver.read(start, end - start)
        nbytes += end - start
        for at, expected, source in content.parts(start, end):
            data = got[at - start : at - start + len(expected)]
            if data != expected:
                found.append(_difference(at, expected, data, source, (start, end)))
    return nbytes, found


def _difference(at: int, expected: bytes, got: bytes, source: Source, read: tuple[int, int]) -> Difference:
    where = next(n for n, (one, two) in enumerate(zip(expected, got, strict=True)) if one != two)
    shown = slice(where, where + _SHOWN)
    what = f"{CONTENT} at byte {at + where}"
    told = expected[shown].hex(" "), got[shown].hex(" ")
    return Difference(source.number, -1, -1, "", what, *told, place=DiskPlace(at + where, *read))
