"""A command for an IDE device, as its registers have it, and what they show at the end (ATA/ATAPI-7 vol. 2 §7)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from guestsim.drivers.ide_layouts import LBA_MODE, AtaStatus

if TYPE_CHECKING:
    from collections.abc import Sequence


class Way(Enum):
    """How a command's data goes."""

    NONE = "non-data"
    PIO_IN = "PIO in"
    PIO_OUT = "PIO out"
    DMA_IN = "DMA in"
    DMA_OUT = "DMA out"

    @property
    def dma(self) -> bool:
        """Whether the bus master moves it."""
        return self in (Way.DMA_IN, Way.DMA_OUT)

    @property
    def out(self) -> bool:
        """Whether it goes to the device."""
        return self in (Way.PIO_OUT, Way.DMA_OUT)


@dataclass(frozen=True, slots=True)
class Task:
    """A command's registers.  `wide`: each of count, features and LBA is written twice (48-bit commands).

    `way` with `length` in bytes; `data` for the device.  `regions` are the lengths of the bus master's regions, by
    default as few as there can be.
    """

    command: int
    features: int = 0
    count: int = 0
    lba: int = 0
    device: int = LBA_MODE
    wide: bool = False
    way: Way = Way.NONE
    length: int = 0
    data: bytes = b""
    regions: Sequence[int] | None = None


@dataclass(slots=True)
class Reply:
    """What the registers show at the end, and the data.

    `blocks` are the lengths of the DRQ data blocks, `reasons` the interrupt reasons with which they came; `bus_master`
    is its status at the end.
    """

    status: int = 0
    error: int = 0
    count: int = 0
    lba: int = 0
    device: int = 0
    data: bytes = b""
    blocks: list[int] = field(default_factory=list)
    reasons: list[int] = field(default_factory=list)
    bus_master: int | None = None

    @property
    def ok(self) -> bool:
        """Whether the device has nothing to complain of."""
        return not self.status & (AtaStatus.ERR | AtaStatus.DF)

    @property
    def sense_key(self) -> int:
        """Of a packet command that failed."""
        return self.error >> 4
