"""SMART error logging: what became of sectors that could not be had (ATA8-ACS annex A; the extended log: §A.7).

Commands that nobody could have done (unknown ones, addresses that are not there) are no errors of the disk, and are not
logged.  Of the commands before the one that failed nothing is kept: their places are zeroes.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from devmodels.ata.command import AtaCommand, AtaError
from devmodels.ata.constants import READY
from devmodels.ata.taskfile import TaskFile
from devmodels.ata.words import checksummed

if TYPE_CHECKING:
    from devmodels.ata.disk.disk import AtaDisk

SUMMARY, COMPREHENSIVE, EXTENDED = 0x01, 0x02, 0x03
"""Log addresses."""
KEPT = 5
"""How many errors are kept: as many as the summary has."""
EXTENDED_KEPT = 4
"""How many of them a page of the extended log has."""
COMMANDS = 5
"""Commands in the account of an error, the one that failed the last."""
ACTIVE = 3
"""State of the disk when an error occurred: active or idle."""
VERSION = 1


class LoggedError(NamedTuple):
    """A command as it came, and how it ended: where (`lba`), when (ms and hours since power-on)."""

    taskfile: TaskFile
    error: int
    status: int
    lba: int
    milliseconds: int
    hours: int


class ErrorLog:
    """The newest errors, the newest last, and how many there have been."""

    __slots__ = ("count", "errors")

    def __init__(self) -> None:
        self.count = 0
        self.errors: list[LoggedError] = []

    def add(self, disk: AtaDisk, command: AtaCommand, error: AtaError) -> None:
        """`command` ends with `error`, which is the medium's."""
        milliseconds = disk.powered_for_ns() // 1_000_000
        hours = min(milliseconds // 3_600_000, 0xFFFF)
        lba = command.taskfile.lba if error.lba is None else error.lba
        self.errors.append(
            LoggedError(command.taskfile.copy(), error.error, READY | error.status, lba, milliseconds, hours)
        )
        del self.errors[:-KEPT]
        self.count += 1


def summary(disk: AtaDisk) -> bytes:
    """The page of the summary error log; the comprehensive one, of one page, is the same."""
    log = disk.errors
    rows = b"".join(map(_row, log.errors)).ljust(KEPT * 90, b"\0")
    return checksummed(bytes((VERSION, len(log.errors))) + rows + struct.pack("<H", min(log.count, 0xFFFF)))


def extended(disk: AtaDisk) -> bytes:
    """The page of the extended comprehensive error log."""
    log = disk.errors
    errors = log.errors[-EXTENDED_KEPT:]
    rows = b"".join(map(_extended_row, errors)).ljust(EXTENDED_KEPT * 124, b"\0")
    return checksummed(
        struct.pack("<BxH", VERSION, len(errors)) + rows + struct.pack("<H", min(log.count, 0xFFFF))
    )


def _row(each: LoggedError) -> bytes:
    taskfile = each.taskfile
    command = struct.pack(
        "<xBBBHBBI",
        taskfile.features & 0xFF,
        taskfile.count & 0xFF,
        *_low(taskfile.lba),
        taskfile.device,
        taskfile.command,
        each.milliseconds & 0xFFFF_FFFF,
    )
    end = struct.pack(
        "<xBBBHBB19xBH",
        each.error,
        taskfile.count & 0xFF,
        *_low(each.lba),
        taskfile.device,
        each.status,
        ACTIVE,
        each.hours,
    )
    return bytes((COMMANDS - 1) * len(command)) + command + end


def _low(lba: int) -> tuple[int, int]:
    """Bits 7:0, and 23:8."""
    return lba & 0xFF, lba >> 8 & 0xFFFF


def _extended_row(each: LoggedError) -> bytes:
    taskfile = each.taskfile
    command = struct.pack(
        "<xHH6sBBxI",
        taskfile.features,
        taskfile.count,
        _pairs(taskfile.lba),
        taskfile.device,
        taskfile.command,
        each.milliseconds & 0xFFFF_FFFF,
    )
    end = struct.pack(
        "<xBH6sBB19xBH",
        each.error,
        taskfile.count,
        _pairs(each.lba),
        taskfile.device,
        each.status,
        ACTIVE,
        each.hours,
    )
    return bytes((COMMANDS - 1) * len(command)) + command + end


def _pairs(lba: int) -> bytes:
    """Bits 7:0, 31:24, 15:8, 39:32, 23:16, 47:40."""
    return bytes(lba >> shift & 0xFF for shift in (0, 24, 8, 32, 16, 40))
