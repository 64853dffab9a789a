"""START STOP UNIT and PREVENT ALLOW MEDIUM REMOVAL: a medium that can be taken out (SBC-4 §4.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.blockbackend import Op
from devmodels.scsi.asc import Asc
from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import block_cdb, cdb
from devmodels.scsi.nexus import Nexus
from devmodels.scsi.sense import illegal, invalid_field
from devmodels.scsi.table import Access, Command
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.scsi.disk.disk import Disk

START_STOP = Layout(block_cdb.START_STOP_UNIT)
PREVENT_ALLOW = Layout(cdb.PREVENT_ALLOW)

ALLOW, PREVENT = 0, 1


class Medium:
    """Whether there is one (`loaded`), whether it stands still (`stopped`), and who prevents that it is taken out
    (`prevented_by`)."""

    __slots__ = ("loaded", "prevented_by", "stopped")

    def __init__(self) -> None:
        self.loaded = True
        self.stopped = False
        self.prevented_by: set[Nexus] = set()


async def start_stop(disk: Disk, task: Task, fields: Fields) -> None:
    """Start and stop; eject and load where the medium is removable.  Power conditions change nothing.

    While removal is prevented the mechanism stands still: nothing is loaded either, as conformance suites expect.  So
    do they that a removable medium is ready though it has been stopped, as long as it is in place.
    """
    start, loej = fields["start"], fields["loej"]
    condition = fields["power_condition"]
    access = Access.FREE if start and not condition else Access.WRITE
    disk.check_reservation(task.nexus, access)
    if condition:
        return
    if loej and not disk.options.removable:
        raise invalid_field(START_STOP, "loej")
    if loej and disk.medium.prevented_by:
        raise illegal(Asc.MEDIUM_REMOVAL_PREVENTED)
    if not start and not fields["no_flush"] and disk.medium.loaded and not disk.write_protected:
        await disk.perform(task, Op.FLUSH)
    if loej and start:
        disk.load(by=task.nexus)
    elif loej:
        disk.eject(by=task.nexus)
    elif start or not disk.options.removable:
        disk.medium.stopped = not start
        disk.guard()


def prevent_allow(disk: Disk, task: Task, fields: Fields) -> None:
    """For this nexus; the medium can be taken out when no nexus prevents it."""
    prevent = fields["prevent"]
    if prevent > PREVENT:
        raise invalid_field(PREVENT_ALLOW, "prevent")
    disk.check_reservation(task.nexus, Access.WRITE if prevent else Access.ALWAYS)
    if prevent:
        disk.medium.prevented_by.add(task.nexus)
    else:
        disk.medium.prevented_by.discard(task.nexus)


START_STOP_COMMAND: Command[Disk] = Command(
    0x1B,
    "START STOP UNIT",
    START_STOP,
    start_stop,
    "SBC-4",
    ignored=("immed", "power_condition_modifier"),
    access=Access.OWN,
    ready=False,
    timeout=60,
)
PREVENT_ALLOW_COMMAND: Command[Disk] = Command(
    0x1E,
    "PREVENT ALLOW MEDIUM REMOVAL",
    PREVENT_ALLOW,
    prevent_allow,
    "SBC-4",
    access=Access.OWN,
    ready=False,
)
COMMANDS = (START_STOP_COMMAND, PREVENT_ALLOW_COMMAND)
