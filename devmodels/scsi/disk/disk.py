"""A disk: a logical unit over a BlockBackend (SBC-4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from devmodels.blockbackend import BlockBackend, Flags, Op, Request
from devmodels.blockbackend.request import Read
from devmodels.conformance import ViolationLog
from devmodels.iocontext import IoContext
from devmodels.scsi import basic
from devmodels.scsi.asc import Asc
from devmodels.scsi.constants import DeviceType, Failure, SenseKey, Status
from devmodels.scsi.disk import atonce
from devmodels.scsi.disk.blocks import no_such_block
from devmodels.scsi.disk.medium import Medium
from devmodels.scsi.disk.operation import Operation
from devmodels.scsi.disk.options import DiskOptions
from devmodels.scsi.disk.parameters import ModeParameters
from devmodels.scsi.disk.provisioning import Provisioning
from devmodels.scsi.disk.visits import Visits
from devmodels.scsi.failures import sense_of_errno
from devmodels.scsi.identity import Identity
from devmodels.scsi.nexus import Nexus, Registrant
from devmodels.scsi.request import LateFlush, OwnRequest, TaskRequest, TaskUpdate
from devmodels.scsi.sense import CheckCondition, Conflict, Sense, not_ready
from devmodels.scsi.table import Access, Command
from devmodels.scsi.task import Countdown, Task
from devmodels.scsi.unitstate import decode
from devmodels.trace import EventKind, Tracer

if TYPE_CHECKING:
    from devmodels.scsi.buffers import Buffers
    from devmodels.scsi.disk.copyresults import Copies
    from devmodels.scsi.kind import UnitFront
    from devmodels.scsi.logs import LogPage
    from devmodels.scsi.qemu.attention import BusAttention
    from devmodels.scsi.statefile import StateFile

VERSIONS = (0x00A0, 0x0460, 0x04C0, 0x0600)
"""SAM-5, SPC-4, SBC-3 and SBC-4 (no version claimed)."""
PLACING = frozenset((Op.WRITE, Op.WRITE_ZEROES))
"""Requests that give blocks a place, or take it away."""
_KNOWN = frozenset(Asc)
STOPPED = Sense(SenseKey.NOT_READY, Asc.INITIALIZING_COMMAND_REQUIRED)
"""What a unit that has been stopped answers until it is started."""
PAUSE_EVERY = 16
"""A long command gives others a turn after so many of its pieces."""


def _state_file(
    context: IoContext, path: str, opened: Callable[[IoContext, str], StateFile] | None
) -> StateFile:
    if opened is None:
        from devmodels.scsi.statefile import StateFile  # slow, and most disks keep nothing

        opened = StateFile
    return opened(context, path)


class Disk(ModeParameters):
    """A direct access block device over `backend`.

    `violations`: as of `LogicalUnit`.  OSError, or StateFileError, where the file of the option `state` cannot be had;
    `open_state` opens it.
    """

    def __init__(
        self,
        backend: BlockBackend,
        options: DiskOptions | None = None,
        *,
        name: str = "",
        violations: ViolationLog | None = None,
        open_state: Callable[[IoContext, str], StateFile] | None = None,
    ) -> None:
        self.options = options = DiskOptions() if options is None else options
        self.backend = backend
        backend.pinned = True
        self.block_size = options.logical_block_size
        self.max_blocks = options.max_io_size // self.block_size
        self.max_unmap_blocks = options.max_unmap_size // self.block_size
        self.absent_fields = options.absent_fields
        self.medium = Medium()
        self.operation = Operation()
        self.visits = Visits()
        self.leaving = False
        """Whether it is being taken out of its target."""
        self.priorities: dict[Registrant, int] = {}
        self._pieces = 0
        self.plain_flags = atonce.RARC | atonce.DPO * options.dpofua
        """Those flags of a READ that change nothing."""
        super().__init__(
            backend.context,
            name=name or backend.name,
            violations=violations,
            queue_depth=options.queue_depth,
            state=_state_file(backend.context, options.state, open_state) if options.state else None,
        )
        if self.state is not None:
            kept = self.state.state
            self.operation.failure, self.operation.unrestricted = kept.failure, kept.unrestricted
        self.identity = Identity(options, self.name)
        if options.write_cache != "auto":
            backend.write_cache = options.write_cache == "on"
        self.provisioning = Provisioning(self)
        self.set_up_modes()
        backend.add_resize_listener(self._resized)
        if options.reservations == "passthrough":
            backend.on_attention = self.told_below
        self.guard()

    # --- what it is

    @cached_property
    def commands(self) -> Sequence[Command[Any]]:
        """Its table, read when the first command comes."""
        from devmodels.scsi.disk.commands import of

        return of(self.options)

    @cached_property
    def copies(self) -> Copies:
        """How EXTENDED COPY went."""
        from devmodels.scsi.disk.copyresults import Copies

        return Copies()

    @cached_property
    def buffers(self) -> Buffers:
        """Of READ BUFFER and WRITE BUFFER."""
        from devmodels.scsi.buffers import Buffers

        return Buffers()

    @cached_property
    def logs(self) -> Mapping[tuple[int, int], LogPage]:
        """Its log pages."""
        from devmodels.scsi.disk.logpages import disk_logs

        return disk_logs(self)

    @property
    def blocks(self) -> int:
        """The capacity in logical blocks."""
        return self.backend.size // self.block_size

    @property
    def zeroes(self) -> bool:
        """Whether UNMAP frees blocks, which read as zeroes then (LBPRZ)."""
        return self.options.thin and self.backend.node.can_unmap

    def front_as_qemu(self, bus: BusAttention) -> UnitFront:
        """What answers as QEMU's disk."""
        from devmodels.scsi.qemu.disk import DiskFront

        return DiskFront(self, bus)

    def inquiry_data(self) -> bytes:
        """Standard INQUIRY data."""
        options = self.options
        return basic.standard_inquiry(
            DeviceType.DISK,
            removable=options.removable,
            vendor=options.vendor,
            product=options.product,
            revision=options.ver,
            versions=VERSIONS,
            third_party_copy=True,
        )

    def vital_product_data(self, page: int, task: Task) -> bytes | None:
        """A page of vital product data."""
        from devmodels.scsi.disk import vpd

        return vpd.page(self, page, task)

    def find_disk(self, kind: int, name: bytes) -> Disk | None:
        """The disk of this target that has a designator of this type and name."""
        units = {} if self.target is None else self.target.units
        for unit in units.values():
            if isinstance(unit, Disk) and unit.identity.designators().get(kind) == name:
                return unit
        return None

    def _resized(self, _size: int) -> None:
        self.establish(Asc.CAPACITY_DATA_CHANGED)

    def told_below(self, code: int) -> None:
        """The unit that is reserved in this one's place has told its initiator `code`: that has initiators here."""
        if self.turns.trace is not None:
            self.turns.trace.emit(self.backend.name, EventKind.ATTENTION, code)
        self.establish(Asc(code) if code in _KNOWN else Asc.POWER_ON_OR_RESET)

    # --- what a command may do

    def guard(self) -> None:
        """Look again whether there is anything that commands must be checked against."""
        medium = self.medium
        self.guarded = self.reservations.held or not medium.loaded or medium.stopped or self.operation.guarded

    reservations_changed = guard

    def check_access(self, task: Task, command: Command[Any]) -> None:
        """Reservations, a medium that is not there, something that is done to all of it."""
        self.check_reservation(task.nexus, command.access)
        sense = self.operation.refusal(command)
        if sense is not None:
            raise CheckCondition(sense)
        if command.ready:
            self._check_medium()

    def check_reservation(self, nexus: Nexus, access: Access) -> None:
        """Conflict where a reservation of another nexus forbids `access`."""
        if self.reservations.conflicts(nexus, access):
            raise Conflict

    def check_ready(self) -> None:
        """CheckCondition where there is no medium, or something is being done to it."""
        sense = self.operation.sense()
        if sense is not None:
            raise CheckCondition(sense)
        self._check_medium()

    def _check_medium(self) -> None:
        if not self.medium.loaded:
            raise not_ready(Asc.MEDIUM_NOT_PRESENT)
        if self.medium.stopped:
            raise CheckCondition(STOPPED)

    def progress_sense(self) -> Sense | None:
        """What is being done to the medium, that it is stopped, or a prediction that REQUEST SENSE is to tell of."""
        return self.operation.sense() or (STOPPED if self.medium.stopped else self.predicted_sense())

    def fail(self, task: Task, sense: Sense) -> None:
        """End `task` with CHECK CONDITION, or with a conflict of reservations, where those are the unit's below."""
        if sense.failure is Failure.NEXUS and self.options.reservations == "passthrough":
            task.status = Status.RESERVATION_CONFLICT
            self.finish(task)
        else:
            super().fail(task, sense)

    def aborted_status(self) -> Status:
        """TASK ABORTED where the control mode page says so."""
        return Status.TASK_ABORTED if self.control["tas"] else Status.GOOD

    # --- the medium

    def eject(self, *, by: Nexus | None = None) -> None:
        """Take the medium out, whoever prevents it; initiators but `by` hear of it."""
        if by is None:
            self._note_medium(loaded=False)
        if self.medium.loaded:
            self.medium.loaded = False
            self.guard()
            self.establish(Asc.MEDIUM_MAY_HAVE_CHANGED, but=by)

    def load(self, *, by: Nexus | None = None) -> None:
        """Put the medium in again; initiators but `by` hear of it."""
        if by is None:
            self._note_medium(loaded=True)
        if not self.medium.loaded:
            self.medium.loaded = True
            self.guard()
            self.establish(Asc.MEDIUM_MAY_HAVE_CHANGED, but=by)

    def _note_medium(self, *, loaded: bool) -> None:
        if self.turns.trace is not None:
            self.turns.trace.emit(self.backend.name, EventKind.MEDIUM, int(loaded))

    def observe(self, trace: Tracer | None) -> None:
        """Give `trace` everything that comes to the disk, and goes on in it; None: no more."""
        super().observe(trace)
        if self.state is not None:
            self.state.observe(trace, self.backend.name)

    # --- block requests

    async def do(self, request: TaskRequest | OwnRequest | TaskUpdate) -> None:
        """As of any unit; what changes how much has a place is told to thresholds."""
        await super().do(request)
        if self.provisioning.armed and request.op in PLACING:
            self.provisioning.written(request.offset, request.length)

    def sense_of(self, request: Request) -> Sense:
        """As of any unit; blocks that the disk has lost since the command began are no defects of the medium."""
        sense = super().sense_of(request)
        if sense.key is SenseKey.MEDIUM_ERROR and request.offset + request.length > self.backend.size:
            return no_such_block(self, request.offset // self.block_size)
        return sense

    def reads_at_once(self, cdb: bytes) -> tuple[int, int] | None:
        """Where a plain READ reads."""
        return atonce.place(self, cdb)

    def read_now(self, reads: Sequence[Read]) -> int:
        """Do plain READs whose data is at hand."""
        return self.backend.read_now(reads, merge=False)

    async def update(
        self,
        task: Task,
        offset: int,
        length: int,
        change: Callable[[int, bytearray], bytes | bytearray | None],
        flags: Flags = Flags.NONE,
    ) -> None:
        """Change what is there, with nobody else at it (`UpdateRequest`); CheckCondition where that fails."""
        self.backend.serialise()
        await self.do(TaskUpdate(task, offset, length, change, flags))

    async def pause(self, task: Task | None) -> None:
        """Between the pieces of a long command: give others a turn; CheckCondition where it has been aborted."""
        if task is not None and task.aborted:
            raise CheckCondition(Sense(SenseKey.ABORTED_COMMAND))
        self._pieces += 1
        if self._pieces % PAUSE_EVERY == 0:
            await self.turns.pause()

    def flush_in_background(self, nexus: Nexus) -> None:
        """Begin a flush; where it fails, `nexus` is told by a deferred error."""

        def flushed(request: Request) -> None:
            if request.error and self.target is not None and nexus in self.target.nexuses:
                sense = sense_of_errno(request.error, write=True)
                self.attentions.queue(nexus, msgspec.structs.replace(sense, deferred=True))

        self.backend.submit(LateFlush(Op.FLUSH, 0, 0, done=flushed))

    def cancel_requests(self, wanted: Callable[[Task], bool]) -> None:
        """Requests that have not started are dropped; who waits for what the disk does to its medium waits no more."""
        self.operation.let_go(wanted)
        super().cancel_requests(wanted)
        self.visits.cancel_away(wanted)

    def leave(self, over: Callable[[], None]) -> None:
        """Its own tasks end, and so do others' that work on it, and what is being done to all of its medium."""

        def gone() -> None:
            self.leaving = False
            over()

        left = Countdown(4, gone)
        self.leaving = True
        super().leave(left.one)
        self.visits.send_off(self, left.one)
        self.operation.stop(self, left.one)
        self.provisioning.stop(left.one)

    # --- snapshots

    def save(self, nexus: Nexus) -> bytes:
        """What it knows beyond its medium, its tasks left out."""
        from devmodels.scsi.disk import state

        return msgspec.msgpack.encode(state.save(self, nexus))

    def judge(self, data: bytes) -> None:
        """ValueError where that is not what `save` of such a disk gave."""
        from devmodels.scsi.disk import state

        state.judge(self, decode(data, state.DiskState))

    def restore(self, nexus: Nexus, data: bytes) -> None:
        """Be as `data` says, which `judge` has found to be possible."""
        from devmodels.scsi.disk import state

        state.restore(self, nexus, decode(data, state.DiskState))

    # --- resets and losses

    def nexus_lost(self, nexus: Nexus) -> None:
        """It prevents nothing any more, and its copies' results and its echo buffer are gone."""
        super().nexus_lost(nexus)
        self.medium.prevented_by.discard(nexus)
        self.copies.forget(nexus)
        self.buffers.forget(nexus)

    def was_reset(self) -> None:
        """Nobody prevents anything, a unit that was stopped starts; mode parameters are the saved ones.

        Formatting and sanitizing go on.
        """
        super().was_reset()
        self.medium.prevented_by.clear()
        self.medium.stopped = False
        self.guard()
        self.reset_modes()

    def close(self) -> None:
        """Leave the backend, which stays open."""
        self.backend.remove_resize_listener(self._resized)
        self.backend.on_attention = None
