"""An ATA disk over a BlockBackend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import msgspec

from devmodels.ata.command import AtaCommand, AtaError, MediumError
from devmodels.ata.constants import BLOCK, DISK_SIGNATURE, LBA, Error, Reset, Transport
from devmodels.ata.device import AtaDevice
from devmodels.ata.disk import kept, power
from devmodels.ata.disk.badsectors import BadSectors
from devmodels.ata.disk.errorlog import ErrorLog
from devmodels.ata.disk.geometry import Geometry, default_geometry, translate
from devmodels.ata.disk.identify import MAX_MULTIPLE
from devmodels.ata.disk.medium import MediumTransfer
from devmodels.ata.disk.memory import Memory
from devmodels.ata.disk.options import AtaDiskOptions
from devmodels.ata.disk.requests import AtaRequest, wake
from devmodels.ata.disk.rw import READ_FPDMA_QUEUED
from devmodels.ata.disk.sct import Sct
from devmodels.ata.disk.security import ERASE_UNIT, Security
from devmodels.ata.disk.smart import Smart, failing
from devmodels.ata.state import decode
from devmodels.ata.table import Addressing, Command
from devmodels.ata.taskfile import TaskFile
from devmodels.blockbackend import BlockBackend, Flags, Op
from devmodels.conformance import ViolationLog
from devmodels.iocontext import Coro, Future, IoContext
from devmodels.names import number_of
from devmodels.trace import Tracer

HOUR_NS = 3_600_000_000_000
LOCALLY_ASSIGNED = 0x3 << 60
"""The NAA format of names that somebody has made up."""


class AtaDisk(AtaDevice):
    """A disk over `backend`.  `unit` is its number on a parallel cable.

    OSError, or StateFileError, where the file of the option `state` cannot be had; `open_state` opens it.
    """

    signature = DISK_SIGNATURE
    MAX_MULTIPLE = MAX_MULTIPLE
    backend: BlockBackend
    look_ahead: bool
    smart: Smart
    security: Security
    apm: int

    def __init__(
        self,
        backend: BlockBackend,
        options: AtaDiskOptions | None = None,
        *,
        name: str = "",
        violations: ViolationLog | None = None,
        open_state: Callable[[IoContext, str], kept.KeptFile] = kept.KeptFile,
    ) -> None:
        self.options = options = AtaDiskOptions() if options is None else options
        self.backend = backend
        backend.pinned = True
        self.sector_size = options.logical_block_size
        self.unit = 0
        if options.write_cache != "auto":
            backend.write_cache = options.write_cache == "on"
        self._configured_write_cache = backend.write_cache
        self.multiple = 0
        self.look_ahead = True
        self.preserves = True
        """Whether settings outlive a COMRESET (software settings preservation, SATA 3.x §13.5)."""
        self.translation: tuple[int, int] | None = None
        """Heads and sectors of a track, where a host has chosen some (INITIALIZE DEVICE PARAMETERS)."""
        self.halted = False
        """Whether an NCQ command has failed, and nobody has asked yet how (SATA 3.x §13.6.4)."""
        self.failed_queued: tuple[int, TaskFile] | None = None
        """Tag and task file of the command that ended the queue last; `NO_QUEUED` for one of no tag."""
        self.security = Security()
        self.smart = Smart()
        self.errors = ErrorLog()
        self.sct = Sct(backend.context.now_ns())
        self.apm = 0
        self.puis: bool = options.puis
        """Whether it comes up in standby."""
        self.accessible_max: int | None = None
        """How many sectors can be addressed, where that are not all."""
        self.state = open_state(backend.context, options.state) if options.state else None
        kept.take(self)
        self.waits: bool = self.puis
        """Whether it has, and waits to be spun up."""
        self.power_mode = power.STANDBY if self.waits else power.ACTIVE
        self.standby_ns = self.active_ns = 0
        """After how long it goes to standby by itself, 0 for never; when the medium was last in use."""
        self.powered_ns = backend.context.now_ns()
        self.accessible_frozen = False
        self.bad = BadSectors()
        self.host_logs: dict[int, bytes] = {}
        self.sector_buffer = bytes(BLOCK)
        self.memory = Memory()
        super().__init__(backend.context, name=name or backend.name, violations=violations)
        if self.violations.as_qemu:
            self.multiple, self.reverts = MAX_MULTIPLE, False

    # --- what it is

    @cached_property
    def commands(self) -> Sequence[Command[AtaDisk]]:
        """Its table, read when the first command comes."""
        if self.violations.as_qemu:
            from devmodels.ata.disk import asqemu

            return asqemu.of(self.options)
        from devmodels.ata.disk.commands import of

        return of(self.options)

    @property
    def sectors(self) -> int:
        """The native capacity in logical sectors."""
        return self.backend.size // self.sector_size

    @property
    def accessible(self) -> int:
        """How many of them can be addressed."""
        return self.sectors if self.accessible_max is None else min(self.accessible_max, self.sectors)

    @property
    def default_geometry(self) -> Geometry:
        """The translation of the size that it has now."""
        return default_geometry(self.options, self.sectors)

    @property
    def geometry(self) -> Geometry:
        """The one that holds."""
        if self.translation is None:
            return self.default_geometry
        return translate(self.accessible, *self.translation)

    @property
    def serial(self) -> str:
        """The serial number: as given, or made of what the disk is called."""
        return self.options.serial or f"{number_of(self.name):08x}"

    @property
    def wwn(self) -> int:
        """The world wide name: as given, or a locally assigned one made of its serial number."""
        return self.options.wwn or LOCALLY_ASSIGNED | number_of(self.serial)

    @property
    def trims(self) -> bool:
        """Whether there is TRIM."""
        return self.options.discard_granularity != 0

    @property
    def zeroes(self) -> bool:
        """Whether trimmed sectors read as zeroes."""
        return self.backend.node.can_unmap

    @property
    def granule(self) -> int:
        """Whole sectors."""
        return self.sector_size

    @property
    def failing(self) -> bool:
        """Whether SMART says that it is about to fail."""
        return failing(self)

    def powered_for_ns(self) -> int:
        """How long it has had power."""
        return self.turns.now_ns() - self.powered_ns

    def hours(self) -> int:
        """The same in whole hours, as logs have it."""
        return min(self.powered_for_ns() // HOUR_NS, 0xFFFF)

    def sector_of(self, offset: int) -> int:
        """The sector in which byte `offset` of the backend lies."""
        return offset // self.sector_size

    # --- commands

    def admit(self, command: AtaCommand) -> None:
        """Not in sleep, not of a locked disk's medium; after an NCQ error nothing but what tells of it."""
        entry, security = command.entry, self.security
        assert entry is not None
        if security.prepared and entry.opcode != ERASE_UNIT:
            security.prepared = False
        if self.power_mode == power.SLEEP or (security.locked and entry.locked):
            raise AtaError(Error.ABRT)
        if self.halted:
            from devmodels.ata.disk.logs import tells_of_error

            if not tells_of_error(command.taskfile):
                command.queued = False
                raise AtaError(Error.ABRT)
        if command.queued:
            self._admit_queued(command)
        elif self.tags and not self.violations.as_qemu:
            self._mixed(command)
        if entry.addressing is not Addressing.NONE:
            self.medium_wanted()

    def at_once(self, taskfile: TaskFile) -> tuple[int, int] | None:
        """READ FPDMA QUEUED of an active disk that nothing is the matter with."""
        security = self.security
        if (
            taskfile.command != READ_FPDMA_QUEUED
            or self.halted
            or self.power_mode != power.ACTIVE
            or self.waits
            or self.standby_ns
            or security.locked
            or security.prepared
            or self.bad.made
            or self.turns.trace is not None
        ):
            return None
        tag, lba, count = taskfile.count >> 3 & 0x1F, taskfile.lba, taskfile.features or 0x1_0000
        if tag >= self.options.queue_depth or self.tags >> tag & 1 or lba + count > self.accessible:
            return None
        return lba * self.sector_size, count * self.sector_size

    def read_now(self, offset: int, vectors: Sequence[memoryview], length: int) -> bool:
        """What the backend has at hand."""
        return self.backend.read_now(((offset, vectors, length),)) > 0

    def medium_wanted(self) -> None:
        """The disk becomes active, unless it waits to be spun up."""
        if self.waits:
            raise AtaError(Error.ABRT)
        self.power_mode = power.ACTIVE
        if self.standby_ns:
            self.active_ns = self.turns.now_ns()

    def _admit_queued(self, command: AtaCommand) -> None:
        """A tag is that of one command, and less than the queue is deep (SATA 3.x §13.6.2)."""
        if self.transport is not Transport.SERIAL or not self.options.queue_depth:
            # There is no queue, and no error of one.
            command.queued = False
            raise AtaError(Error.ABRT)
        tag = command.tag = command.taskfile.count >> 3 & 0x1F
        if tag >= self.options.queue_depth or self.tags >> tag & 1:
            raise AtaError(Error.ABRT)
        self.tags |= 1 << tag

    def _mixed(self, command: AtaCommand) -> None:
        """NCQ commands and others are not mixed: the queue fails, and it is this one that has ended it."""
        from devmodels.ata.disk.logs import NO_QUEUED

        self.halted = True
        self.failed_queued = NO_QUEUED, command.taskfile
        self.drop([each for each in self.in_flight if each.queued])
        raise AtaError(Error.ABRT)

    def fail(self, command: AtaCommand, error: AtaError) -> None:
        """An NCQ command that fails takes all others with it (SATA 3.x §13.6.4)."""
        if isinstance(error, MediumError) and not command.dropped:
            self.errors.add(self, command, error)
            if error.lba is not None and error.error == Error.UNC:
                self.bad.failed(error.lba)
        if command.queued and not command.dropped:
            self.halted = not self.violations.as_qemu
            self.drop([each for each in self.in_flight if each is not command and each.queued])
            super().fail(command, error)
            self.failed_queued = command.tag, command.taskfile
            return
        super().fail(command, error)

    def show_address(self, command: AtaCommand, lba: int) -> None:
        """As the command has it: LBA of 28 or 48 bits, or cylinder, head and sector."""
        taskfile = command.taskfile
        entry = command.entry
        if entry is None or entry.addressing is not Addressing.LBA28:
            taskfile.lba = lba
        elif taskfile.device & LBA:
            taskfile.lba28 = lba
        else:
            self.geometry.place(lba, taskfile)

    def moved(self, command: AtaCommand, length: int) -> None:
        """A transfer has moved `length` bytes, which registers of a channel tell as it goes on, if QEMU's do."""
        transfer = command.transfer
        if (
            self.violations.as_qemu
            and self.transport is Transport.PARALLEL
            and isinstance(transfer, MediumTransfer)
        ):
            transfer.show(self, command, command.moved + length)
        super().moved(command, length)

    def first_bad(self, offset: int, length: int) -> int | None:
        """The first sector of a range, in bytes, that was made unreadable."""
        return self.bad.first(self.sector_of(offset), length // self.sector_size)

    def written(self, offset: int, length: int) -> None:
        """A range, in bytes, has been written."""
        self.bad.written(self.sector_of(offset), length // self.sector_size)

    async def flush(self, command: AtaCommand) -> None:
        """Make what was written stable; AtaError."""
        request = AtaRequest(Op.FLUSH, 0, 0, (), Flags.NONE)
        if await self.perform(command, request):
            raise AtaError(Error.ABRT)

    async def perform(self, command: AtaCommand, request: AtaRequest) -> int:
        """Do a block request for `command`; returns its error."""
        request.command = command
        request.done = wake
        request.over = False
        request.future = None
        self.backend.submit(request)
        if not request.over:
            request.future = Future(self.context)
            await request.future
        return request.error

    def cancel_requests(self, wanted: Callable[[AtaCommand], bool]) -> None:
        """Requests that have not started are dropped; those of QEMU's disk are done at once, whatever limits it has."""
        if self.violations.as_qemu and self.backend.throttled_by is not None:
            self.turns.start(self.backend.drain())
            return
        self.backend.cancel_held(lambda request: isinstance(request, AtaRequest) and wanted(request.command))

    def was_reset(self, kind: Reset) -> None:
        """What a reset changes (ACS-3 §7.45; SATA 3.x §13.5)."""
        self._interrupt_test()
        self.halted = False
        if self.violations.as_qemu:
            self._was_reset_as_qemu()
            return
        self.security.prepared = False
        asleep = self.power_mode in (power.STANDBY, power.SLEEP)
        if kind is Reset.POWER_ON:
            asleep = self.puis
        self.power_mode = power.STANDBY if asleep else power.ACTIVE
        kept = self.preserves and self.transport is Transport.SERIAL
        anew = kind is Reset.POWER_ON or (kind is Reset.HARDWARE and not kept)
        if anew or (kind is Reset.SOFTWARE and self.reverts):
            self.multiple = 0
            self.look_ahead = True
            self.translation = None
            self.modes.reset()
        if anew:
            self.reverts = True
            self.apm = 0
            self.security.power_on()
            self.standby_ns = 0
        if kind is Reset.POWER_ON:
            self.smart.cycles += 1
            self.sct.power_on(self.turns.now_ns())
            self.waits = self.puis
            self.preserves = True
            self.accessible_frozen = False
        if anew:
            self.backend.write_cache = self.sct.write_cache(self._configured_write_cache)

    def _was_reset_as_qemu(self) -> None:
        """READ and WRITE MULTIPLE move 16 sectors at a time; once after it was asked for, the translation reverts."""
        self.multiple = MAX_MULTIPLE
        if self.reverts:
            self.reverts = False
            self.translation = None

    def _interrupt_test(self) -> None:
        if self.smart.running is not None:
            from devmodels.ata.disk import selftest

            selftest.stop(self, selftest.INTERRUPTED)

    def leave(self) -> None:
        """Nothing goes on, self-tests neither."""
        self._interrupt_test()
        super().leave()

    def keep(self, undo: Callable[[], None]) -> Coro[None] | None:
        """A host has changed something that outlives a loss of power: the rest of its command, or none."""
        return kept.keep(self, undo)

    # --- snapshots

    def save(self) -> bytes:
        """What it knows beyond its medium, its commands left out."""
        from devmodels.ata.disk import state

        return msgspec.msgpack.encode(state.save(self))

    def judge(self, data: bytes) -> None:
        """ValueError where that is not what `save` of a disk gave."""
        from devmodels.ata.disk import state

        state.judge(decode(data, state.DiskState))

    def restore(self, data: bytes) -> None:
        """Be as `data` says, which `judge` has found to be possible; no command is in flight."""
        from devmodels.ata.disk import state

        state.restore(self, decode(data, state.DiskState))

    def observe(self, trace: Tracer | None) -> None:
        """Give `trace` everything that goes on in the disk; None: no more."""
        super().observe(trace)
        self.backend.trace = trace
        if self.state is not None:
            self.state.observe(trace, self.name)

    def count_from(self, saved: bytes) -> None:
        """Times count by the clock of the trace that is written from now on; `saved`: as `save`, or empty if new."""
        now_ns = self.turns.now_ns()
        from devmodels.ata.disk import state

        before = decode(saved, state.DiskState) if saved else None
        self.powered_ns = now_ns - (0 if before is None else before.powered_for_ns)
        self.active_ns = now_ns - (0 if before is None else before.unused_for_ns)
        self.sct.since_ns = now_ns - (0 if before is None else before.sct.logged_for_ns)
