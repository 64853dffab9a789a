"""A command in a slot of an AHCI port, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass

from guestsim.drivers.ahci_layouts import D2H, PIO_SETUP, PortIs
from guestsim.drivers.ata import AtaCommand, AtaStatus
from guestsim.memory import Segment


@dataclass(frozen=True, slots=True)
class Answer:
    """How a command ended: status and error; address, count, device of the FIS; bytes moved (PRDBC), data."""

    status: AtaStatus
    error: int
    lba: int
    count: int
    moved: int
    data: bytes
    device: int = 0

    @property
    def ok(self) -> bool:
        """Whether it has succeeded."""
        return not self.status & (AtaStatus.ERR | AtaStatus.DF | AtaStatus.BSY)

    @property
    def sense_key(self) -> int:
        """Of a packet command that failed."""
        return self.error >> 4


@dataclass(frozen=True, slots=True)
class QueueError:
    """What log 10h says of the command that ended the queue (ACS-3 §A.14): its tag, and how it ended.

    `again` are the answers of those that had ended with it and were done again, in the order of their slots.
    """

    tag: int
    status: AtaStatus
    error: int
    lba: int
    count: int
    again: tuple[Answer, ...]


class Pending:
    """A command in a slot, and the memory it has.  `dropped`: the port was stopped before it was answered.

    `seen` is all that PxIS has shown since it was issued.
    """

    __slots__ = ("answer", "command", "dropped", "seen", "segments", "slot", "table")

    def __init__(self, command: AtaCommand, slot: int, table: int, segments: list[Segment]) -> None:
        self.command = command
        self.slot = slot
        self.table = table
        self.segments = segments
        self.answer: Answer | None = None
        self.dropped = False
        self.seen = PortIs(0)

    @property
    def last_fis(self) -> int:
        """Where the FIS is that told the end.

        That is a PIO Setup FIS where data of a disk's command came by PIO, else a Register FIS (Serial ATA 3.2 §11.7),
        which may be told in PxIS only after PxCI is 0 (AHCI 1.3.1 §5.3.8).
        """
        by_pio = self.seen & (PortIs.PSS | PortIs.DHRS) == PortIs.PSS
        return PIO_SETUP if by_pio and not self.command.out and not self.command.packet else D2H

    @property
    def done(self) -> bool:
        """Whether it has been answered, or never will be."""
        return self.answer is not None or self.dropped
