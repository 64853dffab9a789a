"""The limits of a read or a write, VIRTIO 1.4 §5.2.3, §5.2.6."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.blockbackend.request import Op
from devmodels.virtio.scatter import Scatter
from devmodels.virtio_blk.layout import SECTOR
from devmodels.virtio_blk.request import OPERATION, S_IOERR, BlkRequest

if TYPE_CHECKING:
    from devmodels.virtio_blk.device import VirtioBlk

LIMITS = "VIRTIO 1.4 §5.2.3"
"""Where SIZE_MAX and SEG_MAX say what a driver that has negotiated them keeps to."""

READ_ONLY = "VIRTIO 1.4 §5.2.6.2"
"""Where a write to a read-only device fails."""


def allowed(device: VirtioBlk, request: BlkRequest, op: Op, sector: int, data: Scatter, length: int) -> bool:
    """Whether IN or OUT of `data`, `length` bytes, at `sector` keeps to every limit; else it has been answered."""
    disk = device.backend.size
    clause = OPERATION
    refused = True
    if length % SECTOR:
        reason = f"{op.name} of {length} bytes, no multiple of {SECTOR}"
    elif sector * SECTOR + length > disk:
        reason = f"{op.name} of {length} bytes at sector {sector} of {disk // SECTOR}"
    elif len(data) > device.seg_max:
        reason, clause = f"{len(data)} segments, seg_max is {device.seg_max}", LIMITS
    elif device.size_max and any(size > device.size_max for _, size in data):
        reason, clause = f"a segment is longer than size_max {device.size_max}", LIMITS
    elif op is Op.WRITE and device.backend.read_only:
        reason, clause = "write to a read-only device", READ_ONLY
        refused = not device.habits.drive_refuses
    else:
        return True
    device.wrong(request, reason, clause)
    if refused:
        device.turn_away(request, S_IOERR, op)
    return not refused
