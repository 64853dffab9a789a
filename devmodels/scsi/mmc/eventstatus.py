"""GET EVENT STATUS NOTIFICATION, with which hosts poll for events (MMC-6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import mmc_cdb, mmc_data
from devmodels.scsi.mmc.events import SUPPORTED, EventClass
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

FEATURE_CHANGE = 1
"""What has changed operationally: which features are current."""


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
