"""The state of a disk as plain data (`unitstate`): what initiators have set, reserved and left in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from devmodels.scsi.buffers import CAPACITY, ECHO_CAPACITY
from devmodels.scsi.disk.copyresults import CopyResult
from devmodels.scsi.nexus import Nexus
from devmodels.scsi.reservations import SavedReservations
from devmodels.scsi.statefile import WholeFailure
from devmodels.scsi.unitstate import UnitState

if TYPE_CHECKING:
    from devmodels.scsi.disk.disk import Disk


class CopyState(msgspec.Struct, frozen=True):
    """How a copy went, as of `CopyResult`."""

    status: int
    segments: int
    copied: int
    sense: bytes


class DiskState(UnitState, frozen=True, kw_only=True):
    """`modes`: current mode pages that are not the default ones.  `reserved`: by RESERVE (6) or (10).

    `generation`: PRGENERATION.  `failure`, `unrestricted`: as of `Operation`, one that runs being one that failed.
    `echo`, `copies`: of the driver's nexus.
    `priorities`: TransportID, port, priority.
    """

    modes: dict[str, str]
    reservations: SavedReservations
    generation: int
    aptpl: bool
    reserved: bool
    loaded: bool
    prevented: bool
    failure: WholeFailure
    unrestricted: bool
    buffer: bytes
    echo: bytes | None
    priorities: list[tuple[bytes, int, int]]
    copies: dict[int, CopyState]
    stopped: bool = False


def save(disk: Disk, nexus: Nexus) -> DiskState:
    """The state of `disk`, whose one initiator `nexus` is."""
    reservations, medium, operation = disk.reservations, disk.medium, disk.operation
    return DiskState(
        attentions=disk.save_attentions(nexus),
        modes=disk.modes.save_current(),
        reservations=reservations.as_data(),
        generation=reservations.generation,
        aptpl=reservations.aptpl,
        reserved=reservations.reserved_by is nexus,
        loaded=medium.loaded,
        stopped=medium.stopped,
        prevented=nexus in medium.prevented_by,
        failure=operation.outlook,
        unrestricted=operation.unrestricted,
        buffer=bytes(disk.buffers.data),
        echo=disk.buffers.echoes.get(nexus),
        priorities=[(name, port, value) for (name, port), value in disk.priorities.items()],
        copies={
            list_id: CopyState(each.status, each.segments, each.copied, each.sense)
            for list_id, each in disk.copies.of(nexus)
        },
    )


def judge(disk: Disk, state: DiskState) -> None:
    """ValueError where it cannot be the state of such a disk."""
    disk.modes.check(state.modes)
    state.reservations.check()
    if len(state.buffer) not in (0, CAPACITY) or len(state.echo or b"") > ECHO_CAPACITY:
        raise ValueError("a data buffer of another size")
    if not state.loaded and not disk.options.removable:
        raise ValueError("no medium in a drive that it cannot be taken out of")


def restore(disk: Disk, nexus: Nexus, state: DiskState) -> None:
    """Be as `state` says, which `judge` has found to be possible."""
    reservations = disk.reservations
    reservations.take(state.reservations)
    reservations.generation, reservations.aptpl = state.generation, state.aptpl
    reservations.reserved_by = nexus if state.reserved else None
    disk.medium.loaded, disk.medium.stopped = state.loaded, state.stopped
    disk.medium.prevented_by = {nexus} if state.prevented else set()
    disk.operation.failure, disk.operation.unrestricted = state.failure, state.unrestricted
    disk.buffers.data = bytearray(state.buffer)
    disk.buffers.echoes = {} if state.echo is None else {nexus: state.echo}
    disk.priorities = {(name, port): value for name, port, value in state.priorities}
    disk.copies.forget(nexus)
    for list_id, each in state.copies.items():
        disk.copies.begin(
            nexus, list_id, CopyResult.ended(each.status, each.segments, each.copied, each.sense)
        )
    disk.modes.take(state.modes)
    disk.apply_modes()
    disk.guard()
    disk.restore_attentions(nexus, state.attentions)
