"""An ATA device: commands by its table, one after the other or queued; resets; what they have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, partial
from typing import Any

from devmodels.ata.command import AtaCommand, AtaError
from devmodels.ata.constants import DIAGNOSTIC_PASSED, READY, Reset, Status, Transport
from devmodels.ata.dispatch import Entries, Entry, dispatch_table
from devmodels.ata.modes import TransferModes
from devmodels.ata.state import AtaState
from devmodels.ata.table import Command, Pending, Reply
from devmodels.ata.taskfile import TaskFile
from devmodels.ata.transfer import Transfer
from devmodels.conformance import ViolationLog
from devmodels.iocontext import Coro, IoContext, Turns
from devmodels.trace import Tracer

MAX_LINK_SPEED = 3
"""Gen3: 6 Gbit/s."""


class AtaDevice:
    """Base of disks and ATAPI drives.  A kind has a table (`commands`) and a `signature`.

    `in_flight` are the commands between `issue` and their end.  `registers` is what the device shows of itself when no
    command has ended: status, error, LBA, count (a signature after a reset).
    """

    signature: tuple[int, int] = (0, 0)
    """LBA and count after a reset."""
    reset_status = READY
    """Status after a reset."""
    packet_size = 0
    """Bytes of a command packet; 0 where the device takes none."""
    unit = 0
    """Its number on a parallel cable."""

    @property
    def commands(self) -> Sequence[Command[Any]]:
        """What it can do."""
        return ()

    @cached_property
    def _entries(self) -> Entries:
        """By opcode; made when the first command comes."""
        return dispatch_table(tuple(self.commands))

    @property
    def granule(self) -> int:
        """What `move` moves is a multiple of so many bytes, or all that is left."""
        return 1

    def __init__(self, context: IoContext, *, name: str, violations: ViolationLog | None = None) -> None:
        self.context = context
        self.name = name
        self.violations = ViolationLog() if violations is None else violations
        self.turns = Turns(context)
        self.transport = Transport.PARALLEL
        """Whoever it is attached to says otherwise, before it is used."""
        self.modes = TransferModes()
        self.reverts = True
        """Whether a software reset leads to the power-on defaults."""
        self.link_speed = MAX_LINK_SPEED
        """Generation of a serial link, which whoever it is attached to says."""
        self.in_flight: dict[AtaCommand, None] = {}
        self.tags = 0
        """Bits of the tags that commands of the queue have."""
        self.registers = TaskFile()
        self.attention: Callable[[], None] | None = None
        """Asks its host for an interrupt by itself, as QEMU's does when a user moves a tray."""
        self._when_idle: list[Callable[[], None]] = []
        self.resets: list[Reset] = []
        """Resets that wait for what runs, in order."""
        self._show_signature()

    # --- what a host adapter calls

    def issue(self, command: AtaCommand) -> None:
        """Begin a command.  Never raises for what is wrong with it."""
        self.in_flight[command] = None
        command.device = self
        entry = self._entries[command.taskfile.command]
        if entry is not None and entry.subs is not None:
            entry = entry.subs.get(entry.select(command.taskfile))
        try:
            if entry is None:
                raise AtaError
            command.entry = entry.command
            command.queued = entry.queued
            if not command.again:
                self.admit(command)
            reply = entry.handler(self, command)
        except AtaError as error:
            self.fail(command, error)
        else:
            self.settle(command, reply)

    def move(self, command: AtaCommand, vectors: Sequence[memoryview], length: int) -> None:
        """Move the next `length` bytes of the command's transfer; its adapter hears when that is done."""
        assert command.transfer is not None
        command.transfer.move(self, command, vectors, length)

    def moved(self, command: AtaCommand, length: int) -> None:
        """A transfer has moved `length` bytes."""
        command.running = False
        command.moved += length
        if command.dropped:
            self.finish(command)
        else:
            command.host.moved(command)

    def conclude(self, command: AtaCommand) -> None:
        """All of a transfer has been moved: do what is left, and end the command."""
        assert command.transfer is not None
        try:
            reply = command.transfer.concluded(self, command)
        except AtaError as error:
            self.fail(command, error)
            return
        self.settle(command, reply)

    def drop(self, commands: Iterable[AtaCommand] | None = None) -> None:
        """Nobody waits for these commands any more, or for any: what has not begun is cancelled."""
        for command in tuple(self.in_flight if commands is None else commands):
            command.dropped = True
        self.tags = sum(1 << each.tag for each in self.in_flight if each.queued and not each.dropped)
        self.cancel_requests(lambda command: command.dropped)
        for command in tuple(self.in_flight):
            if command.dropped and not command.running:
                self.finish(command)

    def leave(self) -> None:
        """It is taken off its bus."""
        self.drop()

    def when_idle(self, then: Callable[[], None]) -> None:
        """Call `then` when no command is in flight, perhaps at once."""
        if self.in_flight:
            self._when_idle.append(then)
        else:
            then()

    def reset(self, kind: Reset, done: Callable[[], None]) -> None:
        """Drop all commands; when what runs has come back, be as after such a reset and call `done`."""
        self.resets.append(kind)
        self.drop()
        self.when_idle(partial(self._reset, kind, done))

    def _reset(self, kind: Reset, done: Callable[[], None]) -> None:
        self.resets.remove(kind)
        self.was_reset(kind)
        self._show_signature()
        done()

    # --- how a command ends

    def finish(self, command: AtaCommand) -> None:
        """It has ended well, unless its task file says otherwise."""
        del self.in_flight[command]
        taskfile = command.taskfile
        if not taskfile.status:
            taskfile.status = READY
        if command.dropped:
            command.host.dropped(command)
        else:
            if command.queued:
                self.tags &= ~(1 << command.tag)
            command.host.finished(command)
        if self._when_idle and not self.in_flight:
            waiting, self._when_idle = self._when_idle, []
            for then in waiting:
                then()

    def fail(self, command: AtaCommand, error: AtaError) -> None:
        """It has failed."""
        command.running = False
        taskfile = command.taskfile
        # DSC is obsolete: QEMU clears it with an error.
        ready = Status.DRDY if self.violations.as_qemu else READY
        taskfile.status = ready | error.status
        taskfile.error = error.error
        if error.lba is not None:
            self.show_address(command, error.lba)
        self.finish(command)

    def show_address(self, command: AtaCommand, lba: int) -> None:
        """Put the address `lba` into the command's task file, for its end."""
        command.taskfile.lba = lba

    def settle(self, command: AtaCommand, reply: Reply) -> None:
        """What a handler has returned, or has come to later."""
        if isinstance(reply, Transfer):
            command.transfer = reply
            command.host.begin(command)
        elif reply is None:
            self.finish(command)
        elif not isinstance(reply, Pending):
            self.start(command, reply)

    def start(self, command: AtaCommand, coro: Coro[Any]) -> None:
        """Let `coro` end the command: it returns what a handler may, or raises AtaError."""
        command.running = True
        self.turns.start(coro, partial(self._ended, command))

    def _ended(self, command: AtaCommand, reply: Transfer | None, error: BaseException | None) -> None:
        command.running = False
        if isinstance(error, AtaError):
            self.fail(command, error)
        elif error is not None:
            raise error
        elif command.dropped:
            self.finish(command)
        else:
            self.settle(command, reply)

    def _show_signature(self) -> None:
        registers = self.registers
        registers.lba, registers.count = self.signature
        registers.device = 0
        registers.status, registers.error = self.reset_status, DIAGNOSTIC_PASSED

    # --- snapshots

    def save(self) -> bytes:
        """What it knows beyond its medium, its commands left out."""
        raise NotImplementedError

    def judge(self, data: bytes) -> None:
        """ValueError where that is not what `save` of such a device gave."""
        raise NotImplementedError

    def restore(self, data: bytes) -> None:
        """Be as `data` says, which `judge` has found to be possible; no command is in flight."""
        raise NotImplementedError

    def resume(self, command: AtaCommand) -> None:
        """Have a command that was in flight elsewhere, whose adapter goes on with it; AtaError where it is none."""
        self.in_flight[command] = None
        command.device = self
        entry = self._entry(command)
        command.entry, command.queued = entry.command, entry.queued

    def handle(self, command: AtaCommand) -> Reply:
        """What the handler of such a command returns; AtaError."""
        return self._entry(command).handler(self, command)

    def _entry(self, command: AtaCommand) -> Entry:
        entry = self._entry_of(command.taskfile)
        if entry is None:
            raise AtaError
        return entry

    def _entry_of(self, taskfile: TaskFile) -> Entry | None:
        entry = self._entries[taskfile.command]
        if entry is not None and entry.subs is not None:
            entry = entry.subs.get(entry.select(taskfile))
        return entry

    @property
    def count_bits(self) -> int:
        """What QEMU's devices look at of a count: both bytes from an HBA, from a channel the current one."""
        return 0xFFFF if self.transport is Transport.SERIAL else 0xFF

    def needs_medium(self, taskfile: TaskFile) -> bool:
        """Whether the command in `taskfile` does; one that the device does not have needs nothing."""
        entry = self._entry_of(taskfile)
        return entry is not None and entry.command.medium

    def restore_registers(self, state: AtaState) -> None:
        """Show what it showed; resets that waited for what ran are over."""
        self.registers = state.registers.taskfile()
        for kind in state.resets:
            self.was_reset(kind)
            self._show_signature()

    # --- for a kind of devices to override

    def at_once(self, taskfile: TaskFile) -> tuple[int, int] | None:  # noqa: ARG002
        """First byte and number of bytes of a queued read that may be done by `read_now`, as if it had been issued.

        None for every other command, and where anything stands against it: then it is for `issue`.
        """
        return None

    def read_now(self, offset: int, vectors: Sequence[memoryview], length: int) -> bool:  # noqa: ARG002
        """Read what `at_once` has named, if that needs no waiting; False, and nothing read, where it does."""
        return False

    def admit(self, command: AtaCommand) -> None:
        """AtaError where the device takes no such command now."""

    def was_reset(self, kind: Reset) -> None:
        """Be as after such a reset."""

    def cancel_requests(self, wanted: Callable[[AtaCommand], bool]) -> None:
        """Drop block requests of such commands that have not started."""

    def observe(self, trace: Tracer | None) -> None:
        """Give `trace` everything that goes on in the device; None: no more."""
        self.turns.trace = trace
        self.turns.source = self.name

    def count_from(self, saved: bytes) -> None:
        """Times count by the clock of the trace that is written from now on; `saved`: as `save`, or empty if new."""
