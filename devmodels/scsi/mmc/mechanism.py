"""START STOP UNIT, PREVENT ALLOW MEDIUM REMOVAL and MECHANISM STATUS (MMC-6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.scsi.asc import Asc
from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import cdb, mmc_cdb, mmc_data
from devmodels.scsi.mmc.power import REQUESTS
from devmodels.scsi.sense import illegal, invalid_field, not_ready
from devmodels.scsi.table import Command, Data
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.scsi.mmc.drive import CdDrive

START_STOP = Layout(mmc_cdb.START_STOP_UNIT)
PREVENT_ALLOW = Layout(cdb.PREVENT_ALLOW)
MECHANISM_STATUS = Layout(mmc_cdb.MECHANISM_STATUS)
_MECHANISM = Layout(mmc_data.MECHANISM)

PREVENT, PERSISTENT = 0b01, 0b10
"""The bits of PREVENT: whether, and in which of the two ways."""
IDLE, PLAYING = 0, 1
"""MECHANISM STATE."""


def start_stop(drive: CdDrive, _task: Task, fields: Fields) -> None:
    """Open and close the tray, or go over to a power condition.

    What takes time, a medium that becomes ready, nobody waits for: that is told by NOT READY, becoming ready.
    """
    condition = fields["power_condition"]
    if condition:
        if condition not in REQUESTS:
            raise invalid_field(START_STOP, "power_condition")
        drive.player.stop()
        drive.power.set(REQUESTS[condition])
        return
    if fields["loej"]:
        if fields["start"]:
            drive.tray.move_in()
        elif not drive.tray.open:
            _check_unlocked(drive)
            drive.tray.move_out()
    elif fields["start"]:
        drive.power.touch()
        drive.check_ready()
    else:
        drive.player.stop()


def _check_unlocked(drive: CdDrive) -> None:
    """CheckCondition where somebody prevents that the tray opens."""
    if drive.tray.prevented_by:
        if drive.tray.loaded:
            raise illegal(Asc.MEDIUM_REMOVAL_PREVENTED)
        raise not_ready(Asc.MEDIUM_REMOVAL_PREVENTED)


def prevent_allow(drive: CdDrive, task: Task, fields: Fields) -> None:
    """In one of the two ways, which know nothing of each other, for this nexus."""
    prevent = fields["prevent"]
    tray = drive.tray
    holders = tray.persistent if prevent & PERSISTENT else tray.prevented_by
    if prevent & PREVENT:
        holders.add(task.nexus)
    else:
        holders.discard(task.nexus)
    drive.capabilities_changed()


def mechanism_status(drive: CdDrive, _task: Task, _fields: Fields) -> bytes:
    """A tray, and no changer."""
    state = PLAYING if drive.player.playing else IDLE
    return _MECHANISM.pack(
        mechanism_state=state,
        door_open=drive.tray.open,
        current_lba=drive.head.to_bytes(4, "big")[1:],
        number_of_slots=1,
    )


COMMANDS: tuple[Command[CdDrive], ...] = (
    Command(
        0x1B,
        "START STOP UNIT",
        START_STOP,
        start_stop,
        "MMC-6",
        refused=("format_layer", "fl"),
        ignored=("immed",),
        ready=False,
        timeout=60,
    ),
    Command(0x1E, "PREVENT ALLOW MEDIUM REMOVAL", PREVENT_ALLOW, prevent_allow, "MMC-6", ready=False),
    Command(
        0xBD,
        "MECHANISM STATUS",
        MECHANISM_STATUS,
        mechanism_status,
        "MMC-6",
        data=Data.IN,
        length="allocation_length",
        ready=False,
    ),
)
