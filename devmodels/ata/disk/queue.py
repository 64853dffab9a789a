"""NCQ NON-DATA (ACS-3 §7.16): about the queue itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.ata.command import AtaCommand, AtaError
from devmodels.ata.constants import Error
from devmodels.ata.table import Command, Protocol, Sub

if TYPE_CHECKING:
    from devmodels.ata.disk.disk import AtaDisk

ALL, STREAMING, NON_STREAMING, SELECTED = 0, 1, 2, 3
"""Abort types: which commands."""


def abort_queue(disk: AtaDisk, command: AtaCommand) -> None:
    """ABORT NCQ QUEUE (§7.16): what has begun runs on, and a command that is in the queue has.

    None is one of streaming, so that an abort of these finds none; a tag that nobody has is refused.
    """
    kind, tag = command.taskfile.features >> 4 & 0xF, command.taskfile.lba >> 3 & 0x1F
    if kind > SELECTED:
        raise AtaError(Error.ABRT)
    others = [each for each in disk.in_flight if each.queued and each is not command]
    if kind == SELECTED and not any(each.tag == tag for each in others):
        raise AtaError(Error.ABRT)


COMMANDS: tuple[Command[AtaDisk], ...] = (
    Command(
        0x63,
        "NCQ NON-DATA, ABORT NCQ QUEUE",
        Protocol.QUEUED,
        abort_queue,
        "ACS-3 §7.16",
        sub=Sub.FEATURES_LOW,
        value=0,
        feature="NCQ",
    ),
)
