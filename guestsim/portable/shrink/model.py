"""What a right device's disk holds while a program runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from guestsim.drivers.layouts import BlkType
from guestsim.portable.content import Clash, Touch
from guestsim.portable.ranges import RangeMap
from guestsim.portable.shrink.program import Ask, Group

if TYPE_CHECKING:
    from guestsim.portable.shrink.program import Program


class Known(NamedTuple):
    """Data from byte `at` of a request's on."""

    at: int
    data: bytes


class Disk:
    """Which write was the last one for each byte, and what it wrote: None where nobody can tell."""

    __slots__ = ("_last", "_writes")

    def __init__(self) -> None:
        self._writes: list[tuple[int, bytes | None]] = []
        self._last: RangeMap[int] = RangeMap()

    def write(self, start: int, end: int, data: bytes | None) -> None:
        """From `start` to `end` there is `data` now; b"" stands for zeroes."""
        self._last.set(start, end, None if data == b"" else len(self._writes))
        self._writes.append((start, data))

    def read(self, start: int, end: int, but: Sequence[Clash] = ()) -> tuple[Known, ...]:
        """What is there, where anybody can tell, and `but` for some of it."""
        unknown: RangeMap[bool] = RangeMap()
        found = bytearray(end - start)
        for first, last, number in self._last.find(start, end):
            at, data = self._writes[number]
            if data is None:
                unknown.set(first, last, value=True)
            else:
                found[first - start : last - start] = data[first - at : last - at]
        for clash in but:
            unknown.set(clash.start, clash.end, value=True)
        return tuple(
            Known(first - start, bytes(found[first - start : last - start]))
            for first, last in unknown.gaps(start, end)
        )


def expected(program: Program) -> Iterator[tuple[Known, ...]]:
    """What is known of the data of each request, in order; nothing of what reads nothing of the disk."""
    disk = Disk()
    for held in program.content:
        disk.write(held.at, held.at + held.length, held.data.data(held.length))
    together: list[Ask] = []
    for entry in program.entries:
        if isinstance(entry, Group):
            together += entry.asks
            if not entry.wait:
                continue
        yield from _answers(disk, together)
        together = []
    yield from _answers(disk, together)


def _answers(disk: Disk, asks: Sequence[Ask]) -> Iterator[tuple[Known, ...]]:
    """Answers of requests that are in flight at one time: what one of them writes is uncertain for the others."""
    touches = [Touch(ask.reads, ask.writes) for ask in asks]
    clashes = [_clashes(touches, number) for number in range(len(asks))]
    for ask, clash in zip(asks, clashes, strict=True):
        yield () if ask.reads is None else disk.read(*ask.reads, clash)
    for ask in asks:
        _write(disk, ask)
    for start, end, both in (one for some in clashes for one in some):
        if both:
            disk.write(start, end, None)


def _clashes(touches: Sequence[Touch], number: int) -> list[Clash]:
    ours = touches[number]
    return [clash for n, theirs in enumerate(touches) if n != number for clash in ours.clash(theirs)]


def _write(disk: Disk, ask: Ask) -> None:
    for start, end in ask.writes:
        if ask.type == BlkType.OUT:
            assert ask.payload is not None
            disk.write(start, end, ask.payload.data(ask.sent))
        else:
            disk.write(start, end, b"" if ask.type == BlkType.WRITE_ZEROES else None)
