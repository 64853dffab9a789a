"""NCQ NON-DATA (ACS-3 §7.16), about the queue itself; logs that are read and written in the queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.ata.command import AtaCommand, AtaError
from devmodels.ata.constants import Error
from devmodels.ata.disk import features, logs
from devmodels.ata.table import Command, Protocol, Sub
from devmodels.ata.transfer import DataIn

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


def deadline_handling(_disk: AtaDisk, _command: AtaCommand) -> None:
    """DEADLINE HANDLING (§7.16): what becomes of commands that miss their deadline; none is ended for that here."""


def receive_log(disk: AtaDisk, command: AtaCommand) -> DataIn:
    """READ LOG DMA EXT in the queue; not of the log that tells of errors of the queue."""
    if command.taskfile.lba & 0xFF == logs.NCQ_ERROR:
        raise AtaError(Error.ABRT)
    return logs.read_log(disk, command)


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
    Command(
        0x63,
        "NCQ NON-DATA, DEADLINE HANDLING",
        Protocol.QUEUED,
        deadline_handling,
        "ACS-3 §7.16",
        sub=Sub.FEATURES_LOW,
        value=1,
        feature="NCQ",
    ),
    Command(
        0x63,
        "NCQ NON-DATA, SET FEATURES",
        Protocol.QUEUED,
        features.queued,
        "ACS-4",
        sub=Sub.FEATURES_LOW,
        value=5,
        feature="NCQ",
    ),
    Command(
        0x64,
        "SEND FPDMA QUEUED, WRITE LOG DMA EXT",
        Protocol.QUEUED_OUT,
        logs.write_log,
        "ACS-3 §7.43",
        sub=Sub.COUNT_HIGH,
        value=2,
        feature="NCQ",
        locked=True,
    ),
    Command(
        0x65,
        "RECEIVE FPDMA QUEUED, READ LOG DMA EXT",
        Protocol.QUEUED_IN,
        receive_log,
        "ACS-3",
        sub=Sub.COUNT_HIGH,
        value=1,
        feature="NCQ",
    ),
)
