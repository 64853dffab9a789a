"""A SCSI target device: logical units by number, the nexuses that use them, and task management (SAM-5 §4.5)."""

from __future__ import annotations

from collections.abc import Callable

from devmodels.conformance import ViolationLog
from devmodels.iocontext import IoContext
from devmodels.scsi.absent import AbsentUnit, ReportLunsUnit
from devmodels.scsi.asc import Asc
from devmodels.scsi.constants import Function, Outcome, Response, Status
from devmodels.scsi.lun import EXTENDED_LIMIT, REPORT_LUNS
from devmodels.scsi.nexus import Nexus, TargetPort
from devmodels.scsi.task import Countdown, Task
from devmodels.scsi.unit import LogicalUnit

Listener = Callable[[LogicalUnit, Asc], None]
"""Told of each unit attention condition: the unit, and its code."""
EventListener = Callable[[LogicalUnit, int], None]
"""Told that a drive has events for those who poll: the unit, and a bit for each of their classes."""


class ScsiTarget:
    """Logical units by LUN (`units`), the nexuses that know of them (`nexuses`), and its ports by number (`ports`).

    `on_attention`: listeners for unit attention conditions, of which a carrier may send its initiators word
    (virtio-scsi's event queue, iSCSI's asynchronous messages).  `on_event`: the same for events of drives.
    """

    def __init__(self, context: IoContext, *, name: str = "", violations: ViolationLog | None = None) -> None:
        self.context = context
        self.name = name
        self.violations = ViolationLog() if violations is None else violations
        self.units: dict[int, LogicalUnit] = {}
        self.nexuses: dict[Nexus, None] = {}
        self.ports: dict[int, TargetPort] = {}
        self.on_attention: list[Listener] = []
        self.on_event: list[EventListener] = []
        self.absent = AbsentUnit(context, name=name, violations=self.violations)
        self.absent.target = self
        self._well_known = ReportLunsUnit(context, name=name, violations=self.violations)
        self._well_known.target = self

    # --- logical units

    def add(self, lun: int, unit: LogicalUnit) -> None:
        """`unit` is there from now on, as `lun`; ValueError where there is one already."""
        if not 0 <= lun < EXTENDED_LIMIT:
            raise ValueError(f"LUN {lun}, expected 0 to {EXTENDED_LIMIT - 1}")
        if lun in self.units:
            raise ValueError(f"LUN {lun} is in use")
        self.units[lun] = unit
        unit.target = self
        unit.lun = lun
        unit.attentions.establish(self.nexuses, Asc.POWER_ON_OR_RESET)
        self._inventory_changed(but=unit)

    def remove(self, lun: int, over: Callable[[], None] | None = None) -> LogicalUnit:
        """The unit at `lun` is no longer there; its tasks are ended, then `over` is called."""
        unit = self.units.pop(lun)
        unit.leave(over or _nothing)
        unit.target = None
        self._inventory_changed()
        return unit

    def _inventory_changed(self, *, but: LogicalUnit | None = None) -> None:
        """REPORTED LUNS DATA HAS CHANGED, at every unit, where somebody may know others (SPC-4 §6.33)."""
        if self.nexuses:
            for unit in self.units.values():
                if unit is not but:
                    unit.establish(Asc.REPORTED_LUNS_DATA_CHANGED)

    def announce(self, unit: LogicalUnit, code: Asc) -> None:
        """Tell listeners of a condition that initiators have yet to learn."""
        for listener in list(self.on_attention):
            listener(unit, code)

    def notify(self, unit: LogicalUnit, classes: int) -> None:
        """Tell listeners that there are events."""
        for listener in list(self.on_event):
            listener(unit, classes)

    def unit(self, lun: int | None) -> LogicalUnit | None:
        """The unit at `lun`, well known ones included; None where there is none."""
        if lun is None:
            return None
        if lun == REPORT_LUNS:
            return self._well_known
        return self.units.get(lun)

    # --- commands

    def submit(self, task: Task) -> None:
        """Take `task`, which ends with `task.done`, perhaps before this returns.

        Never raises for what an initiator does.
        """
        lun = task.lun
        unit = None if lun is None else self.units.get(lun)
        if unit is None:
            unit = self.unit(lun) or self.absent
        unit.submit(task)

    def cancel(self, wanted: Callable[[Task], bool], over: Callable[[], None]) -> None:
        """The carrier gives up `wanted` tasks; `over` is called when all have ended, with RESET as outcome."""
        self._abort_everywhere(wanted, Outcome.RESET, over)

    def _abort_everywhere(
        self, wanted: Callable[[Task], bool], outcome: Outcome, over: Callable[[], None]
    ) -> None:
        units = [*self.units.values(), self._well_known, self.absent]
        left = Countdown(len(units), over)
        for unit in units:
            unit.abort(unit.tasks.select(wanted), outcome, Status.GOOD, left.one)

    # --- nexuses

    def nexus_gained(self, nexus: Nexus, code: Asc = Asc.POWER_ON_OR_RESET) -> None:
        """An initiator port has come; each unit has `code` to tell it."""
        self.nexuses[nexus] = None
        self.ports[nexus.port.relative] = nexus.port
        for unit in self.units.values():
            unit.attentions.establish((nexus,), code)

    def nexus_lost(self, nexus: Nexus, over: Callable[[], None] | None = None) -> None:
        """An initiator port is gone, its tasks are ended, then `over` is called (SAM-5 §6.3.4)."""
        self.nexuses.pop(nexus, None)
        self._lose(nexus, over or _nothing)
        for unit in self.units.values():
            unit.attentions.forget(nexus)

    def _lose(self, nexus: Nexus, over: Callable[[], None]) -> None:
        """What it has begun, and what it holds, ends."""
        self._abort_everywhere(lambda task: task.nexus is nexus, Outcome.RESET, over)
        for unit in self.units.values():
            unit.nexus_lost(nexus)

    # --- task management, SAM-5 §7

    def manage(
        self,
        nexus: Nexus,
        function: Function,
        lun: int | None,
        tag: int,
        done: Callable[[Response], None],
    ) -> None:
        """Do `function`; `done(response)` is called when it is complete, perhaps before this returns.

        `lun` and `tag` are not looked at where the function has none.
        """
        if function is Function.I_T_NEXUS_RESET:
            self._reset_nexus(nexus, lambda: done(Response.COMPLETE))
            return
        if function is Function.TARGET_RESET:
            self._reset_all(lambda: done(Response.COMPLETE))
            return
        unit = self.unit(lun)
        if unit is None:
            done(Response.INCORRECT_LUN)
            return
        self._manage_unit(unit, nexus, function, tag, done)

    def _manage_unit(
        self, unit: LogicalUnit, nexus: Nexus, function: Function, tag: int, done: Callable[[Response], None]
    ) -> None:
        def complete() -> None:
            done(Response.COMPLETE)

        mine = unit.tasks.select(lambda task: task.nexus is nexus)
        alive = [task for task in mine if not task.aborted]
        match function:
            case Function.ABORT_TASK:
                unit.abort((task for task in mine if task.tag == tag), Outcome.ABORTED, Status.GOOD, complete)
            case Function.ABORT_TASK_SET:
                unit.abort(mine, Outcome.ABORTED, Status.GOOD, complete)
            case Function.CLEAR_TASK_SET:
                unit.clear_tasks(nexus, complete)
            case Function.LOGICAL_UNIT_RESET:
                unit.reset(complete)
            case Function.QUERY_TASK:
                found = any(task.tag == tag for task in alive)
                done(Response.SUCCEEDED if found else Response.COMPLETE)
            case Function.QUERY_TASK_SET:
                done(Response.SUCCEEDED if alive else Response.COMPLETE)
            case Function.QUERY_ASYNC_EVENT:
                done(Response.SUCCEEDED if nexus in unit.attentions else Response.COMPLETE)
            case _:
                # No ACA can be established (NORMACA is 0), so there is none to clear.
                done(Response.REJECTED)

    def _reset_nexus(self, nexus: Nexus, over: Callable[[], None]) -> None:
        """As if the nexus had been lost and had come again, but that it is still told of resets before."""
        self._lose(nexus, over)
        self.nexus_gained(nexus, Asc.NEXUS_LOSS)

    def hard_reset(self, over: Callable[[], None] | None = None) -> None:
        """The carrier was reset: each logical unit is as after power on (SAM-5 §6.3.2)."""
        self._reset_all(over or _nothing, Asc.POWER_ON_OR_RESET)

    def _reset_all(self, over: Callable[[], None], code: Asc = Asc.BUS_DEVICE_RESET) -> None:
        """Reset each logical unit."""
        left = Countdown(len(self.units) + 1, over)
        for unit in list(self.units.values()):
            unit.reset(left.one, code)
        left.one()


def _nothing() -> None:
    pass
