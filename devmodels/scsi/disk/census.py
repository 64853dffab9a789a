"""How many blocks of a disk have a place, for who asks often: counted by regions, and those counted longest ago first.

A disk may have any number of runs of blocks, and each costs a question.  Who may not wait for all of them asks so many,
and goes on with what was found before, or with an estimate where nothing was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.scsi.disk.unmap import MAPPED, status_at
from devmodels.scsi.sense import CheckCondition
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.scsi.disk.disk import Disk

REGIONS = 256
"""A disk has so many regions at most."""
LEAST = 2048
"""The fewest blocks in a region."""


class Census:
    """The counts of `disk`."""

    __slots__ = ("_blocks", "_changed", "_disk", "_size", "_used")

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._blocks = self._size = 0
        self._used: dict[int, int | None] = {}
        """By region, counted longest ago first: how many of its blocks have a place; None where nobody knows."""
        self._changed: set[int] = set()

    def _divide(self) -> None:
        """Make regions of the disk, unless it has the size that it had."""
        blocks = self._disk.blocks
        if blocks != self._blocks:
            self._blocks = blocks
            self._size = max(LEAST, -(-blocks // REGIONS))
            self._used = dict.fromkeys(range(-(-blocks // self._size)))
            self._changed = set(self._used)

    def changed(self, offset: int, length: int) -> None:
        """These bytes have been given a place, or it was taken from them."""
        self._divide()
        size = self._size * self._disk.block_size
        self._changed.update(range(offset // size, -(-(offset + length) // size)))

    def all_changed(self) -> None:
        """Anything may have."""
        self._divide()
        self._changed.update(self._used)

    async def count_some(self, task: Task, questions: int) -> None:
        """Count what was counted longest ago, as far as `questions` go; CheckCondition where `task` was aborted."""
        self._divide()
        for region in list(self._used):
            if questions <= 0:
                break
            questions -= await self._count(region, task, questions)

    async def count_changed(self) -> None:
        """Count every region that has changed; CheckCondition where that fails, or the disk is being taken out."""
        self._divide()
        todo, self._changed = self._changed, set()
        try:
            while todo:
                await self._count(next(iter(todo)), None, self._size)
                todo.pop()
        finally:
            self._changed |= todo

    async def _count(self, region: int, task: Task | None, questions: int) -> int:
        """Count one, or estimate it from its beginning; returns how many questions that took."""
        disk, counts = self._disk, self._used
        if region not in counts:
            return 0
        first = lba = region * self._size
        end = min(first + self._size, self._blocks)
        asked = used = 0
        while lba < end and asked < questions:
            await disk.pause(task)
            if task is None:
                disk.operation.go_on(disk)
            if lba >= disk.blocks or counts is not self._used:
                return asked
            try:
                blocks, status = await status_at(disk, task, lba, end)
            except CheckCondition:
                if disk.blocks < end:
                    # It has shrunk meanwhile.
                    return asked
                raise
            used += blocks * (status == MAPPED)
            lba += blocks
            asked += 1
        if counts is self._used:
            counts.pop(region, None)
            counts[region] = used * (end - first) // max(lba - first, 1)
        return asked

    def used(self) -> int:
        """How many blocks have a place, as far as is known: elsewhere it is as in what is known."""
        self._divide()
        known = used = 0
        for region, count in self._used.items():
            if count is not None:
                known += min(self._size, self._blocks - region * self._size)
                used += count
        return used + (self._blocks - known) * used // max(known, 1)
