"""Guest-physical memory as it was at one moment, to be read only."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Span:
    """Memory from guest-physical `base` on."""

    base: int
    view: memoryview

    @property
    def end(self) -> int:
        """First address after the span."""
        return self.base + len(self.view)


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
        found = bytearray()
        at = bisect_right(self._bases, address) - 1
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
