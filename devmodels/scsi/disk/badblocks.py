"""Which block it was that could not be read: INFORMATION in sense data of medium errors (SBC-4 §4.18.1).

A request that fails says nothing of its blocks, so halves of what is in doubt are read again until one is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from devmodels.blockbackend import Op
from devmodels.blockbackend.vectors import clear, window
from devmodels.scsi.constants import SenseKey
from devmodels.scsi.request import TaskRequest, wake
from devmodels.scsi.sense import CheckCondition, Sense
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.blockbackend import Request
    from devmodels.scsi.disk.disk import Disk


class _Probe(TaskRequest):
    """A request whose error is no news."""

    POLICY = False
    __slots__ = ()


async def _readable(disk: Disk, task: Task, offset: int, length: int, vectors: Sequence[memoryview]) -> bool:
    await disk.pause(task)
    probe = _Probe(Op.READ, offset, length, vectors, done=wake)
    probe.task = task
    try:
        await disk.do(probe)
    except CheckCondition:
        return False
    return True


async def _readable_before(disk: Disk, task: Task, failed: Request) -> int | None:
    """How many bytes before the first block that cannot be read; they are in place.  None where all can be read now."""
    size, end, vectors = disk.block_size, failed.length, failed.vectors

    async def readable(first: int, after: int) -> bool:
        at, length = first * size, min(after * size, end) - first * size
        return await _readable(disk, task, failed.offset + at, length, window(vectors, at, length))

    good, bad = 0, -(-end // size)
    alone = bad == 1
    while bad - good > 1:
        middle = (good + bad) // 2
        if await readable(good, middle):
            good = middle
        else:
            bad = middle
            alone = bad - good == 1
    if not alone and await readable(good, bad):
        return None
    return good * size


async def located(disk: Disk, task: Task, failed: Request) -> tuple[Sense, int]:
    """What to say of a read that failed, and how many of its bytes are there; the others are cleared.

    CheckCondition where the task is aborted meanwhile.
    """
    sense = disk.sense_of(failed)
    good = await _readable_before(disk, task, failed) if sense.key is SenseKey.MEDIUM_ERROR else None
    clear(window(failed.vectors, good or 0, failed.length - (good or 0)))
    if good is None:
        return sense, 0
    return msgspec.structs.replace(sense, information=(failed.offset + good) // disk.block_size), good


async def read(disk: Disk, task: Task, offset: int, length: int, vectors: Sequence[memoryview]) -> None:
    """Read for the device server's own use; CheckCondition, with the block, where that fails."""
    request = TaskRequest(Op.READ, offset, length, vectors, done=wake)
    request.task = task
    try:
        await disk.do(request)
    except CheckCondition:
        if task.aborted:
            raise
        sense, _ = await located(disk, task, request)
        raise CheckCondition(sense) from None
