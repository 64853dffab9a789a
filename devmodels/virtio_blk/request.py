"""A virtio-blk request in flight, and the parts of a driver's buffer that it is made of: VIRTIO 1.4 §5.2.6."""

from __future__ import annotations

from collections.abc import Sequence

from devmodels.blockbackend.request import Origin, Request
from devmodels.dma import DmaMap
from devmodels.virtio.queue import VirtQueue
from devmodels.virtio.ring import Chain
from devmodels.virtio_blk.layout import BlkStatus, BlkType

OPERATION = "VIRTIO 1.4 §5.2.6.1"
HEADER_SIZE = SEGMENT_SIZE = 16

S_OK = int(BlkStatus.VIRTIO_BLK_S_OK)
S_IOERR = int(BlkStatus.VIRTIO_BLK_S_IOERR)
S_UNSUPP = int(BlkStatus.VIRTIO_BLK_S_UNSUPP)
T_IN = int(BlkType.VIRTIO_BLK_T_IN)
T_OUT = int(BlkType.VIRTIO_BLK_T_OUT)

T_FLUSH_OUT = 5
"""The legacy interface's other name for FLUSH, VIRTIO 1.4 §5.2.6.3."""

T_SCSI_CMD = 2
"""A SCSI command, of which VIRTIO 1.4 knows no more; its other name is 3."""

_TYPES_OF_QEMU = {
    int(kind) & ~1: int(kind)
    for kind in (T_SCSI_CMD, BlkType.VIRTIO_BLK_T_FLUSH, BlkType.VIRTIO_BLK_T_GET_ID)
}
_BARRIER = 1 << 31


def type_as_qemu(kind: int) -> int:
    """What QEMU's device takes a type for: bit 31 is nothing to it, nor bit 0 but of IN, OUT and ranges."""
    kind &= ~_BARRIER
    return _TYPES_OF_QEMU.get(kind & ~1, kind)


class BlkRequest(Request):
    """A virtio-blk request in flight: the block request, its buffer, its payload's map and its status byte's address.

    `header` is what was read of the driver's; None before.  `parts` counts the segments of a discard or write-zeroes
    request that are still running.
    """

    __slots__ = ("chain", "dma", "header", "parts", "queue", "status_address")

    chain: Chain
    dma: DmaMap | None
    header: tuple[int, ...] | None
    parts: int
    queue: VirtQueue
    status_address: int

    @property
    def origin(self) -> Origin:
        """This device, its queue, and the head of the buffer."""
        return Origin(self.queue.owner.name, self.queue.index, self.chain.head)


class RangePart(Request):
    """One segment of the discard, write-zeroes or secure-erase request `whole`."""

    __slots__ = ("whole",)

    whole: BlkRequest

    @property
    def origin(self) -> Origin:
        """That of the whole."""
        return self.whole.origin


def queue_of(request: Request) -> VirtQueue | None:
    """The queue from which a request came; None where it is not its device's (a monitor's, say)."""
    if isinstance(request, RangePart):
        request = request.whole
    return request.queue if isinstance(request, BlkRequest) else None


def split_tail(vectors: Sequence[tuple[int, int]]) -> tuple[list[tuple[int, int]], int]:
    """The scatter list without its last byte, and that byte's address; the list holds at least one byte."""
    data = list(vectors)
    while True:
        address, length = data.pop()
        if length:
            break
    if length > 1:
        data.append((address, length - 1))
    return data, address + length - 1
