"""Reservations of the logical unit below: the commands for them are handed on as they are (option `reservations`).

The disk's initiator is the node's to the target, so that a disk with more than one of them must keep its own.
"""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any

import msgspec

from devmodels.blockbackend.passthrough import Direction, ScsiCommand
from devmodels.blockbackend.request import Request
from devmodels.iocontext import Future
from devmodels.scsi import persistent_in, persistent_out, reserve
from devmodels.scsi.asc import Asc
from devmodels.scsi.constants import SenseKey, Status
from devmodels.scsi.failures import sense_of_errno
from devmodels.scsi.fields import Fields
from devmodels.scsi.request import TaskPassthrough
from devmodels.scsi.sense import CheckCondition, Sense
from devmodels.scsi.table import Command, Data
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.scsi.disk.disk import Disk

_WRONG = Sense(SenseKey.HARDWARE_ERROR, Asc.INTERNAL_TARGET_FAILURE)

MAX_DATA = 1 << 16
"""Longest parameter data that is handed on, in bytes."""

_OWN: frozenset[Command[Any]] = frozenset(
    (*reserve.COMMANDS, *persistent_in.COMMANDS, *persistent_out.COMMANDS)
)


async def hand_on(command: Command[Any], disk: Disk, task: Task, fields: Fields) -> bytes | None:
    """Have the unit below do it; its status and sense data are the answer."""
    length = min(fields.get(command.length, 0) if command.length else 0, MAX_DATA)
    data, direction = bytearray(length), Direction.NONE
    if command.data is Data.OUT:
        data, direction = bytearray(disk.parameters(task, length)), Direction.TO_DEVICE
    elif command.data is Data.IN:
        direction = Direction.FROM_DEVICE
    vectors = [memoryview(data)] if length else []
    told = ScsiCommand(task.cdb[: command.layout.size], direction if length else Direction.NONE, vectors)
    await _done(disk, task, told)
    try:
        task.status = Status(told.status)
    except ValueError:
        raise CheckCondition(_WRONG) from None
    task.sense = told.sense
    return bytes(data[: length - told.residual]) if direction is Direction.FROM_DEVICE else None


async def _done(disk: Disk, task: Task, told: ScsiCommand) -> None:
    over: Future[Request] = Future(disk.context)
    request: Request
    request = handed = TaskPassthrough(told, done=over.set_result)
    handed.task = task
    disk.backend.submit(request)
    request = await over
    if request.error:
        raise CheckCondition(sense_of_errno(request.error))


@cache
def instead_of(command: Command[Any]) -> Command[Any]:
    """`command` as it is handed on, where it is about reservations."""
    return msgspec.structs.replace(command, handler=partial(hand_on, command)) if command in _OWN else command
