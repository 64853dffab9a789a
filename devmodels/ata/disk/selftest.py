"""SMART EXECUTE OFF-LINE IMMEDIATE: self-tests (ACS-3 §7.48).

An extended test reads all sectors, a short one the first.  In captive mode the command lasts as long as its test; else
it is over at once, and the test goes on between other commands until it is done, aborted, or interrupted by a reset.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from devmodels.ata.command import AtaCommand, AtaError
from devmodels.ata.constants import Error
from devmodels.ata.disk.medium import SCRATCH, can_read, find_bad_sector
from devmodels.ata.disk.smart import FAILING, KEY_SHIFT, check, smart_command
from devmodels.ata.disk.testlog import MAX_RESULTS
from devmodels.ata.table import Command, Protocol
from devmodels.ata.taskfile import TaskFile
from devmodels.iocontext import Coro

if TYPE_CHECKING:
    from devmodels.ata.disk.disk import AtaDisk

OFF_LINE, SHORT, EXTENDED, CAPTIVE, ABORT = 0x00, 0x01, 0x02, 0x80, 0x7F
"""Subcommands, in bits 7:0 of the LBA."""
PASSED, ABORTED, INTERRUPTED, READ_FAILED = 0x00, 0x10, 0x20, 0x70
"""How a test has ended: bits 7:4 of its execution status."""
SHORT_LENGTH = 1 << 20
"""How much a short test reads, in bytes."""


def execute(disk: AtaDisk, command: AtaCommand) -> Coro[None] | None:
    """Begin a test, in place of one that may be running, or abort that one."""
    check(disk, command)
    which = command.taskfile.lba & 0xFF
    if which not in (OFF_LINE, ABORT) and which & ~CAPTIVE not in (SHORT, EXTENDED):
        raise AtaError(Error.ABRT)
    stop(disk, ABORTED)
    if which in (OFF_LINE, ABORT):
        return None
    if which & CAPTIVE:
        return _captive(disk, command, which)
    begin(disk, which)
    return None


def begin(disk: AtaDisk, which: int, tested: int = 0) -> None:
    """Let a test go on between commands, of which `tested` tenths are done."""
    test = AtaCommand(_Nobody(), TaskFile())
    test.device = disk
    disk.smart.running, disk.smart.which, disk.smart.tested = test, which, tested
    disk.turns.start(_read(disk, test, which, tested), partial(_ended, disk, test))


class _Nobody:
    """The adapter of a test: there is none."""

    def begin(self, command: AtaCommand) -> None: ...

    def moved(self, command: AtaCommand) -> None: ...

    def finished(self, command: AtaCommand) -> None: ...

    def dropped(self, command: AtaCommand) -> None: ...


def stop(disk: AtaDisk, outcome: int) -> None:
    """The test that may be running goes no further."""
    test = disk.smart.running
    if test is not None:
        test.dropped = True
        disk.cancel_requests(lambda command: command is test)
        _note(disk, disk.smart.which, outcome)


async def _captive(disk: AtaDisk, command: AtaCommand, which: int) -> None:
    bad = await _read(disk, command, which)
    if not command.dropped:
        _note(disk, which, PASSED if bad is None else READ_FAILED, bad or 0)
    if bad is not None:
        command.taskfile.lba = command.taskfile.lba & 0xFF | FAILING << KEY_SHIFT
        raise AtaError(Error.ABRT)


async def _read(disk: AtaDisk, test: AtaCommand, which: int, tested: int = 0) -> int | None:
    """Read what a test reads, a piece at a turn, after so many tenths of it; the first sector that cannot be read."""
    size = disk.sectors * disk.sector_size
    end = size if which & ~CAPTIVE == EXTENDED else min(size, SHORT_LENGTH)
    for offset in range(end * tested // 10 // SCRATCH * SCRATCH, end, SCRATCH):
        if test.dropped:
            break
        part = min(SCRATCH, end - offset)
        if not await can_read(disk, test, offset, part):
            try:
                await find_bad_sector(disk, test, offset, part)
            except AtaError as error:
                return error.lba
        if test is disk.smart.running:
            disk.smart.tested = 10 * offset // end
        await disk.turns.pause()
    return None


def _ended(disk: AtaDisk, test: AtaCommand, bad: int | None, error: BaseException | None) -> None:
    if error is not None:
        raise error
    if not test.dropped:
        _note(disk, disk.smart.which, PASSED if bad is None else READ_FAILED, bad or 0)


def _note(disk: AtaDisk, which: int, outcome: int, bad: int = 0) -> None:
    smart = disk.smart
    smart.running = None
    smart.test_status = outcome
    smart.results.append((which, outcome, disk.hours(), bad))
    del smart.results[:-MAX_RESULTS]


COMMANDS: tuple[Command[AtaDisk], ...] = (
    smart_command(0xD4, "EXECUTE OFF-LINE IMMEDIATE", Protocol.NON_DATA, execute),
)
