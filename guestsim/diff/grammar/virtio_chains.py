"""Chains of buffers of a virtio driver's, and where in guest memory what they consist of lies (VIRTIO 1.4 §2.6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from guestsim.diff.access import Access, Bytes, Loose, Store
from guestsim.diff.arena import ARENA, ARENA_SIZE
from guestsim.drivers.layouts import DESC_WRITE

BUFFERS = ARENA + 0x2_0000
BUFFERS_END = ARENA + ARENA_SIZE

UNTOUCHED = 0xEE
"""What a buffer holds before the device writes it."""

Part = tuple[int, int, int]
"""Address, length and flags of a descriptor."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One buffer of a chain: what the driver puts there, or `length` bytes that the device may write."""

    length: int
    data: bytes | None = None

    @property
    def writable(self) -> bool:
        """Whether the device may write it."""
        return self.data is None


@dataclass(frozen=True, slots=True)
class Unequal:
    """What is not compared (`Loose`) of what the device writes into a chain, in bytes of that."""

    reason: str
    start: int
    length: int
    status: int | None = None
    good: bool = False
    values: tuple[Bytes, Bytes] | None = None


@dataclass(frozen=True, slots=True)
class Chain:
    """One buffer of the driver's, for which it needs all features in `needs`.

    `quirk` is what is wrong with it (see `virtio_rings`), `traits` is what else is special.  Where used.len need not be
    the same, `written` has the values that ours may have there, and `counted` is QEMU's, in bytes.
    """

    name: str
    pieces: tuple[Piece, ...]
    indirect: bool = False
    quirk: str = ""
    traits: tuple[str, ...] = ()
    needs: int = 0
    loose: tuple[Unequal, ...] = ()
    written: tuple[int, ...] = ()
    counted: int = 0


def joined(pieces: tuple[Piece, ...], at: int) -> tuple[Piece, ...]:
    """The same buffer with the pieces `at` and after it in one, where they are of one kind."""
    one, two = pieces[at : at + 2]
    if one.writable != two.writable:
        return pieces
    data = None if one.data is None or two.data is None else one.data + two.data
    return (*pieces[:at], Piece(one.length + two.length, data), *pieces[at + 2 :])


@dataclass(slots=True)
class Buffers:
    """The memory for buffers; what is taken last comes where what was taken first has been."""

    free: int = BUFFERS

    def place(self, piece: Piece, do: list[Access]) -> Part:
        """Room for a piece, filled."""
        if self.free + piece.length > BUFFERS_END:
            self.free = BUFFERS
        at = self.free
        self.free += piece.length
        if piece.length:
            do.append(Store(at, bytes([UNTOUCHED]) * piece.length if piece.data is None else piece.data))
        return at, piece.length, DESC_WRITE if piece.writable else 0


def loose(chain: Chain, parts: Sequence[Part]) -> Iterator[Loose]:
    """What of a chain's buffers is not compared."""
    addresses: list[int] = []
    for address, length, flags in parts if chain.loose else ():
        if flags:
            addresses += range(address, address + length)
    for one in chain.loose:
        where = None if one.status is None else addresses[one.status]
        part = addresses[one.start : one.start + one.length]
        begin = 0
        for at in range(1, len(part) + 1):
            if at == len(part) or part[at] != part[at - 1] + 1:
                yield Loose(one.reason, part[begin], at - begin, where, one.good, _held(one, begin, at))
                begin = at


def _held(one: Unequal, begin: int, end: int) -> tuple[Bytes, Bytes] | None:
    """The part of the values of both that is there."""
    if one.values is None:
        return None
    ours, theirs = (_cut(value, begin, end) for value in one.values)
    return ours, theirs


def _cut(value: Bytes, begin: int, end: int) -> Bytes:
    """The same part of one, or of each of several."""
    if isinstance(value, tuple):
        return tuple(each[begin:end] for each in value)
    return None if value is None else value[begin:end]
