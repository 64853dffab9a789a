"""Requests of a block device as a driver makes them, and what comes back (VIRTIO 1.4 §5.2.6).

The ordinary ones are made by functions (`read`, `write`, …); a hostile one is put together literally.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from guestsim.drivers.layouts import (
    BLK_HEADER,
    BLK_LIFETIME,
    BLK_RANGE,
    ID_BYTES,
    SECTOR,
    WRITE_ZEROES_UNMAP,
    BlkStatus,
    BlkType,
)
from guestsim.drivers.virtio_driver import Request
from guestsim.errors import GuestError


@dataclass(frozen=True, slots=True)
class Operation(Request):
    """A request with its header first, and its status byte as the last one that the device may write."""

    writable: int = 1

    @property
    def name(self) -> str:
        """The request's type, for messages."""
        kind = int.from_bytes(self.readable[:4], "little")
        return BlkType(kind).name if kind in set(BlkType) else f"type {kind}"

    def __str__(self) -> str:
        """The request in one line, for reports."""
        sector = int.from_bytes(self.readable[8:16], "little")
        payload = max(0, len(self.readable) - BLK_HEADER.size)
        return f"{self.name} at sector {sector}, {payload} bytes of payload, {self.writable} writable"


def read(offset: int, length: int, *, scatter: int = 1) -> Operation:
    """Read `length` bytes at `offset`, both multiples of 512."""
    return Operation(_header(BlkType.IN, offset), length + 1, scatter=scatter)


def write(offset: int, data: bytes, *, scatter: int = 1) -> Operation:
    """Write `data` at `offset`, both multiples of 512."""
    return Operation(_header(BlkType.OUT, offset) + data, scatter=scatter)


def flush() -> Operation:
    """Make completed writes stable."""
    return Operation(_header(BlkType.FLUSH))


def get_id() -> Operation:
    """Ask for the device's 20 bytes of identity."""
    return Operation(_header(BlkType.GET_ID), ID_BYTES + 1)


def get_lifetime() -> Operation:
    """Ask for the wear of the storage behind the device."""
    return Operation(_header(BlkType.GET_LIFETIME), BLK_LIFETIME.size + 1)


def discard(ranges: Sequence[tuple[int, int]]) -> Operation:
    """Discard ranges of (offset, length) in bytes."""
    return _ranges(BlkType.DISCARD, ranges, 0)


def write_zeroes(ranges: Sequence[tuple[int, int]], *, unmap: bool = False) -> Operation:
    """Zero ranges of (offset, length) in bytes; with `unmap` the device may deallocate them."""
    return _ranges(BlkType.WRITE_ZEROES, ranges, WRITE_ZEROES_UNMAP if unmap else 0)


def secure_erase(ranges: Sequence[tuple[int, int]]) -> Operation:
    """Erase ranges of (offset, length) in bytes for good."""
    return _ranges(BlkType.SECURE_ERASE, ranges, 0)


def _header(kind: BlkType, offset: int = 0) -> bytes:
    if offset % SECTOR:
        raise GuestError(f"offset {offset} is not a multiple of {SECTOR}")
    return BLK_HEADER.pack(kind, 0, offset // SECTOR)


def _ranges(kind: BlkType, ranges: Sequence[tuple[int, int]], flags: int) -> Operation:
    packed = b"".join(BLK_RANGE.pack(offset // SECTOR, length // SECTOR, flags) for offset, length in ranges)
    return Operation(_header(kind) + packed)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a device answered: `status`, the payload it wrote, and the used length it reported.

    `status` is None where the request had no room for one.
    """

    status: int | None
    data: bytes
    used_length: int
    duration_ns: int

    @property
    def ok(self) -> bool:
        """Whether the request succeeded."""
        return self.status == BlkStatus.OK

    @property
    def status_name(self) -> str:
        """`OK`, `IOERR`, `UNSUPP`, or the number."""
        if self.status is None:
            return "no status"
        return BlkStatus(self.status).name if self.status in set(BlkStatus) else f"status {self.status}"
