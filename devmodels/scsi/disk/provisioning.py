"""Thin provisioning: how much of a disk has a place, and thresholds that tell of it (SBC-4 §4.7.3.8).

Resources are counted in threshold sets of 2^`EXPONENT` blocks.  The thresholds are in the logical block provisioning
mode page; one that is crossed is a unit attention condition of every nexus, once until it is armed anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from devmodels.scsi.asc import Asc
from devmodels.scsi.fields import Layout
from devmodels.scsi.layout import modes
from devmodels.scsi.modes import ModePage
from devmodels.scsi.request import OwnRequest
from devmodels.scsi.sense import invalid_parameter
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.scsi.disk.census import Census
    from devmodels.scsi.disk.disk import Disk

EXPONENT = 11
"""THRESHOLD EXPONENT: a set has 2048 blocks, 1 MiB of 512 bytes each."""
QUESTIONS = 1024
"""So often LOG SENSE asks the disk for runs of blocks at most."""
THRESHOLDS = 4
"""How many thresholds there is room for."""
AVAILABLE, USED = 0x01, 0x02
"""THRESHOLD RESOURCE."""
INCREASING, DECREASING = 0b000, 0b001
"""THRESHOLD ARMING: it is crossed upwards, or downwards."""
SOFT = 0b000
"""THRESHOLD TYPE: the count is one of threshold sets."""

THRESHOLD = Layout(modes.THRESHOLD)
PAGE = Layout(modes.PROVISIONING)


def mode_page() -> ModePage:
    """The logical block provisioning mode page, with every threshold off."""
    changeable = THRESHOLD.pack(
        enabled=1, threshold_type=-1, threshold_arming=-1, threshold_resource=-1, threshold_count=-1
    )
    size = THRESHOLDS * THRESHOLD.size
    return ModePage(0x1C, PAGE, subpage=2, tail=(bytes(size), changeable * THRESHOLDS))


class Threshold(msgspec.Struct, frozen=True):
    """One threshold of the mode page."""

    resource: int
    downwards: bool
    limit: int

    def crossed(self, available: int, used: int) -> bool:
        """Whether the resource is beyond it."""
        value = available if self.resource == AVAILABLE else used
        return value <= self.limit if self.downwards else value >= self.limit


def thresholds_of(page: ModePage) -> list[Threshold]:
    """The enabled thresholds of a mode page."""
    out = []
    for index in range(THRESHOLDS):
        values = THRESHOLD.unpack(page.current, PAGE.size + index * THRESHOLD.size)
        if values["enabled"]:
            out.append(
                Threshold(
                    values["threshold_resource"],
                    values["threshold_arming"] == DECREASING,
                    values["threshold_count"],
                )
            )
    return out


class Provisioning:
    """The thresholds of `disk`, and how much has been written since they were looked at."""

    __slots__ = ("_beyond", "_disk", "_found", "_looking", "_on_end", "_thresholds", "_written", "armed")

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._found: Census | None = None
        self._thresholds: list[Threshold] = []
        self._beyond: set[int] = set()
        self._written = 0
        self._looking = False
        self._on_end: list[Callable[[], None]] = []
        self.armed = False
        """Whether writes are to be told (`written`)."""

    @property
    def _census(self) -> Census:
        if self._found is None:
            from devmodels.scsi.disk.census import Census

            self._found = Census(self._disk)
        return self._found

    def set_page(self, page: ModePage) -> None:
        """Mode pages have changed: where this one has, arm what it enables."""
        thresholds = thresholds_of(page)
        if thresholds == self._thresholds:
            return
        self._thresholds = thresholds
        self._beyond.clear()
        self.armed = bool(self._thresholds)
        if self.armed:
            self._census.all_changed()
            self._look()

    def written(self, offset: int, length: int) -> None:
        """These bytes have been written: after a threshold set of them it is time to look."""
        self._census.changed(offset, length)
        self._written += length
        self._look_in_time()

    def _look_in_time(self) -> None:
        if self._written >= self._disk.block_size << EXPONENT and not self._disk.leaving:
            self._look()

    @staticmethod
    def check(image: bytes, at: int) -> None:
        """CheckCondition where a mode page, at `at` in a parameter list, has a threshold of what is not counted."""
        for index in range(THRESHOLDS):
            place = PAGE.size + index * THRESHOLD.size
            values = THRESHOLD.unpack(image, place)
            if not values["enabled"]:
                continue
            if values["threshold_type"] != SOFT or values["threshold_arming"] > DECREASING:
                raise invalid_parameter(at + place, 5)
            if values["threshold_resource"] not in (AVAILABLE, USED):
                raise invalid_parameter(at + place + 1)

    async def counts(self, task: Task) -> tuple[int, int]:
        """Threshold sets that are available (rounded down), and used (rounded up), as far as `QUESTIONS` go.

        CheckCondition where `task` was aborted.
        """
        await self._census.count_some(task, QUESTIONS)
        return self._counted()

    def _counted(self) -> tuple[int, int]:
        used = self._census.used()
        return (self._disk.blocks - used) >> EXPONENT, -(-used // (1 << EXPONENT))

    def _look(self) -> None:
        if not self._looking:
            self._written = 0
            self._looking = True
            self._disk.turns.start(self._compare(), self._looked)

    def _looked(self, _result: None, _error: BaseException | None) -> None:
        """What went wrong is told to those who write."""
        self._looking = False
        if self._disk.leaving:
            ended, self._on_end = self._on_end, []
            for each in ended:
                each()
        else:
            self._look_in_time()

    def stop(self, over: Callable[[], None]) -> None:
        """The disk is being taken out: `over` is called when nobody looks any more."""
        if self._looking:
            self._on_end.append(over)
            self._disk.backend.cancel_held(lambda request: isinstance(request, OwnRequest))
        else:
            over()

    async def _compare(self) -> None:
        await self._census.count_changed()
        available, used = self._counted()
        for index, threshold in enumerate(self._thresholds):
            if not threshold.crossed(available, used):
                self._beyond.discard(index)
            elif index not in self._beyond:
                self._beyond.add(index)
                self._disk.establish(Asc.THIN_PROVISIONING_THRESHOLD_CROSSED)
