"""SMART (ATA8-ACS §4.19, §7.53): status, attributes and thresholds, self-tests, logs."""

from __future__ import annotations

import struct
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from devmodels.ata.command import AtaCommand, AtaError
from devmodels.ata.constants import BLOCK, Error
from devmodels.ata.disk.logs import HOST_LOGS, HOST_PAGES, checksummed, log_pages
from devmodels.ata.disk.medium import can_read
from devmodels.ata.table import Command, Handler, Protocol, Sub
from devmodels.ata.transfer import DataIn, DataOut

if TYPE_CHECKING:
    from devmodels.ata.disk.disk import AtaDisk

KEY = 0xC24F
"""LBA 23:8 of every SMART command."""
DIRECTORY, SUMMARY_ERRORS, SELF_TESTS = 0x00, 0x01, 0x06
SHORT, EXTENDED, CAPTIVE, ABORT = 0x01, 0x02, 0x80, 0x7F
PASSED, READ_FAILED = 0x00, 0x70
"""Self-test execution status, bits 7:4 (ATA8-ACS §7.53.6.8.2)."""
MAX_RESULTS = 21
HOUR_NS = 3_600_000_000_000


class Attribute(NamedTuple):
    """An attribute: how good it is now (`value`, to 253), and below what the disk is about to fail."""

    number: int
    flags: int
    threshold: int
    value: int = 100


ATTRIBUTES = (
    Attribute(5, 0x0033, 10),
    Attribute(9, 0x0032, 0),
    Attribute(12, 0x0032, 0),
    Attribute(194, 0x0022, 0),
    Attribute(197, 0x0012, 0),
    Attribute(199, 0x003E, 0, 200),
)
TEMPERATURE = 30


class Smart:
    """Whether it is on; how the last self-test ended; results of self-tests, the newest last."""

    __slots__ = ("enabled", "results", "test_status")

    enabled: bool

    def __init__(self) -> None:
        self.enabled = True
        self.test_status = PASSED
        self.results: list[tuple[int, int, int, int]] = []
        """Which test, how it ended, power-on hours, the LBA where it failed."""


def _check(disk: AtaDisk, command: AtaCommand, *, enabled: bool = True) -> None:
    if command.taskfile.lba >> 8 & 0xFFFF != KEY or (enabled and not disk.smart.enabled):
        raise AtaError(Error.ABRT)


def _raw(disk: AtaDisk, number: int) -> int:
    values = {9: _hours(disk), 12: 1, 194: TEMPERATURE, 197: len(disk.uncorrectable)}
    return values.get(number, 0)


def _hours(disk: AtaDisk) -> int:
    return (disk.turns.now_ns() - disk.powered_ns) // HOUR_NS


def read_data(disk: AtaDisk, command: AtaCommand) -> DataIn:
    """SMART READ DATA (ATA8-ACS §7.53.6)."""
    _check(disk, command)
    page = bytearray(struct.pack("<H", 16))
    for each in ATTRIBUTES:
        raw = _raw(disk, each.number).to_bytes(6, "little")
        page += struct.pack("<BHBB6sx", each.number, each.flags, each.value, each.value, raw)
    page = page.ljust(362, b"\0")
    # Off-line status, self-test status, seconds of an off-line collection, what it can do, capability, error log,
    # minutes of a short and of an extended self-test.
    page += struct.pack("<BBHBBHBBBB", 0, disk.smart.test_status, 0, 0, 0x11, 0x0003, 1, 0, 1, 1)
    return DataIn(checksummed(bytes(page)))


def read_thresholds(disk: AtaDisk, command: AtaCommand) -> DataIn:
    """SMART READ ATTRIBUTE THRESHOLDS (ATA-3)."""
    _check(disk, command)
    rows = b"".join(struct.pack("<BB10x", each.number, each.threshold) for each in ATTRIBUTES)
    return DataIn(checksummed(struct.pack("<H", 16) + rows))


def switch(disk: AtaDisk, command: AtaCommand, *, on: bool) -> None:
    """SMART ENABLE and DISABLE OPERATIONS."""
    _check(disk, command, enabled=not on)
    disk.smart.enabled = on


def autosave(disk: AtaDisk, command: AtaCommand) -> None:
    """Attributes are always kept."""
    _check(disk, command)


def status(disk: AtaDisk, command: AtaCommand) -> None:
    """SMART RETURN STATUS: the key comes back as it was as long as no threshold is passed."""
    _check(disk, command)


async def self_test(disk: AtaDisk, command: AtaCommand) -> None:
    """SMART EXECUTE OFF-LINE IMMEDIATE: an extended test reads all sectors, a short one the first.

    Off-line tests are over before the command is, as those in captive mode: nothing goes on by itself.
    """
    _check(disk, command)
    which = command.taskfile.lba & 0xFF
    if which in (0, ABORT):
        return
    kind = which & ~CAPTIVE
    if kind not in (SHORT, EXTENDED):
        raise AtaError(Error.ABRT)
    size = disk.sectors * disk.sector_size
    length = size if kind == EXTENDED else min(size, 1 << 20)
    good = await can_read(disk, command, 0, length)
    disk.smart.test_status = PASSED if good else READ_FAILED
    results = disk.smart.results
    results.append((which, disk.smart.test_status, min(_hours(disk), 0xFFFF), 0))
    del results[:-MAX_RESULTS]
    if not good and which & CAPTIVE:
        command.taskfile.lba = command.taskfile.lba & 0xFF | 0xF42C << 8
        raise AtaError(Error.ABRT)


def _summary_errors() -> bytes:
    return checksummed(b"\1")


def _self_tests(disk: AtaDisk) -> bytes:
    """Revision 1, 21 places of 24 bytes, which of them is the newest (ATA8-ACS §A.8)."""
    rows = b"".join(
        struct.pack("<BBHBI15x", which, outcome, hours, 0, lba)
        for which, outcome, hours, lba in disk.smart.results
    )
    page = (b"\1\0" + rows).ljust(508, b"\0") + bytes((len(disk.smart.results), 0, 0))
    return checksummed(page)


def read_log(disk: AtaDisk, command: AtaCommand) -> DataIn:
    """SMART READ LOG."""
    _check(disk, command)
    address, count = command.taskfile.lba & 0xFF, command.taskfile.count & 0xFF
    if address == DIRECTORY:
        counts = [1] + [_pages(number) for number in range(1, 256)]
        pages = struct.pack("<256H", *counts)
    elif address == SUMMARY_ERRORS:
        pages = _summary_errors()
    elif address == SELF_TESTS:
        pages = _self_tests(disk)
    elif address in HOST_LOGS:
        pages = log_pages(disk, address)
    else:
        raise AtaError(Error.ABRT)
    if not count or count * BLOCK > len(pages):
        raise AtaError(Error.ABRT)
    return DataIn(pages[: count * BLOCK])


def _pages(address: int) -> int:
    return HOST_PAGES if address in HOST_LOGS else int(address in (SUMMARY_ERRORS, SELF_TESTS))


def write_log(disk: AtaDisk, command: AtaCommand) -> DataOut:
    """SMART WRITE LOG: those of host vendors."""
    _check(disk, command)
    address, count = command.taskfile.lba & 0xFF, command.taskfile.count & 0xFF
    if address not in HOST_LOGS or not 1 <= count <= HOST_PAGES:
        raise AtaError(Error.ABRT)
    return DataOut(count * BLOCK, _write)


def _write(disk: AtaDisk, command: AtaCommand, data: bytes) -> None:
    address = command.taskfile.lba & 0xFF
    disk.host_logs[address] = data + log_pages(disk, address)[len(data) :]


def _smart(value: int, name: str, protocol: Protocol, handler: Handler[AtaDisk]) -> Command[AtaDisk]:
    return Command(0xB0, f"SMART {name}", protocol, handler, "ATA8-ACS §7.53", sub=Sub.FEATURES, value=value)


COMMANDS: tuple[Command[AtaDisk], ...] = (
    _smart(0xD0, "READ DATA", Protocol.PIO_IN, read_data),
    _smart(0xD1, "READ ATTRIBUTE THRESHOLDS", Protocol.PIO_IN, read_thresholds),
    _smart(0xD2, "ENABLE/DISABLE ATTRIBUTE AUTOSAVE", Protocol.NON_DATA, autosave),
    _smart(0xD4, "EXECUTE OFF-LINE IMMEDIATE", Protocol.NON_DATA, self_test),
    _smart(0xD5, "READ LOG", Protocol.PIO_IN, read_log),
    _smart(0xD6, "WRITE LOG", Protocol.PIO_OUT, write_log),
    _smart(0xD8, "ENABLE OPERATIONS", Protocol.NON_DATA, partial(switch, on=True)),
    _smart(0xD9, "DISABLE OPERATIONS", Protocol.NON_DATA, partial(switch, on=False)),
    _smart(0xDA, "RETURN STATUS", Protocol.NON_DATA, status),
)
