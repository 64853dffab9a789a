"""Buffers read as requests of a block device, VIRTIO 1.4 §5.2.6."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guestsim.drivers.layouts import BLK_HEADER, BLK_RANGE, SECTOR, BlkType
from guestsim.inspect.image import OutsideMemoryError
from guestsim.inspect.state import BlkRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from guestsim.inspect.image import MemoryImage
    from guestsim.inspect.state import Part, Virtqueue

_NAMES = {kind.value: kind.name for kind in BlkType}
_RANGES = {BlkType.DISCARD, BlkType.WRITE_ZEROES, BlkType.SECURE_ERASE}


def understood(
    image: MemoryImage,
    queue: Virtqueue,
    parts: Sequence[Part],
    problem: Callable[[str, str], None],
    name: str,
) -> BlkRequest | None:
    """The request in a buffer of `queue`, judged; None where it is no block device's.

    `problem` takes clause and text of what is wrong with it, which begins with `name`.
    """
    if queue.kind == "other":
        return None
    request = read_request(image, parts)
    if queue.kind == "guess" and not looks_like_blk(request):
        return None
    if request is None:
        problem("5.2.6", f"{name}: no {BLK_HEADER.size} readable bytes for the header")
    else:
        judge_request(request, problem, name)
    return request


def read_request(image: MemoryImage, parts: Sequence[Part]) -> BlkRequest | None:
    """The request in a buffer; None where its first 16 readable bytes cannot be read."""
    header = _first(image, [part for part in parts if not part.writable], BLK_HEADER.size)
    if header is None:
        return None
    fields = BLK_HEADER.unpack(header)
    readable = sum(part.length for part in parts if not part.writable) - BLK_HEADER.size
    writable = sum(part.length for part in parts if part.writable) - 1
    last = next((part for part in reversed(parts) if part.writable and part.length), None)
    status_at = last.address + last.length - 1 if last is not None else None
    return BlkRequest(
        type=fields["type"],
        type_name=_NAMES.get(fields["type"]),
        sector=fields["sector"],
        length=readable + max(writable, 0),
        segments=_segments(parts),
        status_at=status_at,
        status=None if status_at is None else _byte(image, status_at),
    )


def looks_like_blk(request: BlkRequest | None) -> bool:
    """Whether a buffer that nobody has told the kind of is a block device's."""
    return request is not None and request.type_name is not None and request.status_at is not None


def judge_request(request: BlkRequest, problem: Callable[[str, str], None], name: str) -> None:
    """What a block device's driver may not ask for; `problem` takes clause and text."""
    if request.status_at is None:
        problem("5.2.6", f"{name}: no device-writable byte for the status")
    if request.type in (BlkType.IN, BlkType.OUT) and request.length % SECTOR:
        problem("5.2.6", f"{name}: {request.length} bytes of data, expected a multiple of {SECTOR}")
    if request.type in _RANGES and (not request.length or request.length % BLK_RANGE.size):
        problem("5.2.6", f"{name}: {request.length} bytes of ranges, expected a multiple of {BLK_RANGE.size}")
    if request.type == BlkType.FLUSH and request.sector:
        problem("5.2.6.1", f"{name}: FLUSH with sector {request.sector}, expected 0")


def _first(image: MemoryImage, parts: Sequence[Part], length: int) -> bytes | None:
    found = b""
    for part in parts:
        try:
            found += image.read(part.address, min(part.length, length - len(found)))
        except OutsideMemoryError:
            return None
        if len(found) == length:
            return found
    return None


def _segments(parts: Sequence[Part]) -> int:
    """Elements with data in them: all but the header's and the status byte's own."""
    header, status = BLK_HEADER.size, 1
    count = 0
    for part in parts:
        if not part.writable and header:
            own = min(part.length, header)
            header -= own
            count += part.length > own
        else:
            count += 1
    last = parts[-1] if parts else None
    return count - 1 if last is not None and last.writable and last.length == status else count


def _byte(image: MemoryImage, address: int) -> int | None:
    try:
        return image.read(address, 1)[0]
    except OutsideMemoryError:
        return None
