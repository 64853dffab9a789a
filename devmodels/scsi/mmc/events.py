"""What a drive has to tell: queues of events, for hosts that ask (MMC-6 §4.1.7)."""

from __future__ import annotations

from collections import deque
from enum import IntEnum

from devmodels.scsi.nexus import Nexus

QUEUED = 8
"""So many events of a class are kept for a host; of more, the oldest are lost."""


class EventClass(IntEnum):
    """Notification classes that there are here; the first that has something to tell comes first."""

    OPERATIONAL = 1
    POWER = 2
    MEDIA = 4

    @property
    def bit(self) -> int:
        """Its bit in a request for events, and among those that are supported."""
        return 1 << self


SUPPORTED = sum(each.bit for each in EventClass)

NO_CHANGE = 0


class MediaEvent(IntEnum):
    """Events of the media class."""

    EJECT_REQUEST = 1
    NEW_MEDIA = 2
    MEDIA_REMOVAL = 3


class OperationalEvent(IntEnum):
    """Events of the operational change class."""

    CHANGED = 2


class PowerEvent(IntEnum):
    """Events of the power management class."""

    SUCCEEDED = 1


class Events:
    """Events that hosts have yet to be told, by nexus and class."""

    __slots__ = ("_queues",)

    def __init__(self) -> None:
        self._queues: dict[Nexus, dict[EventClass, deque[int]]] = {}

    def put(self, nexus: Nexus, kind: EventClass, code: int) -> None:
        """Queue an event."""
        queues = self._queues.setdefault(nexus, {})
        queues.setdefault(kind, deque(maxlen=QUEUED)).append(code)

    def take(self, nexus: Nexus, requested: int, *, keep: bool = False) -> tuple[EventClass, int] | None:
        """The next event of the classes `requested`, by their bits; without one, that of the first is no change.

        None where no class that there is was asked for.  `keep`: the event is the next one once more.
        """
        asked = [kind for kind in EventClass if kind.bit & requested]
        queues = self._queues.get(nexus, {})
        for kind in asked:
            if queues.get(kind):
                return kind, queues[kind][0] if keep else queues[kind].popleft()
        return (asked[0], NO_CHANGE) if asked else None

    def of(self, nexus: Nexus) -> list[tuple[EventClass, int]]:
        """Everything that `nexus` has yet to be told, class by class in order."""
        queues = self._queues.get(nexus, {})
        return [(kind, code) for kind, queue in queues.items() for code in queue]

    def forget(self, nexus: Nexus) -> None:
        """`nexus` is gone."""
        self._queues.pop(nexus, None)

    def clear(self) -> None:
        """As after power on."""
        self._queues.clear()
