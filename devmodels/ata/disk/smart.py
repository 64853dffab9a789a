"""SMART (ACS-3 §4.19, §7.48; attributes and thresholds: ATA-3): status, attributes and thresholds, logs."""

from __future__ import annotations

import struct
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from devmodels.ata.command import AtaCommand, AtaError
from devmodels.ata.constants import BLOCK, Error
from devmodels.ata.disk import errorlog, sct, testlog
from devmodels.ata.disk.logs import HOST_LOGS, HOST_PAGES, Log, log_pages
from devmodels.ata.table import Command, Handler, Protocol, Sub
from devmodels.ata.transfer import DataIn, DataOut
from devmodels.ata.words import checksummed
from devmodels.iocontext import Coro

if TYPE_CHECKING:
    from devmodels.ata.disk.disk import AtaDisk

KEY, KEY_SHIFT = 0xC24F, 8
"""LBA 23:8 of every SMART command."""
FAILING = 0x2CF4
"""What RETURN STATUS has there for a disk about to fail, and a captive self-test that has failed."""
DIRECTORY = 0x00
IN_PROGRESS = 0xF0
"""Self-test execution status while one is running, with the tenths that are left (ACS-3 §7.48)."""


class Attribute(NamedTuple):
    """An attribute: with bit 0 of `flags`, the disk is about to fail where it is no better than `threshold`."""

    number: int
    flags: int
    threshold: int


REALLOCATED, HOURS, CYCLES = 5, 9, 12
REPORTED, DEGREES, REALLOCATIONS, PENDING, UNREADABLE = 187, 194, 196, 197, 198
BEST = 100
PREFAILURE = 0x0001
ATTRIBUTES = (
    Attribute(REALLOCATED, 0x0033, 10),
    Attribute(HOURS, 0x0032, 0),
    Attribute(CYCLES, 0x0032, 0),
    Attribute(REPORTED, 0x0032, 0),
    Attribute(DEGREES, 0x0022, 0),
    Attribute(REALLOCATIONS, 0x0032, 0),
    Attribute(PENDING, 0x0012, 0),
    Attribute(UNREADABLE, 0x0010, 0),
    Attribute(199, 0x003E, 0),
)
TEMPERATURE = 30


class Smart:
    """Whether it is on; how the last self-test ended; results of self-tests, the newest last.

    `running` is the self-test that goes on between commands, which one is `which`, `tested` its tenths that are done.
    """

    __slots__ = ("cycles", "enabled", "results", "running", "test_status", "tested", "which")

    enabled: bool

    def __init__(self) -> None:
        self.enabled = True
        self.test_status = 0
        self.cycles = 1
        """How often it has been switched on."""
        self.results: list[tuple[int, int, int, int]] = []
        """Which test, how it ended, power-on hours, the LBA where it failed."""
        self.running: AtaCommand | None = None
        self.which = self.tested = 0

    @property
    def execution_status(self) -> int:
        """How the last self-test ended, or how much of one that is running is left."""
        return self.test_status if self.running is None else IN_PROGRESS | 9 - min(self.tested, 9)


def check(disk: AtaDisk, command: AtaCommand, *, enabled: bool = True) -> None:
    """AtaError without the key, or where SMART is switched off."""
    if command.taskfile.lba >> KEY_SHIFT & 0xFFFF != KEY or (enabled and not disk.smart.enabled):
        raise AtaError(Error.ABRT)


COUNTS_OF_BAD = frozenset({REALLOCATED, REPORTED, REALLOCATIONS, PENDING, UNREADABLE})


def _bad(disk: AtaDisk, number: int) -> tuple[int, int]:
    """How much an attribute counts of sectors that fail, and how much that was at most."""
    bad = disk.bad
    if number in (PENDING, UNREADABLE):
        return len(bad.pending), bad.most_pending
    count = bad.reported if number == REPORTED else bad.reallocated
    return count, count


def _attribute(disk: AtaDisk, number: int) -> tuple[int, int, int]:
    """How good an attribute is, and how bad it has been: 1 to 100; and its raw value."""
    if number in COUNTS_OF_BAD:
        raw, most = _bad(disk, number)
        return max(BEST - raw, 1), max(BEST - most, 1), raw
    if number == HOURS:
        return BEST, BEST, disk.hours()
    return BEST, BEST, {CYCLES: disk.smart.cycles, DEGREES: TEMPERATURE}.get(number, 0)


def failing(disk: AtaDisk) -> bool:
    """Whether an attribute says that the disk is about to fail."""
    return any(
        _attribute(disk, each.number)[0] <= each.threshold for each in ATTRIBUTES if each.flags & PREFAILURE
    )


def read_data(disk: AtaDisk, command: AtaCommand) -> DataIn:
    """SMART READ DATA (ACS-3 §7.48)."""
    check(disk, command)
    page = bytearray(struct.pack("<H", 16))
    for each in ATTRIBUTES:
        value, worst, raw = _attribute(disk, each.number)
        page += struct.pack("<BHBB6sx", each.number, each.flags, value, worst, raw.to_bytes(6, "little"))
    page = page.ljust(362, b"\0")
    # Off-line status, self-test status, seconds of an off-line collection, what it can do, capability, error log,
    # minutes of a short and of an extended self-test.
    page += struct.pack("<BBHBBHBBBB", 0, disk.smart.execution_status, 0, 0, 0x11, 0x0003, 1, 0, 1, 1)
    return DataIn(checksummed(bytes(page)))


def read_thresholds(disk: AtaDisk, command: AtaCommand) -> DataIn:
    """SMART READ ATTRIBUTE THRESHOLDS (ATA-3)."""
    check(disk, command)
    rows = b"".join(struct.pack("<BB10x", each.number, each.threshold) for each in ATTRIBUTES)
    return DataIn(checksummed(struct.pack("<H", 16) + rows))


def switch(disk: AtaDisk, command: AtaCommand, *, on: bool) -> Coro[None] | None:
    """SMART ENABLE and DISABLE OPERATIONS."""
    check(disk, command, enabled=not on)
    before, disk.smart.enabled = disk.smart.enabled, on
    return disk.keep(partial(setattr, disk.smart, "enabled", before))


def autosave(disk: AtaDisk, command: AtaCommand) -> None:
    """Attributes are always kept."""
    check(disk, command)


def status(disk: AtaDisk, command: AtaCommand) -> None:
    """SMART RETURN STATUS: the key comes back as it was as long as no threshold is passed."""
    check(disk, command)
    if failing(disk):
        command.taskfile.lba = command.taskfile.lba & 0xFF | FAILING << KEY_SHIFT


def read_log(disk: AtaDisk, command: AtaCommand) -> DataIn:
    """SMART READ LOG."""
    check(disk, command)
    address, count = command.taskfile.lba & 0xFF, command.taskfile.count & 0xFF
    if address == DIRECTORY:
        pages = struct.pack("<256H", 1, *map(_pages, range(1, 256)))
    elif address in LOGS:
        pages = LOGS[address](disk)
    elif address in HOST_LOGS:
        pages = log_pages(disk, address)
    elif address in sct.LOGS:
        return sct.data_in(disk, command, address, 0, count)
    else:
        raise AtaError(Error.ABRT)
    if not count or count * BLOCK > len(pages):
        raise AtaError(Error.ABRT)
    return DataIn(pages[: count * BLOCK])


LOGS: dict[int, Log] = {
    errorlog.SUMMARY: errorlog.summary,
    errorlog.COMPREHENSIVE: errorlog.summary,
    testlog.SELF_TESTS: testlog.pages,
}
"""Logs of SMART alone, a page each."""


def _pages(address: int) -> int:
    return HOST_PAGES if address in HOST_LOGS else int(address in LOGS or address in sct.LOGS)


def write_log(disk: AtaDisk, command: AtaCommand) -> DataOut:
    """SMART WRITE LOG: those of host vendors, and SCT's."""
    check(disk, command)
    address, count = command.taskfile.lba & 0xFF, command.taskfile.count & 0xFF
    if address in sct.LOGS:
        return sct.wanted(disk, command, address, 0, count)
    if address not in HOST_LOGS or not 1 <= count <= HOST_PAGES:
        raise AtaError(Error.ABRT)
    return DataOut(count * BLOCK, _write)


def _write(disk: AtaDisk, command: AtaCommand, data: bytes) -> None:
    address = command.taskfile.lba & 0xFF
    disk.host_logs[address] = data + log_pages(disk, address)[len(data) :]


def smart_command(value: int, name: str, protocol: Protocol, handler: Handler[AtaDisk]) -> Command[AtaDisk]:
    """A row of the table of commands."""
    return Command(0xB0, f"SMART {name}", protocol, handler, "ACS-3 §7.48", sub=Sub.FEATURES, value=value)


COMMANDS: tuple[Command[AtaDisk], ...] = (
    smart_command(0xD0, "READ DATA", Protocol.PIO_IN, read_data),
    smart_command(0xD1, "READ ATTRIBUTE THRESHOLDS", Protocol.PIO_IN, read_thresholds),
    smart_command(0xD2, "ENABLE/DISABLE ATTRIBUTE AUTOSAVE", Protocol.NON_DATA, autosave),
    smart_command(0xD5, "READ LOG", Protocol.PIO_IN, read_log),
    smart_command(0xD6, "WRITE LOG", Protocol.PIO_OUT, write_log),
    smart_command(0xD8, "ENABLE OPERATIONS", Protocol.NON_DATA, partial(switch, on=True)),
    smart_command(0xD9, "DISABLE OPERATIONS", Protocol.NON_DATA, partial(switch, on=False)),
    smart_command(0xDA, "RETURN STATUS", Protocol.NON_DATA, status),
)
