"""What every log of block I/O is made of: requests as they begin, and as they end, in the order in which that was.

Both are needed to do it again as it was: whatever had ended before a request began ends before it again, and what was
under way may be.  A format that tells of beginnings only (`LogFormat.ends`) leaves that open.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache

import msgspec

from devmodels.blockbackend.request import Flags, Op

SECTOR = 512

Data = int | bytes | None
"""The bytes of a request: one that all of them have, or all; None where the log doesn't tell."""

_NOISE = 1 << 20


class LogError(ValueError):
    """A log is wrong; the text is one line: file, line, what was expected."""


class Begin(msgspec.Struct, frozen=True, gc=False):
    """A request begins: `offset` and `length` in bytes, `time_ns` on a clock of the log's own.

    `number` is its own in the log.  `disk` is what the log calls the disk, `queue` says which of several queues it
    went to.  `data` is what is written, or what a read is expected to find.
    """

    number: int
    time_ns: int
    op: Op
    offset: int
    length: int
    disk: str = ""
    flags: Flags = Flags.NONE
    data: Data = None
    queue: int = 0


class End(msgspec.Struct, frozen=True, gc=False):
    """Request `number` has ended: `error` is 0 or an errno, `data` what a read has got where the log tells."""

    number: int
    time_ns: int
    error: int = 0
    data: bytes | None = None


Event = Begin | End


class Losses(Counter[str]):
    """What could not be kept, by kind: how often.  A kind is a phrase for a person."""

    def lines(self) -> list[str]:
        """One line for each kind."""
        return [f"{count} × {kind}" for kind, count in sorted(self.items())]


class Lines(Iterator[str]):
    """The lines of a text, without their ends, and where it is: `number` counts from 1."""

    def __init__(self, lines: Iterable[str], name: str) -> None:
        self._lines = iter(lines)
        self.name = name
        self.number = 0

    def __next__(self) -> str:
        line = next(self._lines)
        self.number += 1
        return line.rstrip("\r\n")

    def error(self, expected: str, number: int | None = None) -> LogError:
        """The error that a line, the last one, is not what was expected."""
        return LogError(f"{self.name}:{number or self.number}: expected {expected}")


@cache
def _noise() -> bytes:
    return random.Random(1).randbytes(_NOISE)


def payload(begin: Begin, start: int = 0, length: int | None = None) -> bytes:
    """What the request writes, all of it or `length` bytes from its byte `start` on.

    The log's data is repeated as often as need be; where it has none, this is noise of the request's own.
    """
    length = begin.length - start if length is None else length
    data = begin.data
    if isinstance(data, int):
        return bytes([data]) * length
    if not data:
        data = _noise()
        start += begin.number * SECTOR
    start %= len(data)
    if start + length > len(data):
        data = data * -(-(start + length) // len(data))
    return data[start : start + length]


def uniform(data: Data) -> int | None:
    """The byte that all of `data` has; None where they differ, or aren't known."""
    if isinstance(data, bytes):
        return data[0] if data and data.count(data[0]) == len(data) else None
    return data


_MOST_PIECES = 1024


def split(begin: Begin, most: int, losses: Losses) -> Iterator[Begin]:
    """The request in pieces of at most `most` bytes, under the same number; nothing where that would be too many."""
    if begin.length <= most:
        yield begin
        return
    if begin.length > most * _MOST_PIECES:
        losses[f"request longer than {most * _MOST_PIECES >> 30} GiB: left out"] += 1
        return
    losses[f"request longer than {most} bytes: cut into pieces"] += 1
    for start in range(0, begin.length, most):
        length = min(most, begin.length - start)
        data = payload(begin, start, length) if isinstance(begin.data, bytes) else begin.data
        yield msgspec.structs.replace(begin, offset=begin.offset + start, length=length, data=data)
