"""READs of the usual shape, answered as they come: no task, no map, one look at the disk for all of them.

A command of the usual shape has its header in one piece, its response in another one, and then pieces of room for its
data.  Whatever else there is, or is wrong, is left to the device, which judges everything anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from devmodels.blockbackend.request import Read
from devmodels.memory import NOWHERE, Window
from devmodels.scsi import LogicalUnit
from devmodels.virtio.queue import VirtQueue
from devmodels.virtio.ring import Chain

if TYPE_CHECKING:
    from devmodels.virtio_scsi.device import VirtioScsi

SHORTEST_CDB = 16

Answer = tuple[memoryview, int]
"""Where a response is to be written: memory, and the place in it."""


def read_now(device: VirtioScsi, queue: VirtQueue, chains: Sequence[Chain]) -> int:
    """How many of the first `chains` have been answered: READs of one unit whose data was at hand."""
    if device.framing.cdb_size < SHORTEST_CDB or not queue.open:
        return 0
    unit, reads, answers = _judge(device, chains)
    done = unit.read_now(reads) if unit is not None and reads else 0
    if done:
        good = device.framing.good
        size = len(good)
        for ram, at in answers[:done]:
            ram[at : at + size] = good
        queue.finish([(chain, chain.writable_bytes) for chain in chains[:done]])
    return done


def _judge(
    device: VirtioScsi, chains: Sequence[Chain]
) -> tuple[LogicalUnit | None, list[Read], list[Answer]]:
    """The first of `chains` that are such READs: of which unit, what they read, where their responses go."""
    framing, known, window = device.framing, device.bus.known, device.memory.window
    header_size, response_size, unpack = (
        framing.header_size,
        framing.response_size,
        framing.header.unpack_from,
    )
    base, end, ram = room = NOWHERE
    first: LogicalUnit | None = None
    reads: list[Read] = []
    answers: list[Answer] = []
    for chain in chains:
        writable = chain.writable
        if len(writable) < 2 or len(chain.readable) != 1:
            break
        ((header, length),) = chain.readable
        response, room_of_response = writable[0]
        if length != header_size or room_of_response != response_size:
            break
        if not base <= header < end:
            base, end, ram = window(header)
        if header + header_size > end or not base <= response <= end - response_size:
            break
        lun, _, attribute, _, _, cdb = unpack(ram, header - base)
        place = known.get(lun)
        if place is None or attribute:
            break
        unit = place.unit
        where = unit.reads_at_once(cdb)
        if where is None or chain.writable_bytes != response_size + where[1] or unit is not (first or unit):
            break
        views, room = _views(window, room, writable)
        if views is None:
            break
        first = unit
        reads.append((where[0], views, where[1]))
        answers.append((ram, response - base))
    return first, reads, answers


def _views(
    window: Callable[[int], Window], room: Window, writable: Sequence[tuple[int, int]]
) -> tuple[list[memoryview] | None, Window]:
    """The guest's own bytes for the data behind a response, None where they are not all to be had; where they are."""
    base, end, ram = room
    views = []
    for address, size in writable[1:]:
        if not base <= address < end:
            base, end, ram = room = window(address)
        if address + size > end:
            return None, room
        address -= base
        views.append(ram[address : address + size])
    return views, room
