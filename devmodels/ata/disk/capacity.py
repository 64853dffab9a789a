"""How much of the disk can be addressed (ACS-3 §4.4, ATA8-ACS §4.11), and sectors that are made unreadable."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from devmodels.ata.command import AtaCommand, AtaError
from devmodels.ata.constants import LBA, MAX_LBA28, Error
from devmodels.ata.disk.rw import extent
from devmodels.ata.table import Addressing, Command, Protocol, Sub
from devmodels.iocontext import Coro

if TYPE_CHECKING:
    from devmodels.ata.disk.disk import AtaDisk

PSEUDO, FLAGGED = 0x55, 0xAA
"""Features of WRITE UNCORRECTABLE EXT: with and without logging."""


def last_address(disk: AtaDisk) -> int:
    """The last address there is; 0, too, of a disk that its host has left without a sector."""
    return max(disk.sectors - 1, 0)


def native_max(disk: AtaDisk, command: AtaCommand, *, ext: bool) -> None:
    """READ NATIVE MAX ADDRESS (EXT): the last address there is."""
    taskfile = command.taskfile
    if not taskfile.device & LBA:
        raise AtaError(Error.ABRT)
    if ext:
        taskfile.lba = last_address(disk)
    else:
        taskfile.lba28 = min(last_address(disk), MAX_LBA28)


def get_native(disk: AtaDisk, command: AtaCommand) -> None:
    """GET NATIVE MAX ADDRESS EXT."""
    command.taskfile.lba = last_address(disk)


def set_accessible(disk: AtaDisk, command: AtaCommand) -> Coro[None] | None:
    """SET ACCESSIBLE MAX ADDRESS EXT: once between two power-ons."""
    last = command.taskfile.lba
    if disk.accessible_frozen or last >= disk.sectors:
        raise AtaError(Error.ABRT if disk.accessible_frozen else Error.IDNF)
    before = disk.accessible_max
    disk.accessible_max = None if last == disk.sectors - 1 else last + 1
    disk.accessible_frozen = True

    def undo() -> None:
        disk.accessible_max, disk.accessible_frozen = before, False

    return disk.keep(undo)


def freeze_accessible(disk: AtaDisk, _command: AtaCommand) -> None:
    """FREEZE ACCESSIBLE MAX ADDRESS EXT."""
    disk.accessible_frozen = True


def write_uncorrectable(disk: AtaDisk, command: AtaCommand) -> None:
    """WRITE UNCORRECTABLE EXT: reads of these sectors fail until they are written again (ACS-3 §7.71).

    Those of flagged ones are not logged.
    """
    features = command.taskfile.features & 0xFF
    if features not in (PSEUDO, FLAGGED):
        raise AtaError(Error.ABRT)
    lba, count = extent(disk, command, Addressing.LBA48)
    if not disk.bad.make(lba, count, flagged=features == FLAGGED):
        raise AtaError(Error.ABRT)


COMMANDS: tuple[Command[AtaDisk], ...] = (
    Command(
        0x27, "READ NATIVE MAX ADDRESS EXT", Protocol.NON_DATA, partial(native_max, ext=True), "ATA8-ACS"
    ),
    Command(0xF8, "READ NATIVE MAX ADDRESS", Protocol.NON_DATA, partial(native_max, ext=False), "ATA8-ACS"),
    Command(
        0x78,
        "GET NATIVE MAX ADDRESS EXT",
        Protocol.NON_DATA,
        get_native,
        "ACS-3 §7.2.2",
        sub=Sub.FEATURES,
        value=0,
    ),
    Command(
        0x78,
        "SET ACCESSIBLE MAX ADDRESS EXT",
        Protocol.NON_DATA,
        set_accessible,
        "ACS-3 §7.2.3",
        sub=Sub.FEATURES,
        value=1,
    ),
    Command(
        0x78,
        "FREEZE ACCESSIBLE MAX ADDRESS EXT",
        Protocol.NON_DATA,
        freeze_accessible,
        "ACS-3 §7.2.4",
        sub=Sub.FEATURES,
        value=2,
    ),
    Command(
        0x45,
        "WRITE UNCORRECTABLE EXT",
        Protocol.NON_DATA,
        write_uncorrectable,
        "ACS-3 §7.71",
        addressing=Addressing.LBA48,
        locked=True,
    ),
)
