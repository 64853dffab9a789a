"""Buffers in a guest's memory, for the rigs of whole devices."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

from devmodels.virtio.device import VirtioDevice
from tests.unit.virtio.model import Vector
from tests.unit.virtio.plain import PlainMemory

UNTOUCHED = 0xEE
"""What guest memory holds before the device has written it."""


class Arena:
    """What lies below `stage` is for buffers; their addresses come round."""

    stage: ClassVar[int]
    plain: PlainMemory
    device: VirtioDevice
    at: int

    def allocate(self, length: int) -> int:
        if self.at + length > self.stage:
            self.at = 0
        address, self.at = self.at, self.at + length + 3
        assert length <= self.stage
        return address

    def readable(self, data: bytes, cuts: Sequence[int] = ()) -> list[Vector]:
        """`data` in guest memory, in pieces that end at `cuts`."""
        out = []
        for start, end in spans(len(data), cuts):
            address = self.allocate(end - start)
            self.plain.store(address, data[start:end])
            out.append((address, end - start))
        return out

    def writable(self, length: int, cuts: Sequence[int] = ()) -> list[Vector]:
        """Room for `length` bytes, in pieces that end at `cuts`."""
        out = []
        for start, end in spans(length, cuts):
            address = self.allocate(end - start)
            self.plain.store(address, bytes([UNTOUCHED]) * (end - start))
            out.append((address, end - start))
        return out

    def content(self, vectors: Sequence[Vector]) -> bytes:
        return b"".join(self.plain.load(address, length) for address, length in vectors if length)

    @property
    def held(self) -> tuple[int, int]:
        """What the device has borrowed: pins of all regions, and bytes in bounce buffers."""
        memory = self.device.memory
        return sum(region.pins for region in memory.regions), memory.bounced_bytes

    @property
    def clauses(self) -> list[str]:
        return [each.clause for each in self.device.violations.recent]


def spans(length: int, cuts: Sequence[int]) -> list[tuple[int, int]]:
    """[0, length) cut at `cuts`; two cuts at one place inside make an empty piece there."""
    edges = [0, *sorted(min(cut, length) for cut in cuts), length]
    return [(start, end) for start, end in pairwise(edges) if start < end or 0 < start < length]


def payload(length: int) -> bytes:
    """Data of which no two pieces are alike."""
    return bytes(at * 13 + at // 251 & 0xFF for at in range(length))
