"""What a SCSI disk lets initiators rely on: reads give what was written, what was said to be stable is on the medium.

Tasks are followed at the disk, by a reading of the CDB of our own.  Where one does not end with GOOD, or meets another
one that is at the same blocks, nothing is known of these until they are written again.  After commands that have begun
to work on all of the medium, and may do so behind their status, nothing is known before all is at rest.
"""

from __future__ import annotations

from collections.abc import Callable

from devmodels.blockbackend.vectors import gather
from devmodels.scsi import Outcome, Status, Task
from devmodels.scsi.disk import Disk
from devmodels.scsi.disk.parameters import CACHING
from fuzz.ring.ledger import SECTOR, Ledger
from tests.unit.scsi.cacheddisk import CachedNode

READS = frozenset({0x08, 0x28, 0xA8, 0x88})
WRITES = frozenset({0x0A, 0x2A, 0xAA, 0x8A})
WRITE_AND_VERIFY = frozenset({0x2E, 0xAE, 0x8E})
COMPARE_AND_WRITE, WRITE_ATOMIC = 0x89, 0x9C
WHOLE = frozenset({0x04, 0x48})
"""FORMAT UNIT, SANITIZE."""
OTHERS = WHOLE | {0x8B, 0x41, 0x93, 0x42, 0x83}
"""Those, ORWRITE, WRITE SAME, UNMAP, EXTENDED COPY: what they leave is not followed."""
REFUSED = frozenset({Status.CHECK_CONDITION, Status.RESERVATION_CONFLICT, Status.BUSY, Status.TASK_SET_FULL})
SYNCHRONIZE = frozenset({0x35, 0x91})
MODE_SELECT = frozenset({0x15, 0x55})
FUA, IMMED = 0x08, 0x02


class Flight:
    """A task that the disk has; `alone`: no other one changes its sectors, or the mode pages, meanwhile."""

    __slots__ = ("alone", "changes", "promised", "reads", "stable", "switches")

    def __init__(self, reads: range, changes: range, switches: int) -> None:
        self.reads, self.changes = reads, changes
        self.switches = switches
        """How often the write cache may have been switched when it began; -1: it was on."""
        self.stable = False
        """Whether what it writes is stable when it is over, whatever the write cache does."""
        self.promised: dict[int, bytes | None] = {}
        """What it makes stable besides."""
        self.alone = True

    def meet(self, other: Flight) -> None:
        """Both are on their way."""
        touched = ((self.changes, other.changes), (self.changes, other.reads), (self.reads, other.changes))
        if any(a.start < b.stop and b.start < a.stop for a, b in touched):
            self.alone = other.alone = False


class Promises:
    """Follows `disk` over `medium`."""

    def __init__(self, disk: Disk, medium: CachedNode) -> None:
        self._disk, self._medium = disk, medium
        self._sectors = medium.size // SECTOR
        self._ledger = Ledger(bytes(medium.stable))
        self._flights: dict[Task, Flight] = {}
        self._switches = 0
        """How many MODE SELECTs and resets have begun or ended."""
        self._over = False
        self._wrong: list[str] = []
        submit, was_reset = disk.submit, disk.was_reset

        def submitted(task: Task) -> None:
            if not self._over:
                self._begun(task)
            submit(task)

        def reset() -> None:
            self._switches += 1
            was_reset()

        setattr(disk, "submit", submitted)  # noqa: B010
        setattr(disk, "was_reset", reset)  # noqa: B010

    def over(self) -> None:
        """Until the disk rests nothing is known of it."""
        self._over = True
        self._flights.clear()

    def begin_anew(self) -> None:
        """The disk rests: what is in it is not known, but from now on it is followed."""
        if self._over:
            self._sectors = self._medium.size // SECTOR
            self._ledger = Ledger(bytes(self._medium.size))
            self._ledger.begun(range(self._sectors))
            self._over = False

    def check(self) -> None:
        """All has held, and what is stable is on the medium."""
        self._check_stable()
        assert not self._wrong, self._wrong[0]

    # --- what a CDB asks for

    def _begun(self, task: Task) -> None:
        cdb = task.cdb.ljust(16, b"\0")
        opcode = cdb[0]
        reads = changes = range(0)
        if opcode in READS:
            reads = self._place(cdb)
        elif opcode in WRITES | WRITE_AND_VERIFY | {COMPARE_AND_WRITE, WRITE_ATOMIC}:
            changes = self._place(cdb)
        elif opcode in OTHERS:
            changes = range(self._sectors)
        if opcode in MODE_SELECT:
            self._switches += 1
        flight = Flight(reads, changes, -1 if self._cached else self._switches)
        flight.stable = opcode in WRITE_AND_VERIFY or bool(cdb[1] & FUA and opcode != 0x0A)
        if opcode in SYNCHRONIZE and not cdb[1] & IMMED:
            place = self._place(cdb)
            if not place:
                place = range(place.start, self._sectors)
            promised = self._ledger.promised()
            flight.promised = {sector: promised[sector] for sector in place}
        elif opcode in MODE_SELECT and self._cached:
            flight.promised = self._ledger.promised()
            flight.switches = self._switches
        for other in self._flights.values():
            flight.meet(other)
        self._ledger.begun(changes)
        self._flights[task] = flight
        done = task.done

        def ended(task: Task) -> None:
            self._ended(task)
            done(task)

        task.done = ended

    def _place(self, cdb: bytes) -> range:
        """The sectors of a block command."""
        opcode, number = cdb[0], int.from_bytes
        match opcode >> 5:
            case 0:
                first, count = number(cdb[1:4], "big") & 0x1F_FFFF, cdb[4] or 256
            case 1:
                first, count = number(cdb[2:6], "big"), number(cdb[7:9], "big")
            case 5:
                first, count = number(cdb[2:6], "big"), number(cdb[6:10], "big")
            case _:
                first, count = number(cdb[2:10], "big"), number(cdb[10:14], "big")
        if opcode == COMPARE_AND_WRITE:
            count = cdb[13]
        elif opcode == WRITE_ATOMIC:
            count = number(cdb[12:14], "big")
        each = self._disk.block_size // SECTOR
        return range(min(first * each, self._sectors), min((first + count) * each, self._sectors))

    @property
    def _cached(self) -> bool:
        """As mode page 8 says."""
        return bool(self._disk.modes[CACHING].fields["wce"])

    # --- what holds

    def _ended(self, task: Task) -> None:
        opcode = task.cdb[0] if task.cdb else 0
        flight = self._flights.pop(task, None)
        if flight is None or self._over:
            return
        alone = flight.switches == self._switches
        if opcode in MODE_SELECT:
            self._switches += 1
        if opcode in WHOLE and (task.aborted or task.status not in REFUSED):
            self.over()
        elif task.aborted or task.outcome is not Outcome.COMPLETE or task.status is not Status.GOOD:
            pass
        elif flight.reads and flight.alone:
            data = gather(task.data_in)[: task.sent // SECTOR * SECTOR]
            self._hold(self._ledger.check_read, flight.reads.start, data[: len(flight.reads) * SECTOR])
        elif flight.changes and opcode not in OTHERS:
            self._written(task, flight, stable=flight.stable or (alone and not self._cached))
        elif flight.promised and (opcode in SYNCHRONIZE or (alone and not self._cached)):
            self._ledger.flushed(flight.promised)
            self._check_stable()

    def _written(self, task: Task, flight: Flight, *, stable: bool) -> None:
        data = gather(task.data_out)[: task.received]
        if task.cdb[0] == COMPARE_AND_WRITE:
            data = data[len(data) // 2 :]
        if flight.alone:
            self._ledger.written(
                flight.changes.start, bytes(data[: len(data) // SECTOR * SECTOR]), stable=stable
            )
            if stable:
                self._check_stable()

    def _check_stable(self) -> None:
        if not self._over:
            self._hold(self._ledger.check_stable, self._medium.stable)

    def _hold(self, check: Callable[..., None], *arguments: object) -> None:
        """What does not hold is told when the disk rests: an exception within it would be another matter."""
        try:
            check(*arguments)
        except AssertionError as error:
            self._wrong.append(str(error))
