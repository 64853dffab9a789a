"""Discard, write zeroes and secure erase: requests of several segments, VIRTIO 1.4 §5.2.6."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.blockbackend.request import Flags, Op
from devmodels.virtio.scatter import gather, skip
from devmodels.virtio_blk.config import VirtioBlkOptions
from devmodels.virtio_blk.layout import RANGE_FLAG_UNMAP, RANGE_SEGMENT, SECTOR, BlkFeature, BlkType
from devmodels.virtio_blk.request import (
    HEADER_SIZE,
    OPERATION,
    S_IOERR,
    S_OK,
    S_UNSUPP,
    SEGMENT_SIZE,
    BlkRequest,
    RangePart,
)

if TYPE_CHECKING:
    from devmodels.virtio_blk.device import VirtioBlk

RANGE_OPS = {
    BlkType.VIRTIO_BLK_T_DISCARD: (BlkFeature.VIRTIO_BLK_F_DISCARD, Op.DISCARD),
    BlkType.VIRTIO_BLK_T_WRITE_ZEROES: (BlkFeature.VIRTIO_BLK_F_WRITE_ZEROES, Op.WRITE_ZEROES),
    BlkType.VIRTIO_BLK_T_SECURE_ERASE: (BlkFeature.VIRTIO_BLK_F_SECURE_ERASE, Op.SECURE_ERASE),
}


def range_parts(device: VirtioBlk, request: BlkRequest, kind: BlkType) -> list[RangePart]:
    """The parts of a discard, write-zeroes or secure-erase request; none where it has been refused."""
    feature, op = RANGE_OPS[kind]
    always = device.habits.ranges_always
    if not (device.has(feature) or (always and op is not Op.SECURE_ERASE)):
        device.refuse(request, S_UNSUPP, f"{kind.name} without {feature.name}", op, clause=OPERATION)
        return []
    size = request.chain.readable_bytes - HEADER_SIZE
    limit, most = _limits(device.options, op)
    count = size // SEGMENT_SIZE
    if device.habits.one_range and size > SEGMENT_SIZE:
        reason = f"{kind.name} with {size} bytes where one segment is supported"
        device.refuse(request, S_UNSUPP, reason, op, clause=OPERATION)
        return []
    # Of more than a request may have no more are looked at: they cost what the driver likes.
    whole = min(count, most) * SEGMENT_SIZE
    data = gather(device.memory, skip(request.chain.readable, HEADER_SIZE), whole)
    segments = list(RANGE_SEGMENT.layout.iter_unpack(data))
    flags = _wrong_flags(segments, RANGE_FLAG_UNMAP if op is Op.WRITE_ZEROES else 0)
    place = _wrong_place(segments, limit, device.backend.size // SECTOR)
    if flags and not (place and device.habits.place_first):
        # Unknown flags come before anything else that may be wrong (VIRTIO 1.4 §5.2.6.2).
        reason = f"{kind.name}: segment flags {flags:#x}"
        device.refuse(request, S_UNSUPP, reason, op, clause=OPERATION, data=data)
        return []
    if not size or size % SEGMENT_SIZE:
        reason = f"{kind.name} with {size} bytes of segments"
        device.refuse(request, S_IOERR, reason, op, clause=OPERATION)
        return []
    if count > most:
        reason = f"{kind.name} with {count} segments of {most}"
        device.refuse(request, S_IOERR, reason, op, clause=OPERATION)
        return []
    if place:
        device.refuse(request, S_IOERR, f"{kind.name}: {place}", op, clause=OPERATION, data=data)
        return []
    if always and op is Op.DISCARD and device.backend.read_only and _ignored(device):
        device.finish(request, S_OK)
        return []
    request.op = op
    request.error = 0
    request.parts = len(segments)
    return [_part(device, request, op, each) for each in segments]


def _ignored(device: VirtioBlk) -> bool:
    """Whether the drive does nothing for a discard, be it read-only or not."""
    return device.backend.node.options.discard == "ignore"


def _wrong_flags(segments: list[tuple[int, int, int]], allowed: int) -> int:
    """The first flags of which some may not be, or none."""
    return next((flags for _, _, flags in segments if flags & ~allowed), 0)


def _wrong_place(segments: list[tuple[int, int, int]], limit: int, capacity: int) -> str:
    """The first segment of more than `limit` sectors, or beyond the disk's `capacity`, or nothing."""
    for sector, sectors, _ in segments:
        if sectors > limit:
            return f"segment of {sectors} sectors, the limit is {limit}"
        if sector + sectors > capacity:
            return f"segment of {sectors} sectors at {sector} of {capacity}"
    return ""


def _part(device: VirtioBlk, whole: BlkRequest, op: Op, segment: tuple[int, int, int]) -> RangePart:
    sector, count, flags = segment
    wanted = Flags.MAY_UNMAP if flags & RANGE_FLAG_UNMAP else Flags.NONE
    part = RangePart(op, sector * SECTOR, count * SECTOR, (), wanted, device.part_done)
    part.whole = whole
    return part


def _limits(options: VirtioBlkOptions, op: Op) -> tuple[int, int]:
    """Most sectors of a segment and most segments of a request."""
    if op is Op.DISCARD:
        return options.max_discard_sectors, options.max_discard_seg
    if op is Op.WRITE_ZEROES:
        return options.max_write_zeroes_sectors, options.max_write_zeroes_seg
    return options.max_secure_erase_sectors, options.max_secure_erase_seg
