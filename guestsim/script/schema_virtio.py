"""What a script may say to a virtio disk: bring it up, its requests, and the reset of a queue."""

from __future__ import annotations

from typing import Literal

import msgspec

from guestsim.drivers.layouts import SECTOR, BlkFeature, BlkType, Feature
from guestsim.drivers.scsi_layouts import ScsiFeature
from guestsim.script.parts import U16, U32, Bit, Part, Positive, Whole, check_bits, check_queue_size
from guestsim.script.values import Amount, Pattern, Size

FEATURES: dict[str, int] = {bit.name: bit.value for bit in (*Feature, *BlkFeature, *ScsiFeature)}
"""Feature names as the specification has them, without VIRTIO_F_, VIRTIO_BLK_F_ and VIRTIO_SCSI_F_."""


class Range(Part):
    """A range of the disk, in bytes."""

    at: Size = Size(0)
    length: Size = Size(512)

    def __post_init__(self) -> None:
        if self.length // SECTOR >> 32:
            raise ValueError(f"length {int(self.length)}, expected at most 32 bits of sectors")


class Probe(Part):
    """Reset the device and bring it up as an operating system would."""

    features: list[str | Bit] | None = None
    without: list[str | Bit] = msgspec.field(default_factory=list)
    force: list[str | Bit] = msgspec.field(default_factory=list)
    queues: Positive | None = None
    queue_size: Positive | None = None
    interrupts: Literal["msix", "intx", "polling"] = "msix"
    indirect: bool = True
    legacy: bool | None = None
    sense_size: U32 | None = None
    cdb_size: U32 | None = None
    event_buffers: Whole | None = None

    def __post_init__(self) -> None:
        for name in (*(self.features or ()), *self.without, *self.force):
            if isinstance(name, str) and name not in FEATURES:
                raise ValueError(
                    f"feature {name!r}, expected a number or one of {', '.join(sorted(FEATURES))}"
                )
        check_queue_size("queue-size", self.queue_size)


class Read(Part):
    """Read, into `scatter` buffers."""

    at: Size = Size(0)
    length: Amount = Amount(512)
    scatter: Positive = 1


class Write(Pattern, rename="kebab", kw_only=True):
    """Write a pattern, from `scatter` buffers."""

    at: Size = Size(0)
    length: Amount = Amount(512)
    scatter: Positive = 1


class Zero(Range):
    """Write zeroes; with `unmap` the device may deallocate."""

    unmap: bool = False


class WriteCache(Part):
    """Switch the write cache."""

    on: bool


class RawRequest(Part):
    """A request put together literally.

    The device reads a header of `type`, `reserved` and `sector`, cut or extended to `header` bytes, then `data`;
    it may write `writable` bytes (the status byte last).  `readable-split` and `writable-split` are the lengths of the
    chain's segments.
    """

    type: str | U32
    reserved: U32 = 0
    sector: Whole = 0
    header: U16 = 16
    data: RawData | None = None
    ranges: list[RawRange] = msgspec.field(default_factory=list)
    writable: Amount = Amount(1)
    readable_split: list[int] | None = None
    writable_split: list[int] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.type, str) and self.type not in BlkType.__members__:
            raise ValueError(
                f"type {self.type!r}, expected a number or one of {', '.join(BlkType.__members__)}"
            )
        check_bits("sector", self.sector, 8)


class RawData(Pattern, kw_only=True):
    """`length` bytes of a pattern."""

    length: Amount


class RawRange(Part):
    """One segment of a discard, write-zeroes or secure-erase request, in sectors."""

    sector: Whole = 0
    sectors: U32 = 1
    flags: U32 = 0

    def __post_init__(self) -> None:
        check_bits("sector", self.sector, 8)


class ResetQueue(Part):
    """Reset one queue and set it up again, with `size` entries."""

    queue: U16 = 0
    size: Positive | None = None

    def __post_init__(self) -> None:
        check_queue_size("size", self.size)
