"""Unit attention conditions: what each nexus has yet to be told (SAM-5 §5.14)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from devmodels.scsi.asc import Asc
from devmodels.scsi.nexus import Nexus
from devmodels.scsi.sense import Sense, attention

_PRECEDENCE: dict[int, int] = {
    code: level
    for level, code in enumerate(
        (Asc.NEXUS_LOSS, Asc.BUS_DEVICE_RESET, Asc.BUS_RESET, Asc.POWER_ON, Asc.POWER_ON_OR_RESET), 1
    )
}
"""Conditions that include others, from the least one to that which includes all (SAM-5 §5.14)."""


class Attentions:
    """The conditions of one logical unit, by nexus, in the order in which they arose.

    `pending` holds the nexuses that have yet to be told something.  One that is there already is not queued again.  A
    reset, or a nexus loss, takes the place of all before it, but for a greater one, which tells of it, too.
    """

    __slots__ = ("pending",)

    def __init__(self) -> None:
        self.pending: dict[Nexus, deque[Sense]] = {}

    def __contains__(self, nexus: Nexus) -> bool:
        return nexus in self.pending

    def __bool__(self) -> bool:
        return bool(self.pending)

    def establish(self, nexuses: Iterable[Nexus], code: Asc) -> None:
        """Queue a condition for each of `nexuses`."""
        condition = attention(code)
        level = _PRECEDENCE.get(code, 0)
        for nexus in nexuses:
            if level:
                queue = self.pending.pop(nexus, ())
                greater = (each for each in queue if _PRECEDENCE.get(each.code, 0) > level)
                self.queue(nexus, next(greater, condition))
            else:
                self.queue(nexus, condition)

    def queue(self, nexus: Nexus, condition: Sense) -> None:
        """What else `nexus` has to be told, in its turn: a deferred error (SPC-4 §4.5.5)."""
        queue = self.pending.setdefault(nexus, deque())
        if condition not in queue:
            queue.append(condition)

    def of(self, nexus: Nexus) -> tuple[Sense, ...]:
        """All of `nexus`, the oldest first."""
        return tuple(self.pending.get(nexus, ()))

    def first(self, nexus: Nexus) -> Sense | None:
        """The oldest condition of `nexus`, which stays."""
        queue = self.pending.get(nexus)
        return None if queue is None else queue[0]

    def take(self, nexus: Nexus) -> Sense | None:
        """The oldest condition of `nexus`, which is told it now."""
        queue = self.pending.get(nexus)
        if queue is None:
            return None
        condition = queue.popleft()
        if not queue:
            del self.pending[nexus]
        return condition

    def clear(self, nexus: Nexus, code: Asc) -> None:
        """`nexus` has learned of `code` in another way."""
        queue = self.pending.get(nexus)
        if queue is None:
            return
        condition = attention(code)
        if condition in queue:
            queue.remove(condition)
        if not queue:
            del self.pending[nexus]

    def forget(self, nexus: Nexus) -> None:
        """`nexus` is gone."""
        self.pending.pop(nexus, None)
