"""Power conditions of a drive: those that hosts ask for, and those that come by themselves (MMC-6 §4.1.6, §7.7).

Nothing is switched off here.  A condition is told when somebody asks for it, and any command for the medium ends it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from devmodels.scsi.mmc.events import EventClass, PowerEvent

if TYPE_CHECKING:
    from devmodels.scsi.mmc.drive import CdDrive

TICK_NS = 100_000_000
"""The unit of the timers of mode page 1Ah."""


class Condition(IntEnum):
    """Power conditions, by their numbers in events."""

    ACTIVE = 1
    IDLE = 2
    STANDBY = 3
    SLEEP = 4


REQUESTS = {2: Condition.IDLE, 3: Condition.STANDBY, 5: Condition.SLEEP}
"""POWER CONDITION of START STOP UNIT; 0 is none."""


class Power:
    """`condition` is the one of the last time that somebody looked."""

    __slots__ = ("_drive", "_idle_ns", "_standby_ns", "_touched_ns", "condition")

    def __init__(self, drive: CdDrive) -> None:
        self._drive = drive
        self.condition = Condition.ACTIVE
        self._idle_ns: int | None = None
        self._standby_ns: int | None = None
        self._touched_ns = drive.turns.now_ns()

    @property
    def watches(self) -> bool:
        """Whether commands for the medium matter."""
        return self.condition is not Condition.ACTIVE or (self._idle_ns, self._standby_ns) != (None, None)

    def set_timers(self, idle: int | None, standby: int | None) -> None:
        """After so many ticks without a command for the medium a condition comes; None: never."""
        self._idle_ns = None if idle is None else idle * TICK_NS
        self._standby_ns = None if standby is None else standby * TICK_NS
        self._touched_ns = self._drive.turns.now_ns()

    def look(self) -> None:
        """Find out which condition has come by itself."""
        rested = self._drive.turns.now_ns() - self._touched_ns
        if self._standby_ns is not None and rested >= self._standby_ns:
            due = Condition.STANDBY
        elif self._idle_ns is not None and rested >= self._idle_ns:
            due = Condition.IDLE
        else:
            return
        if due > self.condition:
            self.set(due)

    def touch(self) -> None:
        """A command for the medium."""
        self.look()
        self._touched_ns = self._drive.turns.now_ns()
        self.set(Condition.ACTIVE)

    def set(self, condition: Condition) -> None:
        """Go over; hosts are told."""
        if condition is not self.condition:
            self.condition = condition
            self._drive.tell(EventClass.POWER, PowerEvent.SUCCEEDED)
            self._drive.guard()

    def reset(self) -> None:
        """As after power on."""
        self.condition = Condition.ACTIVE
        self._touched_ns = self._drive.turns.now_ns()
