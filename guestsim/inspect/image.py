"""Guest-physical memory as it was at one moment, to be read only."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from guestsim.errors import GuestError

if TYPE_CHECKING:
    from collections.abc import Iterable

ADDRESS_LIMIT = 1 << 64


class OutsideMemoryError(GuestError):
    """`length` bytes at `address` are not all in memory."""

    def __init__(self, address: int, length: int) -> None:
        super().__init__(f"{length} bytes at {address:#x} are outside memory")
        self.address = address
        self.length = length


class Span:
    """Memory from guest-physical `base` on; `end` is the first address after it."""

    __slots__ = ("base", "end", "view")

    def __init__(self, base: int, view: memoryview) -> None:
        self.base = base
        self.end = base + len(view)
        self.view = view


class MemoryImage:
    """Spans of memory that do not overlap (ValueError where two do)."""

    def __init__(self, spans: Iterable[tuple[int, bytes | bytearray | memoryview]]) -> None:
        self.spans = sorted((Span(base, memoryview(data).cast("B")) for base, data in spans), key=_base)
        self._bases = [span.base for span in self.spans]
        for one, other in zip(self.spans, self.spans[1:], strict=False):
            if one.end > other.base:
                raise ValueError(f"two pieces of memory at {other.base:#x}")

    @property
    def size(self) -> int:
        """Bytes in all spans."""
        return sum(len(span.view) for span in self.spans)

    def read(self, address: int, length: int) -> bytes:
        """Copy `length` bytes out; OutsideMemoryError where any of them is not there."""
        at = bisect_right(self._bases, address) - 1
        if at >= 0 and 0 <= length <= self.spans[at].end - address:
            start = address - self.spans[at].base
            return bytes(self.spans[at].view[start : start + length])
        found = bytearray()
        while len(found) < length:
            place = address + len(found)
            if not 0 <= at < len(self.spans) or not self.spans[at].base <= place < self.spans[at].end:
                raise OutsideMemoryError(address, length)
            start = place - self.spans[at].base
            found += self.spans[at].view[start : start + length - len(found)]
            at += 1
        return bytes(found)

    def contains(self, address: int, length: int) -> bool:
        """Whether all of the range is in memory; of no bytes, whether the address is."""
        at = bisect_right(self._bases, address) - 1
        end = address + max(length, 1)
        while 0 <= at < len(self.spans) and self.spans[at].base <= address < self.spans[at].end:
            address = self.spans[at].end
            if end <= address:
                return True
            at += 1
        return False


def _base(span: Span) -> int:
    return span.base
