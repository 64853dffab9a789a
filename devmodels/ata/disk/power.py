"""Power management (ACS-3 §4.15): modes that a disk without a motor only tells of."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from devmodels.ata.command import AtaCommand, AtaError
from devmodels.ata.constants import Error
from devmodels.ata.table import Command, Handler, Protocol

if TYPE_CHECKING:
    from devmodels.ata.disk.disk import AtaDisk

STANDBY, IDLE, ACTIVE = 0x00, 0x80, 0xFF
"""What CHECK POWER MODE returns in count (ACS-3 §7.3)."""
SLEEP = -1
UNLOAD, UNLOAD_LBA = 0x44, 0x55_4E4C
UNLOADED = 0xC4
TIMED = (0xE2, 0xE3)
"""IDLE IMMEDIATE with unload: features, LBA, and what LBA 7:0 is then (ACS-3 §7.15)."""


SECOND, MINUTE, HOUR = 1_000_000_000, 60_000_000_000, 3_600_000_000_000


def standby_timer(count: int) -> int:
    """What the count of IDLE and STANDBY stands for, in nanoseconds; 0: never (ACS-3 §7.14)."""
    if count <= 240:
        return count * 5 * SECOND
    if count <= 251:
        return (count - 240) * 30 * MINUTE
    return {252: 21 * MINUTE, 255: 21 * MINUTE + 15 * SECOND}.get(count, 8 * HOUR)


def check(disk: AtaDisk, command: AtaCommand) -> None:
    """CHECK POWER MODE; the standby timer is looked at here, where alone it shows."""
    if disk.standby_ns and disk.turns.now_ns() - disk.active_ns >= disk.standby_ns:
        disk.power_mode = STANDBY
    command.taskfile.count = command.taskfile.count & ~0xFF | disk.power_mode & 0xFF


async def enter(disk: AtaDisk, command: AtaCommand, *, mode: int) -> None:
    """STANDBY, IDLE, SLEEP; what is cached is made stable before the disk spins down."""
    taskfile = command.taskfile
    if mode in (STANDBY, SLEEP):
        await disk.flush(command)
    if mode == IDLE and taskfile.command == 0xE1 and taskfile.features & 0xFF == UNLOAD:
        if taskfile.lba & 0xFF_FFFF != UNLOAD_LBA:
            raise AtaError(Error.ABRT)
        taskfile.lba = taskfile.lba & ~0xFF | UNLOADED
    if taskfile.command in TIMED:
        disk.standby_ns = standby_timer(taskfile.count & 0xFF)
        disk.active_ns = disk.turns.now_ns() if disk.standby_ns else 0
    disk.power_mode = mode


def _power(opcode: int, name: str, handler: Handler[AtaDisk], clause: str) -> Command[AtaDisk]:
    return Command(opcode, name, Protocol.NON_DATA, handler, clause)


COMMANDS: tuple[Command[AtaDisk], ...] = (
    _power(0xE0, "STANDBY IMMEDIATE", partial(enter, mode=STANDBY), "ACS-3 §7.50"),
    _power(0xE1, "IDLE IMMEDIATE", partial(enter, mode=IDLE), "ACS-3 §7.15"),
    _power(0xE2, "STANDBY", partial(enter, mode=STANDBY), "ACS-3 §7.49"),
    _power(0xE3, "IDLE", partial(enter, mode=IDLE), "ACS-3 §7.14"),
    _power(0xE5, "CHECK POWER MODE", check, "ACS-3 §7.3"),
    _power(0xE6, "SLEEP", partial(enter, mode=SLEEP), "ACS-3 §7.47"),
)
