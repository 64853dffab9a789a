"""What an ATA disk lets a driver rely on: reads give what was written, and what was said to be stable is on the medium.

Commands are followed at the device, by a reading of the task file of our own; what they move is looked at before the
host adapter lets go of the memory.  Where a command fails, is dropped, or meets another one that is at the same
sectors, nothing is known of these until they are written again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ctypes import addressof, c_char
from itertools import pairwise

from devmodels.ata import AtaCommand, Reset, Status, TaskFile
from devmodels.ata.constants import LBA
from devmodels.ata.disk import AtaDisk
from devmodels.blockbackend import Op, Request
from devmodels.blockbackend.node import BlockNode
from devmodels.blockbackend.vectors import gather
from fuzz.ring.ledger import SECTOR, Ledger

READS_28, READS_48 = frozenset({0x20, 0x21, 0xC4, 0xC8, 0xC9}), frozenset({0x24, 0x25, 0x29})
WRITES_28, WRITES_48 = frozenset({0x30, 0x31, 0xC5, 0xCA, 0xCB}), frozenset({0x34, 0x35, 0x39, 0x3D, 0xCE})
QUEUED_READ, QUEUED_WRITE = 0x60, 0x61
WITH_FUA, FUA = frozenset({0x3D, 0xCE}), 0x80
FLUSHES = frozenset({0xE7, 0xEA})
SET_FEATURES, QUEUED_OTHER, QUEUED_FEATURES = 0xEF, 0x63, 5
CACHE_ON, CACHE_OFF = 0x02, 0x82
LOGS = frozenset({0xB0, 0x3F, 0x57, 0x64})
"""Commands that may write to a log: by log E0h, SCT switches the cache and writes sectors; and queued TRIM."""
OTHERS = LOGS | {0x06, 0xF4}
"""Whatever else may change the medium: TRIM and SECURITY ERASE UNIT."""
FIRST = b"".join(n.to_bytes(4, "big") * (SECTOR // 4) for n in range(0x800))


def _overlap(vectors: Sequence[memoryview]) -> bool:
    """Whether what is put into one of them is in another, too."""
    starts = ((addressof(c_char.from_buffer(each)), len(each)) for each in vectors if each)
    places = sorted((start, start + length) for start, length in starts)
    return any(end > start for (_, end), (start, _) in pairwise(places))


class Flight:
    """A command that the device has; `alone`: nothing else is at its sectors that would change them."""

    __slots__ = ("alone", "cached", "changes", "data", "promised", "reads", "stable", "through", "vectors")

    def __init__(
        self, reads: range, changes: range, *, stable: bool, promised: dict[int, bytes | None]
    ) -> None:
        self.reads, self.changes = reads, changes
        self.stable = stable
        """Whether what it writes is stable when it is over, by FUA."""
        self.through = False
        """The same because it began without a cache."""
        self.promised = promised
        """What it makes stable besides."""
        self.cached: bool | None = None
        """How the write cache is switched by it."""
        self.data = bytearray()
        self.vectors: Sequence[memoryview] = ()
        self.alone = True

    def meet(self, other: Flight) -> None:
        """Both are on their way."""
        touched = ((self.changes, other.changes), (self.changes, other.reads), (self.reads, other.changes))
        if any(a.start < b.stop and b.start < a.stop for a, b in touched):
            self.alone = other.alone = False


class Promises:
    """Follows `disk` over the memory device `medium`, between which there is a volatile write cache."""

    def __init__(self, disk: AtaDisk, medium: BlockNode) -> None:
        self._disk, self._medium = disk, medium
        size = medium.size
        medium.context.run(medium.write(Request(Op.WRITE, 0, size, (memoryview(FIRST)[:size],))))
        self._sectors = size // SECTOR
        self._ledger = Ledger(FIRST[:size])
        self._flights: dict[AtaCommand, Flight] = {}
        self._through = False
        """Whether the cache is known to be off."""
        self._forced = False
        """Whether SCT may have a say in that."""
        self._place = range(0)
        self.wrong: list[str] = []
        """What did not hold."""
        self._watch()

    def check(self) -> None:
        """All has held, and what is stable is on the medium."""
        self._check_stable()
        assert not self.wrong, self.wrong[0]

    # --- what goes on in the device

    def _watch(self) -> None:
        disk = self._disk
        issue, move, moved, finish = disk.issue, disk.move, disk.moved, disk.finish
        at_once, read_now, was_reset = disk.at_once, disk.read_now, disk.was_reset

        def begun(command: AtaCommand) -> None:
            self._begun(command)
            issue(command)

        def moves(command: AtaCommand, vectors: Sequence[memoryview], length: int) -> None:
            flight = self._flights.get(command)
            if flight is not None:
                flight.vectors = vectors
                if flight.changes:
                    flight.data += gather(vectors)[:length]
            move(command, vectors, length)

        def has_moved(command: AtaCommand, length: int) -> None:
            flight = self._flights.get(command)
            if flight is not None and length:
                data = gather(flight.vectors)[:length]
                if flight.reads:
                    flight.data += data
                    flight.alone = flight.alone and not _overlap(flight.vectors)
                elif flight.changes and flight.data[-length:] != data:
                    # Its memory was written meanwhile.
                    flight.alone = False
            moved(command, length)

        def finished(command: AtaCommand) -> None:
            self._finished(command)
            finish(command)

        def looked(taskfile: TaskFile) -> tuple[int, int] | None:
            self._place = self._queued(taskfile)
            return at_once(taskfile)

        def read(offset: int, vectors: Sequence[memoryview], length: int) -> bool:
            done = read_now(offset, vectors, length)
            flight = Flight(self._place, range(0), stable=False, promised={})
            if done and not _overlap(vectors):
                flight.data += gather(vectors)
                for other in self._flights.values():
                    flight.meet(Flight(range(0), other.changes, stable=False, promised={}))
                self._has_read(flight)
            return done

        def reset(kind: Reset) -> None:
            # It may have been switched on again.
            self._through = False
            was_reset(kind)

        put: tuple[tuple[str, Callable[..., object]], ...] = (
            ("issue", begun),
            ("move", moves),
            ("moved", has_moved),
            ("finish", finished),
            ("at_once", looked),
            ("read_now", read),
            ("was_reset", reset),
        )
        for name, function in put:
            setattr(disk, name, function)

    # --- what a task file asks for

    def _within(self, first: int, count: int) -> range:
        return range(min(first, self._sectors), min(first + count, self._sectors))

    def _queued(self, taskfile: TaskFile) -> range:
        return self._within(taskfile.lba, taskfile.features or 0x1_0000)

    def _sectors_of(self, taskfile: TaskFile) -> range | None:
        """Those of a command with an address; None where they have cylinders, heads and sectors."""
        if taskfile.command in (QUEUED_READ, QUEUED_WRITE):
            return self._queued(taskfile)
        if not taskfile.device & LBA:
            return None
        if taskfile.command in READS_48 | WRITES_48:
            return self._within(taskfile.lba, taskfile.count or 0x1_0000)
        return self._within(taskfile.lba28, taskfile.count & 0xFF or 0x100)

    def _begun(self, command: AtaCommand) -> None:
        taskfile = command.taskfile
        opcode = taskfile.command
        reads = changes = range(0)
        if opcode in READS_28 | READS_48 | {QUEUED_READ}:
            reads = self._sectors_of(taskfile) or range(0)
        elif opcode in WRITES_28 | WRITES_48 | {QUEUED_WRITE}:
            place = self._sectors_of(taskfile)
            changes = range(self._sectors) if place is None else place
        elif opcode in OTHERS:
            changes = range(self._sectors)
        fua = opcode in WITH_FUA or (opcode == QUEUED_WRITE and bool(taskfile.device & FUA))
        feature = taskfile.features & 0xFF if opcode == SET_FEATURES else -1
        if opcode == QUEUED_OTHER and taskfile.features & 0xF == QUEUED_FEATURES:
            feature = taskfile.features >> 8
        promises = opcode in FLUSHES or feature == CACHE_OFF
        flight = Flight(
            reads,
            changes,
            stable=fua,
            promised=self._ledger.promised() if promises else {},
        )
        flight.through = self._through
        if feature in (CACHE_ON, CACHE_OFF):
            flight.cached = feature == CACHE_ON
        for other in self._flights.values():
            flight.meet(other)
        if opcode in LOGS or flight.cached:
            self._through = False
        self._forced |= opcode in LOGS
        self._ledger.begun(changes)
        self._flights[command] = flight

    def _finished(self, command: AtaCommand) -> None:
        flight = self._flights.pop(command, None)
        if flight is None or command.dropped or command.taskfile.status & (Status.ERR | Status.DF):
            return
        if flight.reads:
            self._has_read(flight)
        elif flight.changes and command.taskfile.command not in OTHERS:
            self._has_written(flight)
        if flight.promised and not (self._forced and flight.cached is not None):
            self._ledger.flushed(flight.promised)
            if flight.cached is False:
                self._through = True
            self._check_stable()

    # --- what holds

    def _has_read(self, flight: Flight) -> None:
        whole = min(len(flight.data) // SECTOR, len(flight.reads))
        if flight.alone:
            self._hold(self._ledger.check_read, flight.reads.start, bytes(flight.data[: whole * SECTOR]))

    def _has_written(self, flight: Flight) -> None:
        if flight.alone and len(flight.data) == len(flight.changes) * SECTOR:
            stable = flight.stable or (flight.through and self._through)
            self._ledger.written(flight.changes.start, bytes(flight.data), stable=stable)
            if stable:
                self._check_stable()

    def _check_stable(self) -> None:
        content = bytearray(self._medium.size)
        assert self._medium.read_now(((0, (memoryview(content),), len(content)),))
        self._hold(self._ledger.check_stable, content)

    def _hold(self, check: Callable[..., None], *arguments: object) -> None:
        """What does not hold is told when the device rests: an exception within it would be another matter."""
        try:
            check(*arguments)
        except AssertionError as error:
            self.wrong.append(str(error))
