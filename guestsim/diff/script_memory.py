"""What differs in guest memory while a script runs, and is not compared: which mask that is."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

from guestsim.diff.memories import MEMORY, MESSAGES
from guestsim.diff.offered import Offered, OfferedChain
from guestsim.drivers.packed import PackedQueue

if TYPE_CHECKING:
    from guestsim.diff.both import Sight
    from guestsim.diff.memories import Memories
    from guestsim.drivers.ring import Queue

_WRITE = 1 << 1
"""The flag of a descriptor (VIRTIO 1.4 §2.8.3)."""
_RESIDUAL = frozenset(range(4, 8))
_DETAIL = frozenset({12, *range(15, 19), *range(27, 30)})
_STATUS, _KEY = 10, 14
_GET_ID = 8
_INQUIRY, _GET_CONFIGURATION, _REPORT_LUNS = 0x12, 0x46, 0xA0
_MODE_SENSE = (0x1A, 0x5A)
_PAGES = (0x2A, 0x3F)
"""Mode pages that say what a drive can do, and all at once."""
_CHECK_CONDITION, _ILLEGAL = 2, 5
_LUNS = 1 << 16
_CDB = 19


BEFORE_RESET = "buffers of before a reset"
"""Where a device has no business any more, be it that the guest has not got them back."""


class MemoryMasks:
    """The masks of memory."""

    def __init__(self, offered: Offered, memories: Memories) -> None:
        self._offered = offered
        self._memories = memories

    def names(self, sight: Sight) -> set[str]:
        """The masks that hide all of a difference; none where there is more to it."""
        if self._of_messages(sight):
            return {"messages"}
        ring = self._ring(sight)
        if ring is not None:
            return {ring}
        names: set[str] = set()
        covered = 0
        for address, size, chain, offset in self._offered.pieces(sight.address, sight.size):
            found = self._of_answer(address, size, chain, offset)
            if not found and sight.kind == "unread":
                found = {"not looked at"}
            if not found:
                return set()
            names |= found
            covered += size
        return names if covered == sight.size else set()

    def all_used(self) -> bool:
        """Whether both sides have used the same buffers, and there are queues."""
        queues = [queue for _, queue in self._offered.queues()]
        return bool(queues) and all(
            self._flags_alike(queue)
            if isinstance(queue, PackedQueue)
            else len({*self._memories.sides(queue.addresses[2] + 2, 2)}) == 1
            for queue in queues
        )

    def place(self, sight: Sight) -> str:
        """Where it is: messages, ring, buffers (that a device may write), buffers of before a reset, or elsewhere."""
        if MESSAGES <= sight.address < MEMORY:
            return "messages"
        queues = [queue for _, queue in self._offered.queues()] + self._offered.gone()
        if any(_within(sight, queue) for queue in queues):
            return "ring"
        covered = sum(size for _, size, _, _ in self._offered.pieces(sight.address, sight.size))
        if covered == sight.size:
            return "buffers"
        return BEFORE_RESET if self._offered.left(sight.address, sight.size) else "elsewhere"

    def _of_messages(self, sight: Sight) -> bool:
        """Whether one side has sent a message where the other one has, for several chains, not sent it again."""
        if not MESSAGES <= sight.address < MEMORY or not (self._offered.several or self._offered.gone()):
            return False
        start = sight.address & ~3
        for at in range(start, sight.address + sight.size, 4):
            sent = {int.from_bytes(side, "little") for side in self._memories.sides(at, 4)}
            if not sent <= {0, (at - MESSAGES) // 4 + 1}:
                return False
        return True

    # --- rings

    def _ring(self, sight: Sight) -> str | None:
        if any(_within(sight, queue) for queue in self._offered.gone()):
            return "reset"
        for _, queue in self._offered.queues():
            if isinstance(queue, PackedQueue):
                if self._write_flags_only(sight, queue):
                    return "WRITE of used descriptors"
                continue
            start = queue.addresses[2] + 4
            if sight.address == start + 8 * queue.size and sight.size <= 2:
                return "avail_event"
            if start <= sight.address and sight.address + sight.size <= start + 8 * queue.size:
                return self._elements(queue)
        return None

    def _elements(self, queue: Queue) -> str | None:
        """The order of used elements, and the lengths of SCSI commands.

        The sides hold the same elements; or, where the ring has gone round, theirs holds what ours held there before.
        """
        start = queue.addresses[2] + 4
        mine, others = (
            [*struct.iter_unpack("<II", side)] for side in self._memories.sides(start, 8 * queue.size)
        )
        if sorted(mine) == sorted(others):
            return "order"
        differing = [pair for pair in zip(mine, others, strict=True) if len({*pair}) == 2]
        if not all(self._offered.right(queue, ours) for ours, _ in differing):
            return None
        seen = self._offered.seen(queue)
        others_alone = [theirs for _, theirs in differing if theirs not in seen]
        if not others_alone:
            return "order"
        return "used-len" if all(self._offered.counted(queue, one) for one in others_alone) else None

    def _write_flags_only(self, sight: Sight, queue: PackedQueue) -> bool:
        start = queue.addresses[0]
        return start <= sight.address < start + 16 * queue.size and self._flags_alike(queue)

    def _flags_alike(self, queue: PackedQueue) -> bool:
        """Whether a packed ring is the same but for the flag WRITE."""
        mine, others = (
            struct.iter_unpack("<QIHH", side)
            for side in self._memories.sides(queue.addresses[0], 16 * queue.size)
        )
        return all(
            one[:3] == other[:3] and one[3] ^ other[3] in (0, _WRITE)
            for one, other in zip(mine, others, strict=True)
        )

    # --- answers

    def _of_answer(self, address: int, size: int, chain: OfferedChain, offset: int) -> set[str]:
        """The masks for what differs in the answer to a request."""
        ours, theirs = self._memories.sides(address, size)
        differing = {at for at in range(size) if ours[at] != theirs[at]}
        zeroed = not any(ours[at] for at in differing)
        if chain.response:
            return self._of_scsi(chain, {offset + at for at in differing}, zeroed=zeroed)
        status, _ = chain.stream(self._memories, -1, 1)
        if zeroed and status not in (b"", b"\0"):
            return {"failed-data"}
        if zeroed and chain.header[:4] == struct.pack("<I", _GET_ID):
            return {"data-rest"}
        return set()

    def _of_scsi(self, chain: OfferedChain, differing: set[int], *, zeroed: bool) -> set[str]:
        size = chain.response
        if chain.answer is None:
            chain.answer = chain.stream(self._memories, 0, size)
        mine, others = chain.answer
        if len(mine) < size:
            return set()
        opcode, *cdb = chain.header[_CDB:] or b"\xff"
        own = opcode == _GET_CONFIGURATION or (opcode == _INQUIRY and cdb[0] & 1)
        own = own or (opcode in _MODE_SENSE and cdb[1] & 0x3F in _PAGES)
        if (
            own
            and not mine[_STATUS]
            and others[_STATUS] == _CHECK_CONDITION
            and others[_KEY] & 0xF == _ILLEGAL
        ):
            return {"identity"}
        if opcode == _REPORT_LUNS and mine[_STATUS] == others[_STATUS] and self._same_luns(chain):
            return {"LUN list"}
        names: set[str] = set()
        data = {at for at in differing if at >= size}
        residual, others_residual = (struct.unpack_from("<i", side, 4)[0] for side in (mine, others))
        rest = sum(length for _, length in chain.writable) - max(residual, 0)
        if beyond := {at for at in data if at >= rest}:
            names.add("data-rest")
        if data - beyond:
            if own or opcode == _INQUIRY:
                names.add("identity")
            elif zeroed and mine[_STATUS]:
                names.add("failed-data")
            else:
                return set()
        sense_length = int.from_bytes(mine[:4], "little")
        parts = {"sense-rest": frozenset(range(12 + sense_length, size)), "sense-detail": _DETAIL}
        if others_residual <= 0:
            parts["residual"] = _RESIDUAL
        left = differing - data
        for name, part in parts.items():
            if left & part:
                names.add("good-residual" if name == "residual" and not mine[_STATUS] else name)
                left -= part
        return set() if left else names

    def _same_luns(self, chain: OfferedChain) -> bool:
        """Whether both list the same units, LUN 0 apart; a list that is cut short ends where it does."""
        ours, theirs = (
            side[chain.response :] for side in chain.stream(self._memories, 0, chain.response + _LUNS)
        )
        if int.from_bytes(ours[:4], "big") + 8 > len(ours):
            return ours[:8] == theirs[:8]
        return _entries(ours) == _entries(theirs)


def _entries(luns: bytes) -> set[bytes]:
    """What a list holds, but for LUN 0 (SPC-4 §6.33)."""
    end = 8 + int.from_bytes(luns[:4], "big")
    return {luns[at : at + 8] for at in range(8, end, 8)} - {bytes(8)}


def _within(sight: Sight, queue: Queue) -> bool:
    """Whether a device writes there for a queue."""
    end = sight.address + sight.size
    return any(start <= sight.address and end <= start + size for start, size in _written_rings(queue))


def _written_rings(queue: Queue) -> Iterator[tuple[int, int]]:
    """What a device writes of a queue: where, and how many bytes."""
    descriptors, _, device = queue.addresses
    if isinstance(queue, PackedQueue):
        yield descriptors, 16 * queue.size
        yield device, 4
    else:
        yield device, 6 + 8 * queue.size
