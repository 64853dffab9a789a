"""The table of commands: what each is called, how its data goes, how it addresses the medium, who answers it.

The documentation's table comes from it.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import msgspec

from devmodels.ata.transfer import Transfer
from devmodels.iocontext import Coro

if TYPE_CHECKING:
    from devmodels.ata.command import AtaCommand
    from devmodels.ata.device import AtaDevice


class Pending:
    """The type of `PENDING`."""


PENDING: Final = Pending()
"""What a handler returns that calls `device.finish(command)` itself, later or already."""

Reply = Transfer | None | Pending | Coro[Transfer | None]
"""What a handler returns: a transfer that is to be done, nothing where all is done, or a coroutine for either."""

D_contra = TypeVar("D_contra", bound="AtaDevice", contravariant=True)
Handler = Callable[[D_contra, "AtaCommand"], Reply]


class Protocol(Enum):
    """How a command and its data go between host and device (ACS-3 §4, ATA8-APT, SATA)."""

    NON_DATA = "non-data"
    PIO_IN = "PIO data-in"
    PIO_OUT = "PIO data-out"
    DMA_IN = "DMA data-in"
    DMA_OUT = "DMA data-out"
    QUEUED = "NCQ non-data"
    QUEUED_IN = "NCQ data-in"
    QUEUED_OUT = "NCQ data-out"
    PACKET = "PACKET"
    RESET = "DEVICE RESET"
    DIAGNOSTIC = "EXECUTE DEVICE DIAGNOSTIC"

    @property
    def queued(self) -> bool:
        """Whether a command has a tag, and others may be on their way with it."""
        return self in _QUEUED

    @property
    def dma(self) -> bool:
        """Whether data goes by DMA, of a command that is not queued."""
        return self in (Protocol.DMA_IN, Protocol.DMA_OUT)

    @property
    def pio(self) -> bool:
        """Whether data goes in DRQ data blocks."""
        return self in (Protocol.PIO_IN, Protocol.PIO_OUT)


_QUEUED = frozenset({Protocol.QUEUED, Protocol.QUEUED_IN, Protocol.QUEUED_OUT})


_OF_ITSELF = frozenset({Protocol.NON_DATA, Protocol.PIO_IN, Protocol.DIAGNOSTIC})


class Addressing(Enum):
    """What a command's LBA field is."""

    NONE = "–"
    LBA28 = "LBA28, CHS"
    """An LBA of 28 bits, or cylinder, head and sector; a count of 8 bits."""
    LBA48 = "LBA48"
    """An LBA of 48 bits; a count of 16."""


class Sub(Enum):
    """Where a command has the number of its subcommand."""

    NONE = 0
    FEATURES = 1
    """Features, bits 7:0."""
    FEATURES_LOW = 2
    """Features, bits 3:0 (NCQ NON-DATA)."""
    COUNT_HIGH = 3
    """Count, bits 12:8 (SEND and RECEIVE FPDMA QUEUED)."""


class Command(msgspec.Struct, Generic[D_contra], frozen=True, eq=False):
    """One command, or one subcommand of a command.

    `clause`: where it is specified; without a number, under its name.  `sub` says where the subcommand `value` is.
    `locked`: whether it is refused while the device's security is locked.  `feature` is the feature set of which it
    is, as the device's kind calls it; empty for those that every device has.
    `flushes`: it waits for the medium, of which it names no address.
    """

    opcode: int
    name: str
    protocol: Protocol
    handler: Handler[D_contra]
    clause: str = "ACS-3"
    sub: Sub = Sub.NONE
    value: int | None = None
    addressing: Addressing = Addressing.NONE
    feature: str = ""
    locked: bool = False
    flushes: bool = False

    @property
    def medium(self) -> bool:
        """Whether it needs the medium, and not only what the device knows."""
        return self.flushes or self.addressing is not Addressing.NONE or self.protocol not in _OF_ITSELF

    @property
    def reference(self) -> str:
        """Document and clause."""
        return self.clause if "§" in self.clause else f"{self.clause} {self.name.partition(',')[0]}"
