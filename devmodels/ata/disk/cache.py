"""FLUSH CACHE and FLUSH CACHE EXT (ACS-3 §7.10, §7.11)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.ata.command import AtaCommand
from devmodels.ata.table import Command, Protocol

if TYPE_CHECKING:
    from devmodels.ata.disk.disk import AtaDisk


async def flush(disk: AtaDisk, command: AtaCommand) -> None:
    """Over when all that was written is stable."""
    await disk.flush(command)


COMMANDS: tuple[Command[AtaDisk], ...] = (
    Command(0xE7, "FLUSH CACHE", Protocol.NON_DATA, flush, "ACS-3 §7.10", locked=True, flushes=True),
    Command(0xEA, "FLUSH CACHE EXT", Protocol.NON_DATA, flush, "ACS-3 §7.11", locked=True, flushes=True),
)
