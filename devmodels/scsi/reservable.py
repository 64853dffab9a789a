"""A logical unit that can be reserved, with what it keeps over a loss of power."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from devmodels.conformance import ViolationLog
from devmodels.iocontext import Future, IoContext
from devmodels.scsi.asc import Asc
from devmodels.scsi.nexus import Nexus, Registrant
from devmodels.scsi.reservations import Reservations
from devmodels.scsi.sense import Conflict
from devmodels.scsi.task import Task
from devmodels.scsi.unit import LogicalUnit

if TYPE_CHECKING:
    from devmodels.scsi.statefile import StateFile


class ReservableUnit(LogicalUnit):
    """`reservations`: what is reserved.  `state`: the file that keeps it; None where nothing is kept."""

    def __init__(
        self,
        context: IoContext,
        *,
        name: str = "",
        violations: ViolationLog | None = None,
        queue_depth: int = 256,
        state: StateFile | None = None,
    ) -> None:
        super().__init__(context, name=name, violations=violations, queue_depth=queue_depth)
        self.state = state
        self.reservations = Reservations()
        if state is not None:
            with state.read() as saved:
                self.reservations.restore(saved.reservations)

    def reservations_changed(self) -> None:
        """Something is reserved, or no longer."""

    def check_not_reserved(self) -> None:
        """Conflict where RESERVE holds the unit, for whomever: that excludes persistent reservations (SPC-2 §5.5.1)."""
        if self.reservations.reserved_by is not None:
            raise Conflict

    async def save_reservations(self, kept_before: bool) -> None:
        """Keep what is to be kept; `kept_before` says whether there was anything in the file."""
        if self.state is not None and (self.reservations.aptpl or kept_before):
            await self.state.keep(reservations=self.reservations.save())

    def tell_registrants(self, registrants: Iterable[Registrant], code: Asc, *, but: Nexus) -> None:
        """A unit attention condition for those of `registrants` that are connected, `but` for one."""
        told = self.reservations.nexuses_of(self.nexuses(but=but), registrants)
        self.establish_at(told, code)

    async def abort_tasks_of(self, nexuses: Iterable[Nexus], *, but: Task) -> None:
        """End the tasks of `nexuses` (`but` for one) and return when they have ended (SPC-4 §5.12.11.5)."""
        wanted = set(nexuses)
        tasks = self.tasks.select(lambda task: task.nexus in wanted and task is not but)
        over: Future[None] = Future(self.context)
        self.abort_others(tasks, lambda: over.set_result(None))
        await over

    def nexus_lost(self, nexus: Nexus) -> None:
        """RESERVE (6) and (10) end with the nexus; registrations stay."""
        super().nexus_lost(nexus)
        if self.reservations.reserved_by is nexus:
            self.reservations.reserved_by = None
            self.reservations_changed()

    def was_reset(self) -> None:
        """So they do with a reset."""
        super().was_reset()
        if self.reservations.reserved_by is not None:
            self.reservations.reserved_by = None
            self.reservations_changed()
