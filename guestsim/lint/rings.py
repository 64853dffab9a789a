"""What a split ring shows that a device does not judge: what it has read, held against what it read before."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from devmodels.trace import EventKind
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
    """What is known of a queue: the descriptors read last, and those that a buffer in flight has, by their number."""

    idx: int | None = None
    table: dict[int, bytes] = field(default_factory=dict)
    held: dict[int, int] = field(default_factory=dict)
    changed: set[int] = field(default_factory=set)


class RingChecks:
    """Of every split ring: the available index only grows; descriptors of a buffer in flight stay as they are."""

    def __init__(self, memories: Memories) -> None:
        self._memories = memories
        self._queues: dict[tuple[str, int], _Queue] = {}

    def see(self, seen: Seen, say: Say) -> None:
        """Take the next event."""
        event = seen.event
        if event.kind is EventKind.DMA_READ:
            address, data = event.detail
            ring = self._memories.of_source(event.source).ring_at(int(address))
            if ring is not None and not ring.packed:
                assert isinstance(data, bytes)
                self._read(ring, int(address) - ring.start, data, say)
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
            self._queues[event.source, int(event.detail[0])] = _Queue()
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
        for number in _chain(queue.table, head):
            other = queue.held.get(number, head)
            if other != head:
                summary = f"descriptor {number} belongs to head {other}, which is with the device"
                say("VIRTIO 1.4 §3.3.1", summary, f"{place} head {head}", queue.table[number], Level.MUST)
                return
            queue.held[number] = head


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
