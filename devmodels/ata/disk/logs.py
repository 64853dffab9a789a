"""General purpose logs (ACS-3 §4.10, annex A): the directory, the NCQ error log, IDENTIFY data, host vendor logs.

Pages of 512 bytes.  What reads them: READ LOG EXT and READ LOG DMA EXT; what writes them, those of host vendors.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from devmodels.ata.command import AtaCommand, AtaError
from devmodels.ata.constants import BLOCK, Error, Transport
from devmodels.ata.disk import errorlog, identifylog, sct, testlog
from devmodels.ata.table import Command, Protocol
from devmodels.ata.taskfile import TaskFile
from devmodels.ata.transfer import DataIn, DataOut
from devmodels.ata.words import checksummed

if TYPE_CHECKING:
    from devmodels.ata.disk.disk import AtaDisk

DIRECTORY, NCQ_ERROR, SEND_RECEIVE, NCQ_NON_DATA, IDENTIFY_DATA = 0x00, 0x10, 0x13, 0x12, 0x30
READ_LOG, READ_LOG_DMA = 0x2F, 0x47
SEND, RECEIVE = 0x64, 0x65
"""The same in the queue: features say how many pages there are."""
HOST_LOGS = range(0x80, 0xA0)
HOST_PAGES = 16
VERSION = 1
NO_QUEUED = 0x80
"""NQ of the NCQ error log: the command that failed was none of NCQ's (ACS-3 §A.14)."""


def _directory(disk: AtaDisk) -> bytes:
    """How many pages each log has; word 0 is the version (ACS-3 §A.2)."""
    counts = [VERSION] + [_pages(disk, address) for address in range(1, 256)]
    return struct.pack("<256H", *counts)


def _pages(disk: AtaDisk, address: int) -> int:
    if address in HOST_LOGS:
        return HOST_PAGES
    if address in sct.LOGS:
        return 1
    log = _log(disk, address)
    return 0 if log is None else len(log(disk)) // BLOCK


def _log(disk: AtaDisk, address: int) -> Log | None:
    """What makes a log; None where the disk has it not."""
    queues = disk.options.queue_depth and disk.transport is Transport.SERIAL
    return LOGS.get(address) if queues or address not in QUEUE_LOGS else None


def ncq_error(disk: AtaDisk) -> bytes:
    """Which NCQ command failed, and how (ACS-3 §A.14)."""
    if disk.failed_queued is None:
        return checksummed(bytes((NO_QUEUED,)))
    tag, taskfile = disk.failed_queued
    return checksummed(
        bytes(
            (
                tag,
                0,
                taskfile.status,
                taskfile.error,
                *_address(taskfile),
                taskfile.count & 0xFF,
                taskfile.count >> 8,
            )
        )
    )


def _address(taskfile: TaskFile) -> tuple[int, ...]:
    low = (taskfile.lba >> shift & 0xFF for shift in (0, 8, 16))
    high = (taskfile.lba >> shift & 0xFF for shift in (24, 32, 40))
    return (*low, taskfile.device, *high, 0)


def _non_data(_disk: AtaDisk) -> bytes:
    """Subcommands of NCQ NON-DATA, a doubleword each: abort queue, of all kinds; deadlines, of reads and writes (ACS-3
    §A.15); SET FEATURES, number 5 (ACS-4).
    """
    return struct.pack("<6I", 0x1F, 0x07, 0, 0, 0, 1).ljust(BLOCK, b"\0")


def _send_receive(disk: AtaDisk) -> bytes:
    """Subcommands of SEND and RECEIVE FPDMA QUEUED: DATA SET MANAGEMENT, TRIM; READ and WRITE LOG (ACS-3 §A.16)."""
    return struct.pack("<IIII", disk.trims, disk.trims, 1, 1).ljust(BLOCK, b"\0")


Log = Callable[["AtaDisk"], bytes]
QUEUE_LOGS = (NCQ_ERROR, NCQ_NON_DATA, SEND_RECEIVE)
LOGS: dict[int, Log] = {
    errorlog.EXTENDED: errorlog.extended,
    testlog.EXTENDED_SELF_TESTS: testlog.extended,
    NCQ_ERROR: ncq_error,
    NCQ_NON_DATA: _non_data,
    SEND_RECEIVE: _send_receive,
    IDENTIFY_DATA: identifylog.pages,
}


def _place(command: AtaCommand) -> tuple[int, int, int]:
    """Log address, first page, number of pages."""
    taskfile = command.taskfile
    address = taskfile.lba & 0xFF
    page = taskfile.lba >> 8 & 0xFF | (taskfile.lba >> 32 & 0xFF) << 8
    queued = taskfile.command in (SEND, RECEIVE)
    return address, page, taskfile.features if queued else taskfile.count


def tells_of_error(taskfile: TaskFile) -> bool:
    """Whether a command reads the NCQ error log."""
    return taskfile.command in (READ_LOG, READ_LOG_DMA) and taskfile.lba & 0xFF == NCQ_ERROR


def log_pages(disk: AtaDisk, address: int) -> bytes:
    """A whole log; AtaError where there is none."""
    if address == DIRECTORY:
        return _directory(disk)
    if address in HOST_LOGS:
        return disk.host_logs.get(address, bytes(HOST_PAGES * BLOCK))
    log = _log(disk, address)
    if log is None:
        raise AtaError(Error.ABRT)
    return log(disk)


def read_log(disk: AtaDisk, command: AtaCommand) -> DataIn:
    """READ LOG EXT; that of the NCQ error lets the queue go on (SATA 3.x §13.6.4)."""
    address, page, count = _place(command)
    if address in sct.LOGS:
        return sct.data_in(disk, command, address, page, count)
    pages = log_pages(disk, address)
    data = pages[page * BLOCK : (page + count) * BLOCK]
    if not count or len(data) != count * BLOCK:
        raise AtaError(Error.ABRT)
    if address == NCQ_ERROR:
        disk.halted = False
    return DataIn(data)


def write_log(disk: AtaDisk, command: AtaCommand) -> DataOut:
    """WRITE LOG EXT: logs of host vendors are written, and SCT's commands and data."""
    address, page, count = _place(command)
    if address in sct.LOGS:
        return sct.wanted(disk, command, address, page, count)
    if address not in HOST_LOGS or not count or page + count > HOST_PAGES:
        raise AtaError(Error.ABRT)
    return DataOut(count * BLOCK, _write)


def _write(disk: AtaDisk, command: AtaCommand, data: bytes) -> None:
    address, page, _ = _place(command)
    pages = bytearray(log_pages(disk, address))
    pages[page * BLOCK : page * BLOCK + len(data)] = data
    disk.host_logs[address] = bytes(pages)


COMMANDS: tuple[Command[AtaDisk], ...] = (
    Command(READ_LOG, "READ LOG EXT", Protocol.PIO_IN, read_log, "ACS-3 §7.24"),
    Command(READ_LOG_DMA, "READ LOG DMA EXT", Protocol.DMA_IN, read_log, "ACS-3 §7.25"),
    Command(0x3F, "WRITE LOG EXT", Protocol.PIO_OUT, write_log, "ACS-3 §7.62", locked=True),
    Command(0x57, "WRITE LOG DMA EXT", Protocol.DMA_OUT, write_log, "ACS-3 §7.63", locked=True),
)
