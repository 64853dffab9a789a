"""Reads of the usual shape, answered as they come: no request, no map, one look at the disk for all of them.

A read of the usual shape has its header, its data and its status byte in one piece each.  Whatever else there is, or
is wrong, is left to the device, which judges everything anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from devmodels.blockbackend.request import Read
from devmodels.memory import NOWHERE
from devmodels.virtio.queue import VirtQueue
from devmodels.virtio.ring import Chain
from devmodels.virtio_blk.layout import REQUEST_HEADER, SECTOR
from devmodels.virtio_blk.request import HEADER_SIZE, S_OK, T_IN

if TYPE_CHECKING:
    from devmodels.virtio_blk.device import VirtioBlk


def read_now(device: VirtioBlk, queue: VirtQueue, chains: Sequence[Chain]) -> int:
    """How many of the first `chains` have been answered: reads of the usual shape whose data was at hand."""
    if device.size_max or not queue.open:
        return 0
    window = device.memory.window
    base, end, ram = data_base, data_end, data_ram = NOWHERE
    reads: list[Read] = []
    answers: list[tuple[memoryview, int]] = []
    for chain in chains:
        if len(chain.writable) != 2 or len(chain.readable) != 1:
            break
        ((header, header_length),) = chain.readable
        (data, length), (status, status_length) = chain.writable
        if not base <= header < end:
            base, end, ram = window(header)
        if not data_base <= data < data_end:
            data_base, data_end, data_ram = window(data)
        if (
            header_length != HEADER_SIZE
            or status_length != 1
            or length % SECTOR
            or header + HEADER_SIZE > end
            or data + length > data_end
            or not base <= status < end
        ):
            break
        kind, _, sector = REQUEST_HEADER.unpack_from(ram, header - base)
        if kind != T_IN:
            break
        data -= data_base
        reads.append((sector * SECTOR, (data_ram[data : data + length],), length))
        answers.append((ram, status - base))
    if not reads:
        return 0
    done = device.backend.read_now(reads, merge=device.options.request_merging)
    if done:
        for ram, status in answers[:done]:
            ram[status] = S_OK
        queue.finish([(chain, chain.writable_bytes) for chain in chains[:done]])
    return done
