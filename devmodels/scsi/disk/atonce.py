"""READ (10) and (16) of the plainest kind, without a task: nothing stands in their way.

They do what `transfer.read` does, as long as their data is at hand.  Whatever is out of the ordinary has no place here,
and takes the way of all commands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.scsi.layout import block_cdb as cdb

if TYPE_CHECKING:
    from devmodels.scsi.disk.disk import Disk

_TEN, _SIXTEEN = 0x28, 0x88
RARC, DPO = 0x04, 0x10
"""Flags that change nothing."""


def place(disk: Disk, command: bytes) -> tuple[int, int] | None:
    """Where `command`, a SIMPLE one of 16 bytes or more, reads and how much, in bytes; None where it must be a task."""
    if disk.guarded or disk.attentions.pending or not disk.tasks.open:
        return None
    opcode = command[0]
    if opcode == _TEN:
        _, flags, lba, group, blocks, control = cdb.READ_10.layout.unpack_from(command)
    elif opcode == _SIXTEEN:
        _, flags, lba, blocks, group, control = cdb.READ_16.layout.unpack_from(command)
    else:
        return None
    if flags & ~disk.plain_flags or group or control or not 0 < blocks <= disk.max_blocks:
        return None
    size = disk.block_size
    offset, length = lba * size, blocks * size
    return (offset, length) if offset + length <= disk.backend.size // size * size else None
