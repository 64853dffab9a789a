"""What a split ring shows that a device does not judge: what it has read, held against what it read before."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from devmodels.trace import EventKind
from devmodels.virtio.constants import IN_ORDER
from devmodels.virtio.layout import DESC_SIZE, VIRTQ_DESC_F_INDIRECT, VIRTQ_DESC_F_NEXT
from guestsim.lint.sessions import Level, Say
from guestsim.show.decode import LAYOUTS

if TYPE_CHECKING:
    from guestsim.show.places import Memories, Ring
    from guestsim.show.words import Seen

_unpack_desc = LAYOUTS["virtq_desc"].codec.layout.unpack_from
_IDX_OFFSET = 2


@dataclass(slots=True)
class _Queue:
    """What is known of a queue: the descriptors read last, and those that a buffer in flight has, by their number.

    `ordered`: the driver has accepted IN_ORDER, and has kept to it.
    """

    size: int = 0
    ordered: bool = False
    idx: int | None = None
    table: dict[int, bytes] = field(default_factory=dict)
    held: dict[int, int] = field(default_factory=dict)
    changed: set[int] = field(default_factory=set)


class RingChecks:
    """Of every split ring: the available index only grows; descriptors of a buffer in flight stay as they are."""

    def __init__(self, memories: Memories) -> None:
        self._memories = memories
        self._queues: dict[tuple[str, int], _Queue] = {}
        self._in_order: set[str] = set()
        self._tables: dict[tuple[str, int], tuple[_Queue, str]] = {}
        """Indirect tables that are about to be read, by memory and address."""

    def see(self, seen: Seen, say: Say) -> None:
        """Take the next event."""
        event = seen.event
        if event.kind is EventKind.DMA_READ:
            address, data = event.detail
            assert isinstance(data, bytes)
            ring = self._memories.of_source(event.source).ring_at(int(address))
            if ring is None:
                self._table(event.source, int(address), data, say)
            elif not ring.packed:
                self._read(ring, int(address) - ring.start, data, say)
                self._find_table(ring, event.source, data)
        elif event.kind is EventKind.FEATURES:
            change = self._in_order.add if int(event.detail[0]) & IN_ORDER else self._in_order.discard
            change(event.source)
        elif event.kind is EventKind.CHAIN:
            queue = self._queues.get((event.source, int(event.detail[0])))
            if queue is not None:
                self._taken(queue, f"{event.source} queue {seen.queue}", int(event.detail[1]), say)
        elif event.kind is EventKind.USED:
            queue = self._queues.get((event.source, int(event.detail[0])))
            if queue is not None:
                head = int(event.detail[1])
                queue.held = {number: held for number, held in queue.held.items() if held != head}
                queue.changed.discard(head)
        elif event.kind is EventKind.QUEUE:
            size = int(event.detail[1])
            self._queues[event.source, int(event.detail[0])] = _Queue(size, event.source in self._in_order)
        elif event.kind is EventKind.RESET:
            for key in [
                key for key in self._queues if key[0] == event.source and seen.queue in (None, key[1])
            ]:
                del self._queues[key]

    def _read(self, ring: Ring, offset: int, data: bytes, say: Say) -> None:
        queue = self._queues.get((ring.device, ring.queue))
        if queue is None:
            return
        place = f"{ring.device} queue {ring.queue}"
        if ring.part == "avail" and offset <= _IDX_OFFSET < offset + len(data) - 1:
            self._index(queue, place, data[_IDX_OFFSET - offset : _IDX_OFFSET - offset + 2], say)
        elif ring.part == "desc" and not offset % DESC_SIZE:
            for at in range(0, len(data) - DESC_SIZE + 1, DESC_SIZE):
                number = (offset + at) // DESC_SIZE
                self._descriptor(queue, place, number, data[at : at + DESC_SIZE], say)

    def _find_table(self, ring: Ring, memory: str, data: bytes) -> None:
        """With IN_ORDER the entries of tables have their order, too."""
        queue = self._queues.get((ring.device, ring.queue))
        if queue is None or not queue.ordered or ring.part != "desc" or len(data) % DESC_SIZE:
            return
        for at in range(0, len(data), DESC_SIZE):
            address, _, flags, _ = _unpack_desc(data, at)
            if int(flags) & VIRTQ_DESC_F_INDIRECT:
                self._tables[memory, int(address)] = queue, f"{ring.device} queue {ring.queue}"

    def _table(self, memory: str, address: int, data: bytes, say: Say) -> None:
        queue, place = self._tables.pop((memory, address), (None, ""))
        if queue is None or not queue.ordered:
            return
        for number in range(len(data) // DESC_SIZE):
            _, _, flags, following = _unpack_desc(data, DESC_SIZE * number)
            if not int(flags) & VIRTQ_DESC_F_NEXT:
                return
            if following != number + 1:
                queue.ordered = False
                summary = f"entry {number} of a table goes on at {following} with VIRTIO_F_IN_ORDER"
                entry = data[DESC_SIZE * number : DESC_SIZE * (number + 1)]
                say("VIRTIO 1.4 §2.7.5.3.1", summary, place, entry, Level.MUST)
                return

    def _index(self, queue: _Queue, place: str, data: bytes, say: Say) -> None:
        idx = int.from_bytes(data, "little")
        before = queue.idx
        queue.idx = idx
        if before is not None and idx != before and (before - idx) & 0xFFFF < 0x8000:
            say("VIRTIO 1.4 §2.7.6.1", f"available idx {idx} after {before}", place, data, Level.MUST)

    def _descriptor(self, queue: _Queue, place: str, number: int, data: bytes, say: Say) -> None:
        head = queue.held.get(number)
        if head is not None and queue.table[number] != data and head not in queue.changed:
            queue.changed.add(head)
            summary = f"descriptor {number} was changed while its buffer was with the device"
            say("VIRTIO 1.4 §3.3.1", summary, f"{place} head {head}", data, Level.MUST)
        else:
            queue.table[number] = data

    def _taken(self, queue: _Queue, place: str, head: int, say: Say) -> None:
        """The descriptors of a buffer are its own until it is given back."""
        chain = _chain(queue.table, head)
        if queue.ordered:
            _judge_order(queue, place, chain, say)
        for number in chain:
            other = queue.held.get(number, head)
            if other != head:
                summary = f"descriptor {number} belongs to head {other}, which is with the device"
                say("VIRTIO 1.4 §3.3.1", summary, f"{place} head {head}", queue.table[number], Level.MUST)
                return
            queue.held[number] = head


def _judge_order(queue: _Queue, place: str, chain: list[int], say: Say) -> None:
    for number, following in pairwise(chain):
        if following != (number + 1) % queue.size:
            queue.ordered = False
            summary = f"descriptor {number} goes on at {following} with VIRTIO_F_IN_ORDER"
            say("VIRTIO 1.4 §2.7.5.2", summary, place, queue.table[number], Level.MUST)
            return


def _chain(table: dict[int, bytes], head: int) -> list[int]:
    """The descriptors of a chain, as far as they were read."""
    numbers: list[int] = []
    number = head
    while number in table and number not in numbers:
        numbers.append(number)
        _, _, flags, following = _unpack_desc(table[number], 0)
        if int(flags) & VIRTQ_DESC_F_INDIRECT or not int(flags) & VIRTQ_DESC_F_NEXT:
            break
        number = int(following)
    return numbers
