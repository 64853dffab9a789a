"""What must hold of a device whatever its driver does; each is a class that can be seen to fail (tests/unit/fuzz).

    Shadow        nothing is written outside writable buffers, the rings' device parts and what else was allowed
    Written       the first `used.len` bytes of a buffer were written, and all of them
    Entered       no handler of the device is entered again while it is at work
    Bounded       a doorbell takes no buffer that was not made available, accesses memory and allocates as much as its
                  buffers are worth, and ends

What a driver may rely on of its disk is `ledger`'s.
That a head comes back once, and none that is not out, the driver's models look at (`collect`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from devmodels.iocontext import IoContext
from devmodels.memory import GuestMemory
from devmodels.virtio.device import VirtioDevice
from devmodels.virtio.queue import VirtQueue
from devmodels.virtio.ring import COMMON_CHAIN_LIMIT, Chain
from tests.doorbells import UNLIMITED, CountedMemory, allocates
from tests.unit.virtio.model import Vector
from tests.unit.virtio.plain import PlainMemory

TURNS = 2000
"""Of the context for one doorbell: a request takes a few."""
ACCESSES = 2 * COMMON_CHAIN_LIMIT + 64
"""To guest memory for one doorbell: one chain of what no driver has given may be as long as devices let chains be (each
descriptor is fetched, and its element mapped)."""
ALLOCATED = 256 << 10
"""Bytes for one doorbell: the lists of such a chain, and what an event or a report takes."""


class Shadow:
    """A copy of guest memory, in which only the driver writes."""

    def __init__(self, plain: PlainMemory) -> None:
        self._plain = plain
        self._expected = plain.copy()

    def driver_wrote(self) -> None:
        """What is there now is what the driver knows of."""
        self._expected = self._plain.copy()

    def check(self, allowed: Iterable[Vector]) -> None:
        """Since then, the device has written within `allowed` alone."""
        pairs = list(zip(self._plain.blocks, self._expected.blocks, strict=True))
        for address, length in allowed:
            for found, expected in pairs:
                first, end = max(address, found.base), min(address + length, found.end)
                if first < end:
                    place = slice(first - found.base, end - found.base)
                    expected.data[place] = found.data[place]
        for found, expected in pairs:
            if found.data != expected.data:
                at = next(at for at, byte in enumerate(found.data) if byte != expected.data[at])
                raise AssertionError(f"the device has written at {found.base + at:#x}")


class Written:
    """What the device has written, in order: it is a dirty log of guest memory."""

    def __init__(self, memory: GuestMemory) -> None:
        self._spans: list[tuple[int, int]] = []
        memory.observe(dirty_log=self)

    def mark(self, address: int, length: int) -> None:
        """The device has written there."""
        self._spans.append((address, address + length))

    @property
    def now(self) -> int:
        """What `since` is of a buffer that is given out now: what was written before does not count for it."""
        return len(self._spans)

    def check(self, vectors: Sequence[Vector], used: int, since: int) -> None:
        """The first `used` bytes of `vectors` have been written since then."""
        room = sum(length for _, length in vectors)
        assert used <= room, f"used.len is {used} of {room} bytes"
        spans = sorted(self._spans[since:])
        for address, length in vectors:
            at, end = address, address + min(length, used)
            used -= end - address
            for first, last in spans:
                if first <= at < last:
                    at = last
            assert at >= end, f"used.len covers {at:#x}, which was not written"


class Entered:
    """No one of the `guarded` methods of a thing is entered while it is at work itself."""

    def __init__(self, thing: object, *names: str) -> None:
        self._inside: set[str] = set()
        for name in names:
            setattr(thing, name, self._guarded(name, getattr(thing, name)))

    def _guarded(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*arguments: Any, **more: Any) -> Any:
            assert name not in self._inside, f"{name} was entered within {name}"
            self._inside.add(name)
            try:
                return method(*arguments, **more)
            finally:
                self._inside.discard(name)

        return guarded


class Bounded:
    """How many buffers the device takes, how often it accesses memory, how much it allocates, how long it goes on."""

    def __init__(
        self, device: VirtioDevice, context: IoContext, memory: CountedMemory, worth: tuple[int, int]
    ) -> None:
        self._context = context
        self._accesses, self._allocated = worth
        self._device = device
        self._memory = memory
        self._left: Counter[int] = Counter()
        handle = device.handle

        def counted(queue: VirtQueue, chains: Sequence[Chain]) -> None:
            self._left[queue.index] -= len(chains)
            assert self._left[queue.index] >= 0, "more buffers were taken than were made available"
            handle(queue, chains)

        setattr(device, "handle", counted)  # noqa: B010

    def made_available(self, queue: int, count: int) -> None:
        """So many more may be taken."""
        self._left[queue] += count

    def begun(self, queue: int) -> None:
        """The queue is new: what was not taken is lost."""
        self._left[queue] = 0

    @contextmanager
    def doorbell(self) -> Iterator[None]:
        """What is done meanwhile, and until the device rests, is of one doorbell (or another register).

        Each buffer that waits or is in flight is `worth` so many accesses and bytes.
        """
        waiting = sum(
            min(self._left[queue.index], queue.size) + len(queue.in_flight) for queue in self._device.queues
        )
        self._memory.left = ACCESSES + self._accesses * waiting
        with allocates(ALLOCATED + self._allocated * waiting):
            yield
            self._rest()
        self._memory.left = UNLIMITED

    def settle(self) -> None:
        """Let the device go on until it rests."""
        with self.doorbell():
            pass

    def _rest(self) -> None:
        for _ in range(TURNS):
            if not self._context.turn():
                return
        raise AssertionError(f"the device does not rest after {TURNS} turns")
