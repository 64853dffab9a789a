"""The state of an ATA disk as plain data: what hosts have set, locked and hidden, and what they have yet to ask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from devmodels.ata.constants import BLOCK
from devmodels.ata.disk import power, selftest
from devmodels.ata.disk.badsectors import MAX_PENDING, MAX_SECTORS
from devmodels.ata.disk.errorlog import KEPT, LoggedError
from devmodels.ata.disk.features import MAX_APM
from devmodels.ata.disk.geometry import Geometry
from devmodels.ata.disk.logs import HOST_LOGS, HOST_PAGES
from devmodels.ata.disk.memory import MAX_TESTS
from devmodels.ata.disk.sct import STATES
from devmodels.ata.disk.security import ATTEMPTS, PASSWORD_SIZE
from devmodels.ata.disk.testlog import MAX_RESULTS
from devmodels.ata.state import AtaState, Byte, Lba, ModesState, TaskFileState, Word

if TYPE_CHECKING:
    from devmodels.ata.disk.disk import AtaDisk

Password = Annotated[bytes, msgspec.Meta(min_length=PASSWORD_SIZE, max_length=PASSWORD_SIZE)]
Log = Annotated[bytes, msgspec.Meta(min_length=HOST_PAGES * BLOCK, max_length=HOST_PAGES * BLOCK)]
Block = Annotated[bytes, msgspec.Meta(min_length=BLOCK, max_length=BLOCK)]
Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 40)]
Tenths = Annotated[int, msgspec.Meta(ge=0, le=9)]
MODES = (power.STANDBY, power.IDLE, power.ACTIVE, power.SLEEP)


class SecurityState(msgspec.Struct, frozen=True):
    """`Security`, field by field."""

    attempts: Annotated[int, msgspec.Meta(ge=0, le=ATTEMPTS)]
    frozen: bool
    locked: bool
    master: Password
    master_id: Word
    maximum: bool
    prepared: bool
    user: Password | None


class SmartState(msgspec.Struct, frozen=True):
    """`Smart`, field by field."""

    enabled: bool
    test_status: Byte
    results: Annotated[list[tuple[Byte, Byte, Word, Lba]], msgspec.Meta(max_length=MAX_RESULTS)]
    cycles: Count
    test: tuple[Byte, Tenths] | None
    """The self-test that goes on between commands, and how much of it is done."""


class BadState(msgspec.Struct, frozen=True):
    """`BadSectors`, field by field."""

    made: Annotated[list[Lba], msgspec.Meta(max_length=MAX_SECTORS)]
    flagged: Annotated[list[Lba], msgspec.Meta(max_length=MAX_SECTORS)]
    pending: Annotated[list[Lba], msgspec.Meta(max_length=MAX_PENDING)]
    most_pending: Count
    reallocated: Count
    reported: Count


class SctState(msgspec.Struct, frozen=True):
    """`Sct`, field by field; `logged_for_ns` is how long temperatures have been logged."""

    action: Word
    function: Word
    status: Word
    states: dict[int, Word]
    kept: dict[int, Word]
    timers: Annotated[list[Word], msgspec.Meta(min_length=2, max_length=2)]
    waiting: Annotated[bytes, msgspec.Meta(max_length=BLOCK)]
    logged_for_ns: Annotated[int, msgspec.Meta(ge=0, lt=1 << 60)]


class ErrorState(msgspec.Struct, frozen=True):
    """`LoggedError`, field by field."""

    taskfile: TaskFileState
    error: Byte
    status: Byte
    lba: Lba
    milliseconds: Annotated[int, msgspec.Meta(ge=0)]
    hours: Word


class MemoryState(msgspec.Struct, frozen=True):
    """`Memory`, field by field."""

    identity: Annotated[bytes, msgspec.Meta(max_length=BLOCK)] = b""
    autosave: bool = True
    tests: Annotated[list[Byte], msgspec.Meta(max_length=MAX_TESTS)] = []
    last: Annotated[int, msgspec.Meta(ge=0, le=MAX_TESTS)] = 0


class DiskState(AtaState, frozen=True, kw_only=True):
    """`AtaDisk`, field by field; `powered_for_ns` is how long it has had power, `unused_for_ns` how long its medium has
    not been used.
    """

    write_cache: bool
    modes: ModesState
    multiple: Byte
    look_ahead: bool
    reverts: bool
    geometry: tuple[Word, Byte, Byte]
    halted: bool
    failed_queued: tuple[Byte, TaskFileState] | None
    security: SecurityState
    smart: SmartState
    apm: Annotated[int, msgspec.Meta(ge=0, le=MAX_APM)]
    power_mode: int
    preserves: bool
    puis: bool
    waits: bool
    standby_ns: Annotated[int, msgspec.Meta(ge=0, lt=1 << 60)]
    unused_for_ns: Annotated[int, msgspec.Meta(ge=0, lt=1 << 60)]
    errors: Annotated[list[ErrorState], msgspec.Meta(max_length=KEPT)]
    error_count: Annotated[int, msgspec.Meta(ge=0)]
    powered_for_ns: Annotated[int, msgspec.Meta(ge=0, lt=1 << 60)]
    accessible_max: Annotated[int, msgspec.Meta(ge=1, lt=1 << 48)] | None
    accessible_frozen: bool
    bad: BadState
    sct: SctState
    host_logs: dict[int, Log]
    sector_buffer: Block
    memory: MemoryState = MemoryState()


_PLAIN = (
    "multiple",
    "look_ahead",
    "reverts",
    "halted",
    "apm",
    "power_mode",
    "preserves",
    "puis",
    "waits",
    "standby_ns",
    "accessible_max",
    "accessible_frozen",
    "host_logs",
    "sector_buffer",
)
"""Attributes that are saved as they are."""


def save(disk: AtaDisk) -> DiskState:
    """The state of `disk`."""
    security, smart, geometry, bad = disk.security, disk.smart, disk.geometry, disk.bad
    failed = disk.failed_queued
    return DiskState(
        registers=TaskFileState.of(disk.registers),
        resets=list(disk.resets),
        write_cache=disk.backend.write_cache,
        modes=ModesState(disk.modes.multiword, disk.modes.ultra),
        geometry=(geometry.cylinders, geometry.heads, geometry.sectors),
        failed_queued=None if failed is None else (failed[0], TaskFileState.of(failed[1])),
        security=SecurityState(*(getattr(security, name) for name in SecurityState.__struct_fields__)),
        smart=SmartState(
            smart.enabled,
            smart.test_status,
            list(smart.results),
            smart.cycles,
            None if smart.running is None else (smart.which, smart.tested),
        ),
        unused_for_ns=max(disk.context.now_ns() - disk.active_ns, 0) if disk.standby_ns else 0,
        errors=[ErrorState(TaskFileState.of(each.taskfile), *each[1:]) for each in disk.errors.errors],
        error_count=disk.errors.count,
        powered_for_ns=max(disk.context.now_ns() - disk.powered_ns, 0),
        bad=BadState(
            sorted(bad.made),
            sorted(bad.flagged),
            sorted(bad.pending),
            bad.most_pending,
            bad.reallocated,
            bad.reported,
        ),
        sct=_sct(disk),
        memory=MemoryState(*(getattr(disk.memory, name) for name in MemoryState.__struct_fields__)),
        **{name: getattr(disk, name) for name in _PLAIN},
    )


def _sct(disk: AtaDisk) -> SctState:
    sct = disk.sct
    return SctState(
        sct.action,
        sct.function,
        sct.status,
        dict(sct.states),
        dict(sct.kept),
        list(sct.timers),
        sct.waiting,
        max(disk.context.now_ns() - sct.since_ns, 0),
    )


def _restore_sct(disk: AtaDisk, state: SctState) -> None:
    sct = disk.sct
    sct.action, sct.function, sct.status = state.action, state.function, state.status
    sct.states, sct.kept = dict(state.states), dict(state.kept)
    sct.timers, sct.waiting = list(state.timers), state.waiting
    sct.since_ns = disk.context.now_ns() - state.logged_for_ns


def judge(state: DiskState) -> None:
    """ValueError where it cannot be the state of a disk."""
    _, heads, sectors = state.geometry
    if not 1 <= heads <= 16 or not sectors:
        raise ValueError(f"a disk of {heads} heads and {sectors} sectors a track")
    if state.power_mode not in MODES:
        raise ValueError(f"power mode {state.power_mode}, expected one of {MODES}")
    if not state.host_logs.keys() <= set(HOST_LOGS):
        raise ValueError(f"logs {sorted(state.host_logs)} of host vendors, expected {HOST_LOGS}")
    for states in (state.sct.states, state.sct.kept):
        if states.keys() != STATES.keys() or not all(1 <= states[each] <= STATES[each] for each in states):
            raise ValueError(f"SCT feature states {states}, expected 1 to {STATES}")
    if state.sct.waiting and len(state.sct.waiting) != BLOCK:
        raise ValueError(f"an SCT key sector of {len(state.sct.waiting)} bytes, expected {BLOCK}")
    if len(state.memory.identity) not in (0, BLOCK) or state.memory.last > len(state.memory.tests):
        raise ValueError(f"{len(state.memory.identity)} bytes of identity, {state.memory.last} self-tests")


def restore(disk: AtaDisk, state: DiskState) -> None:
    """Be as `state` says, which `judge` has found to be possible."""
    selftest.stop(disk, selftest.INTERRUPTED)
    for name in _PLAIN:
        setattr(disk, name, getattr(state, name))
    disk.host_logs = dict(state.host_logs)
    disk.backend.write_cache = state.write_cache
    disk.modes.multiword, disk.modes.ultra = state.modes.multiword, state.modes.ultra
    translated = Geometry(*state.geometry) != disk.default_geometry
    disk.translation = state.geometry[1:] if translated else None
    failed = state.failed_queued
    disk.failed_queued = None if failed is None else (failed[0], failed[1].taskfile())
    for name in SecurityState.__struct_fields__:
        setattr(disk.security, name, getattr(state.security, name))
    disk.smart.enabled, disk.smart.test_status = state.smart.enabled, state.smart.test_status
    disk.smart.results = list(state.smart.results)
    disk.smart.cycles = state.smart.cycles
    disk.active_ns = disk.context.now_ns() - state.unused_for_ns
    disk.errors.errors = [
        LoggedError(
            each.taskfile.taskfile(), each.error, each.status, each.lba, each.milliseconds, each.hours
        )
        for each in state.errors
    ]
    disk.errors.count = state.error_count
    disk.powered_ns = disk.context.now_ns() - state.powered_for_ns
    bad = disk.bad
    bad.made, bad.flagged, bad.pending = map(set, (state.bad.made, state.bad.flagged, state.bad.pending))
    bad.most_pending, bad.reallocated = state.bad.most_pending, state.bad.reallocated
    bad.reported = state.bad.reported
    _restore_sct(disk, state.sct)
    for name in MemoryState.__struct_fields__:
        setattr(disk.memory, name, getattr(state.memory, name))
    disk.memory.tests = list(state.memory.tests)
    disk.restore_registers(state)
    if state.smart.test is not None:
        selftest.begin(disk, *state.smart.test)
