"""Descriptor chains followed in memory that nobody vouches for: every step is bounded, every departure is a problem.

VIRTIO 1.4 §2.7.5 (the split ring's table), §2.7.5.3 and §2.8.7 (indirect tables).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from guestsim.drivers.layouts import DESC, DESC_INDIRECT, DESC_NEXT, DESC_WRITE, Feature
from guestsim.inspect.state import Part, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guestsim.inspect.image import MemoryImage
    from guestsim.inspect.state import Virtqueue

TABLE_BUDGET = 1 << 18
"""Most entries of indirect tables that are read for one queue: guests that work have some thousands."""

LONGEST = 1024
"""Most descriptors of one chain that are followed, where the queue is shorter."""

_FOUR_GIB = 1 << 32

Descriptor = tuple[int, int, int, int]
"""addr, len, and the two last words: flags and next (split), id and flags (packed)."""


class Chains:
    """The chains of one queue; `problems` collects what is wrong with them."""

    def __init__(self, image: MemoryImage, queue: Virtqueue) -> None:
        self._image = image
        self._queue = queue
        self._owners: dict[int, int] = {}
        self._budget = TABLE_BUDGET
        self._limit = max(queue.size, LONGEST)
        self.problems: list[Problem] = []

    def problem(self, clause: str, text: str) -> None:
        """Note a departure from `clause` of VIRTIO 1.4."""
        self.problems.append(Problem(f"VIRTIO 1.4 §{clause}", text))

    def follow(self, table: bytes, head: int) -> tuple[list[Part], bool]:
        """The parts of the chain that begins at `head` of the split ring's table, and whether it is indirect."""
        parts: list[Part] = []
        seen: set[int] = set()
        index = head
        while True:
            owner = self._owners.setdefault(index, head)
            if index in seen:
                self.problem("2.7.5.2", f"head {head}: the chain loops at descriptor {index}")
                break
            if owner != head:
                text = f"head {head}: descriptor {index} is part of the chain of head {owner} too"
                self.problem("2.7.13.1", text)
                break
            seen.add(index)
            address, length, flags, following = DESC.struct.unpack_from(table, DESC.size * index)
            if flags & DESC_INDIRECT:
                if flags & DESC_NEXT:
                    text = f"head {head}: descriptor {index} has both INDIRECT and NEXT"
                    self.problem("2.7.5.3.1", text)
                self._indirect_allowed(head, "2.7.5.3.1")
                parts += self._split_table(head, address, length)
                self._judge(head, parts)
                return parts, True
            parts.append(Part(address, length, bool(flags & DESC_WRITE)))
            if not flags & DESC_NEXT:
                break
            if following >= self._queue.size:
                text = f"head {head}: descriptor {index} goes on at {following} of {self._queue.size}"
                self.problem("2.7.5", text)
                break
            index = following
        self._judge(head, parts)
        return parts, False

    def follow_packed(self, run: Sequence[Descriptor], buffer_id: int) -> tuple[list[Part], bool]:
        """The parts of the packed ring's buffer whose descriptors are `run`, and whether it is indirect."""
        address, length, _, flags = run[0]
        if flags & DESC_INDIRECT:
            if len(run) > 1:
                self.problem("2.8.19", f"buffer {buffer_id}: a descriptor has both INDIRECT and NEXT")
            self._indirect_allowed(buffer_id, "2.8.19")
            parts = self._packed_table(buffer_id, address, length)
        else:
            if any(flags & DESC_INDIRECT for _, _, _, flags in run):
                self.problem("2.8.19", f"buffer {buffer_id}: an indirect descriptor inside a list")
            parts = [Part(address, length, bool(flags & DESC_WRITE)) for address, length, _, flags in run]
        self._judge(buffer_id, parts)
        return parts, bool(flags & DESC_INDIRECT)

    def _indirect_allowed(self, head: int, clause: str) -> None:
        if self._queue.lacks(Feature.INDIRECT_DESC):
            self.problem(clause, f"{self._name(head)}: indirect, and INDIRECT_DESC was not negotiated")

    def _name(self, head: int) -> str:
        return f"buffer {head}" if self._queue.packed else f"head {head}"

    def _entries(self, head: int, address: int, length: int) -> int:
        """How many entries an indirect table has; 0 where it is none."""
        clause = "2.8.7" if self._queue.packed else "2.7.5.3"
        if not length or length % DESC.size:
            text = (
                f"{self._name(head)}: an indirect table of {length} bytes, expected a multiple of {DESC.size}"
            )
            self.problem(clause, text)
            return 0
        if not self._image.contains(address, length):
            self.problem(
                clause, f"{self._name(head)}: indirect table at {address:#x}+{length:#x} outside memory"
            )
            return 0
        return length // DESC.size

    def _entry(self, table: int, index: int) -> Descriptor:
        address, length, third, last = DESC.struct.unpack(
            self._image.read(table + DESC.size * index, DESC.size)
        )
        return address, length, third, last

    def _split_table(self, head: int, table: int, size: int) -> list[Part]:
        entries = self._entries(head, table, size)
        parts: list[Part] = []
        seen: set[int] = set()
        index = 0
        while index < entries and len(seen) <= self._limit and self._spend():
            if index in seen:
                self.problem("2.7.5.2", f"head {head}: the indirect table loops at its entry {index}")
                break
            seen.add(index)
            address, length, flags, following = self._entry(table, index)
            if flags & DESC_INDIRECT:
                self.problem(
                    "2.7.5.3.1", f"head {head}: entry {index} of the indirect table is indirect again"
                )
                break
            parts.append(Part(address, length, bool(flags & DESC_WRITE)))
            if not flags & DESC_NEXT:
                break
            if following >= entries:
                text = f"head {head}: entry {index} of the indirect table goes on at {following} of {entries}"
                self.problem("2.7.5.3", text)
            index = following
        return parts

    def _packed_table(self, buffer_id: int, table: int, size: int) -> list[Part]:
        parts: list[Part] = []
        for index in range(min(self._entries(buffer_id, table, size), self._limit + 1)):
            if not self._spend():
                break
            address, length, _, flags = self._entry(table, index)
            if flags & (DESC_INDIRECT | DESC_NEXT):
                text = f"buffer {buffer_id}: entry {index} of the indirect table has flags {flags:#x}"
                self.problem("2.8.19", f"{text}, expected none but WRITE")
            parts.append(Part(address, length, bool(flags & DESC_WRITE)))
        return parts

    def _spend(self) -> bool:
        self._budget -= 1
        if not self._budget:
            clause = "2.8.17" if self._queue.packed else "2.7.5.3.1"
            self.problem(clause, f"more than {TABLE_BUDGET} indirect descriptors; the rest is not looked at")
        return self._budget > 0

    def _judge(self, head: int, parts: Sequence[Part]) -> None:
        name, packed = self._name(head), self._queue.packed
        if len(parts) > self._queue.size:
            clause = "2.8.17" if packed else "2.7.5.3.1"
            self.problem(clause, f"{name}: more descriptors than the {self._queue.size} of the queue")
        for number, part in enumerate(parts):
            if not self._image.contains(part.address, part.length):
                clause = "2.8.4" if packed else "2.7.5"
                text = (
                    f"{name}: element {number}, {part.length} bytes at {part.address:#x}, is outside memory"
                )
                self.problem(clause, text)
                break
        writable = [part.writable for part in parts]
        if writable != sorted(writable):
            clause = "2.8.17" if packed else "2.7.4.2"
            self.problem(clause, f"{name}: a device-readable element after a device-writable one")
        if not packed and sum(part.length for part in parts) > _FOUR_GIB:
            self.problem("2.7.5.2", f"{name}: more than 2**32 bytes in all")
