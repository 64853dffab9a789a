"""The chains that a guest has made available while a script runs, found by what it has written to its rings."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from guestsim.diff.memories import MEMORY, Memories
from guestsim.drivers.packed import PackedQueue
from guestsim.drivers.virtio_scsi import VirtioScsi
from guestsim.targets.qemu import RAM

if TYPE_CHECKING:
    from guestsim.drivers.ring import Queue
    from guestsim.drivers.virtio_driver import VirtioDriver
    from guestsim.script.world import World

_NEXT, _WRITE, _INDIRECT = 1, 2, 4
"""Flags of a descriptor (VIRTIO 1.4 §2.7.5)."""
_MOST = 1 << 10
"""Descriptors of a chain that are followed."""
_RESPONSE = 12
"""A response without sense data (VIRTIO 1.4 §5.6.6.1)."""
_EVENTS = 1
"""The queue of buffers for events (VIRTIO 1.4 §5.6.2)."""
_COMMAND = 19
"""A command's header without its CDB (VIRTIO 1.4 §5.6.6.1)."""
_HEADER = 51
"""The longest header: a SCSI command of 32 bytes (VIRTIO 1.4 §5.6.6.1)."""


@dataclass(slots=True)
class OfferedChain:
    """A chain: `head` (-1 in a packed ring), the first bytes that a device reads, and where it may write."""

    queue: Queue
    response: int
    """The size of a SCSI response; 0 where the queue is not for commands."""
    head: int
    size: int = 0
    """The size of a SCSI command's header."""
    header: bytes = b""
    readable: list[int] = field(default_factory=list)
    """How long the pieces are that a device reads."""
    writable: list[tuple[int, int]] = field(default_factory=list)
    answer: tuple[bytes, bytes] | None = None
    """What was written in the beginning, by ours and by theirs, once that was looked at."""

    def at(self, address: int) -> tuple[int, int] | None:
        """Of an address: where that is in all that may be written, and how many bytes are left of its segment."""
        before = 0
        for start, length in self.writable:
            if start <= address < start + length:
                return before + address - start, start + length - address
            before += length
        return None

    @property
    def counted(self) -> set[int]:
        """The lengths that QEMU may say of a SCSI command: all of the response, and all data in both directions.

        The data begin behind header and response, or, where ANY_LAYOUT was not accepted, behind the first piece each
        way.
        """
        writable = [length for _, length in self.writable]
        data = sum(self.readable[1:]) + sum(writable[1:])
        whole = max(sum(self.readable) - self.size, 0) + max(sum(writable) - self.response, 0)
        return {self.response + data, self.response + whole}

    def written(self, memories: Memories) -> int:
        """How much ours has written of a SCSI command, by its answer: the response, and data but for the residual."""
        room = sum(length for _, length in self.writable)
        if room <= self.response:
            return room if room >= _RESPONSE else 0
        answer, _ = self.stream(memories, 0, _RESPONSE)
        if len(answer) < _RESPONSE:
            return 0
        (residual,) = struct.unpack_from("<I", answer, 4)
        incoming = sum(self.readable) <= self.size and not answer[-1]
        return self.response + (room - self.response - residual if incoming else 0)

    def stream(self, memories: Memories, start: int, length: int) -> tuple[bytes, bytes]:
        """Bytes of what may be written, of both sides; `start` is negative from the end."""
        if not all(_inside(*segment) for segment in self.writable):
            return b"", b""
        parts = [memories.sides(*segment) for segment in self.writable]
        mine, others = (b"".join(part[side] for part in parts) for side in (0, 1))
        end = None if start < 0 else start + length
        return mine[start:end], others[start:end]


class Offered:
    """What the guest has offered since all was at rest, and the used elements that it has seen of ours since then."""

    def __init__(self, world: World, memories: Memories) -> None:
        self._world = world
        self._memories = memories
        self._chains: list[OfferedChain] = []
        self._left: list[OfferedChain] = []
        self._seen: dict[int, set[tuple[int, int]]] = {}
        self._wrong: set[tuple[int, int, int]] = set()

    def queues(self) -> Iterator[tuple[VirtioDriver, Queue]]:  # type: ignore[type-arg]
        """All queues in use."""
        for driver in self._world.drivers.values():
            for queue in driver.device.queues.values():
                yield driver, queue

    def counted(self, queue: Queue, theirs: tuple[int, int]) -> bool:
        """Whether QEMU's used element has the length that it gives a SCSI command."""
        head, length = theirs
        return any(length in chain.counted for chain in self._of(queue, head))

    def right(self, queue: Queue, ours: tuple[int, int]) -> bool:
        """Whether a used element of ours had the length that its answer explains, when the guest saw it or now."""
        start = queue.addresses[2] + 4
        if ours in self._seen.get(start, ()):
            return (start, *ours) not in self._wrong
        return self._right(queue, *ours)

    def _of(self, queue: Queue, head: int) -> Iterator[OfferedChain]:
        """Chains of SCSI commands with that head, the last one first."""
        return (
            chain
            for chain in reversed(self._chains)
            if chain.queue is queue and chain.head == head and chain.response
        )

    def _right(self, queue: Queue, head: int, length: int) -> bool:
        """Whether ours has used a chain with a length that its answer explains; True where it is no SCSI command."""
        chain = next(self._of(queue, head), None)
        return chain is None or length == chain.written(self._memories)

    def waits(self) -> bool:
        """Whether the guest waits for an answer to something: an event is none."""
        return any(
            queue.raw or queue.in_flight
            for driver, queue in self.queues()
            if not (isinstance(driver, VirtioScsi) and queue.index == _EVENTS)
        )

    def gone(self) -> list[Queue]:
        """Queues that had something to do since all was at rest, and have been reset."""
        queues = [queue for _, queue in self.queues()]
        used = {id(chain.queue): chain.queue for chain in self._chains}
        return [queue for queue in used.values() if queue not in queues]

    def seen(self, queue: Queue) -> set[tuple[int, int]]:
        """The elements of a used ring that the guest has seen, and those that it holds."""
        start = queue.addresses[2] + 4
        mine, _ = self._memories.sides(start, 8 * queue.size)
        return self._seen.get(start, set()) | set(struct.iter_unpack("<II", mine))

    def pieces(self, address: int, size: int) -> Iterator[tuple[int, int, OfferedChain, int]]:
        """What lies in buffers that a device may write: address, size, chain, and where in all that is writable."""
        end = address + size
        while address < end:
            for chain in reversed(self._chains):
                if (found := chain.at(address)) is not None:
                    length = min(found[1], end - address)
                    yield address, length, chain, found[0]
                    address += length
                    break
            else:
                return

    def left(self, address: int, size: int) -> bool:
        """Whether that lies in one buffer that was offered to a queue which has been reset since."""
        found = (chain.at(address) for chain in self._left)
        return any(one is not None and size <= one[1] for one in found)

    def rest(self) -> None:
        """All is at rest, and has been compared: what is not in flight any more is nobody's."""
        self._seen.clear()
        self._wrong.clear()
        queues = [queue for _, queue in self.queues()]
        self._left += (chain for chain in self._chains if chain.queue not in queues)
        self._chains = [chain for chain in self._chains if chain.queue in queues and _in_flight(chain)]

    @property
    def several(self) -> bool:
        """Whether more than one chain was offered since all was at rest."""
        return len(self._chains) > 1

    # --- what the guest does

    def looked(self, address: int, data: bytes) -> None:
        """It has seen what is in a used ring."""
        for _, queue in self.queues():
            start = queue.addresses[2] + 4
            if start <= address < start + 8 * queue.size and not len(data) % 8:
                for head, length in struct.iter_unpack("<II", data):
                    self._seen.setdefault(start, set()).add((head, length))
                    if not self._right(queue, head, length):
                        self._wrong.add((start, head, length))

    def wrote(self, address: int, length: int) -> None:
        """It has written to a ring."""
        for driver, queue in self.queues():
            descriptors, available, _ = queue.addresses
            response = size = 0
            if isinstance(driver, VirtioScsi) and queue.index > _EVENTS:
                response, size = _RESPONSE + driver.sense_size, _COMMAND + driver.cdb_size
            if isinstance(queue, PackedQueue):
                if descriptors <= address < descriptors + 16 * queue.size:
                    chain = OfferedChain(queue, response, -1, size)
                    self._add(chain, self._table(address, length // 16, packed=True))
            elif available + 4 <= address < available + 4 + 2 * queue.size:
                heads, _ = self._memories.sides(address, length & ~1)
                for (head,) in struct.iter_unpack("<H", heads):
                    self._add(
                        OfferedChain(queue, response, head, size), self._linked(descriptors, queue.size, head)
                    )

    def _add(self, chain: OfferedChain, descriptors: Iterable[tuple[int, int, int]]) -> None:
        for address, length, flags in descriptors:
            if flags & _WRITE:
                chain.writable.append((address, length))
                continue
            chain.readable.append(length)
            if len(chain.header) < _HEADER:
                chain.header += self._ours(address, min(length, _HEADER - len(chain.header)))
        self._chains.append(chain)

    def _linked(
        self, table: int, size: int, index: int, *, inside: bool = False
    ) -> Iterator[tuple[int, int, int]]:
        """Address, length and flags of a chain's descriptors; `inside` an indirect table there is no other."""
        for _ in range(_MOST):
            content = self._ours(table + 16 * index, 16)
            if index >= size or len(content) < 16:
                return
            address, length, flags, index = struct.unpack("<QIHH", content)
            if flags & _INDIRECT and not inside:
                yield from self._linked(address, length // 16, 0, inside=True)
            else:
                yield address, length, flags
            if not flags & _NEXT:
                return

    def _table(self, table: int, count: int, *, packed: bool) -> Iterator[tuple[int, int, int]]:
        """The same for descriptors side by side in a packed ring, or in a table of one."""
        for number in range(min(count, _MOST)):
            content = self._ours(table + 16 * number, 16)
            if len(content) < 16:
                return
            address, length, _, flags = struct.unpack("<QIHH", content)
            if packed and flags & _INDIRECT:
                yield from self._table(address, length // 16, packed=False)
            else:
                yield address, length, flags

    def _ours(self, address: int, length: int) -> bytes:
        return self._memories.sides(address, length)[0] if _inside(address, length) else b""


def _in_flight(chain: OfferedChain) -> bool:
    """Whether the guest has not got it back."""
    queue = chain.queue
    if chain.head < 0:
        return bool(queue.in_flight)
    if queue.raw:
        return all(head != chain.head for head, _ in queue.collected)
    return chain.head in queue.in_flight


def _inside(address: int, length: int) -> bool:
    """Whether there is memory of the guest's."""
    return MEMORY <= address <= address + length <= RAM
