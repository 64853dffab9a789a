"""What a drive has to tell: GET EVENT STATUS NOTIFICATION, which hosts poll, and the queues of events behind it
(MMC-6 §4.1.7, GET EVENT STATUS NOTIFICATION)."""

from __future__ import annotations

from collections import deque
from enum import IntEnum
from typing import TYPE_CHECKING

from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import mmc_cdb, mmc_data
from devmodels.scsi.nexus import Nexus
from devmodels.scsi.sense import invalid_field
from devmodels.scsi.table import Access, Command, Data
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.scsi.mmc.drive import CdDrive

CDB = Layout(mmc_cdb.GET_EVENT_STATUS)
_HEADER = Layout(mmc_data.EVENT_HEADER)
_OPERATIONAL = Layout(mmc_data.OPERATIONAL_EVENT)
_POWER = Layout(mmc_data.POWER_EVENT)
_MEDIA = Layout(mmc_data.MEDIA_EVENT)

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


FEATURE_CHANGE = 1
"""What has changed operationally: which features are current."""


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


def get_event_status(drive: CdDrive, task: Task, fields: Fields) -> bytes:
    """One event, of the class that comes first.  It stays where the host has no room for more than the header."""
    if not fields["polled"]:
        # There is no asynchronous form of it.
        raise invalid_field(CDB, "polled")
    drive.power.look()
    keep = fields["allocation_length"] <= _HEADER.size
    found = drive.events.take(task.nexus, fields["requested_classes"], keep=keep)
    if found is None:
        return _HEADER.pack(length=_HEADER.size - 2, nea=1, supported_classes=SUPPORTED)
    kind, code = found
    event = _event(drive, kind, code)
    return (
        _HEADER.pack(
            length=_HEADER.size - 2 + len(event), notification_class=kind, supported_classes=SUPPORTED
        )
        + event
    )


def _event(drive: CdDrive, kind: EventClass, code: int) -> bytes:
    """An event, with how things are now."""
    if kind is EventClass.OPERATIONAL:
        change = FEATURE_CHANGE if code else 0
        prevented = drive.tray.persistently_prevented
        return _OPERATIONAL.pack(event_code=code, persistent_prevented=prevented, change=change)
    if kind is EventClass.POWER:
        return _POWER.pack(event_code=code, power_status=drive.power.condition)
    tray = drive.tray
    return _MEDIA.pack(event_code=code, media_present=tray.loaded, tray_open=tray.open)


COMMAND: Command[CdDrive] = Command(
    0x4A,
    "GET EVENT STATUS NOTIFICATION",
    CDB,
    get_event_status,
    "MMC-6",
    data=Data.IN,
    length="allocation_length",
    attention=False,
    access=Access.ALWAYS,
    ready=False,
)
