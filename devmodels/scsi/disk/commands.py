"""The table of a disk's commands."""

from __future__ import annotations

from typing import Any

from devmodels.scsi import (
    basic,
    buffers,
    diagnostic,
    inventory,
    logs,
    modecommands,
    opcodes,
    persistent_in,
    persistent_out,
    priority,
    reserve,
)
from devmodels.scsi.disk import (
    atomic,
    cache,
    capacity,
    copy,
    copyresults,
    defects,
    handedon,
    medium,
    same,
    transfer,
    unmap,
    verify,
    whole,
)
from devmodels.scsi.disk.options import DiskOptions
from devmodels.scsi.table import Command

COMMANDS: tuple[Command[Any], ...] = (
    *basic.COMMANDS,
    inventory.COMMAND,
    *modecommands.COMMANDS,
    logs.COMMAND,
    *opcodes.COMMANDS,
    *priority.COMMANDS,
    *buffers.COMMANDS,
    diagnostic.COMMAND,
    *reserve.COMMANDS,
    *persistent_in.COMMANDS,
    *persistent_out.COMMANDS,
    *capacity.COMMANDS,
    *transfer.COMMANDS,
    *verify.COMMANDS,
    *cache.COMMANDS,
    *same.COMMANDS,
    *unmap.COMMANDS,
    *atomic.COMMANDS,
    *medium.COMMANDS,
    *whole.COMMANDS,
    *defects.COMMANDS,
    copy.COMMAND,
    *copyresults.COMMANDS,
)


def of(options: DiskOptions) -> tuple[Command[Any], ...]:
    """Those of a disk with these options: without thin provisioning no UNMAP; reservations of its own, or others'."""
    found = (command for command in COMMANDS if options.thin or command is not unmap.UNMAP_COMMAND)
    return tuple(map(handedon.instead_of, found) if options.reservations == "passthrough" else found)
