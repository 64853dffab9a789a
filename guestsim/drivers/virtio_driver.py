"""What every driver of a virtio device does: bring it up and down, and carry requests to it and back.

A kind of device derives from `VirtioDriver`: it says what its requests look like as chains, and what to make of what
comes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from guestsim.drivers.layouts import Feature
from guestsim.drivers.transport import Interrupts
from guestsim.drivers.virtio import VirtioDevice
from guestsim.errors import GuestCheckError, GuestError
from guestsim.memory import Segment

if TYPE_CHECKING:
    from collections.abc import Collection

    from guestsim.drivers.ring import Queue
    from guestsim.drivers.transport import Transport
    from guestsim.guest import Guest
    from guestsim.memory import Memory

UNWRITTEN = 0xDB
"""What buffers hold before the device writes them, so that a device that writes nothing is found out."""


class DroppedError(GuestError):
    """A request was in flight when its device or queue was reset: nobody will ever answer it."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request: `readable` is everything the device reads, `writable` how many bytes it may write.

    `readable_split` and `writable_split` are the lengths of the chain's segments (by default what the driver thinks
    right); `scatter` cuts the payload into that many pieces far apart.  `checked` is off where the request is wrong on
    purpose and the answer's form isn't known.
    """

    readable: bytes
    writable: int = 0
    readable_split: tuple[int, ...] | None = None
    writable_split: tuple[int, ...] | None = None
    scatter: int = 1
    checked: bool = True

    @property
    def name(self) -> str:
        """The request's kind, for messages."""
        return "request"


R = TypeVar("R", bound=Request)


class Pending(Generic[R]):
    """A request on its way. `dropped` once the device or its queue was reset before the answer came."""

    __slots__ = ("dropped", "operation", "queue", "readable", "started_ns", "used_length", "writable")

    def __init__(
        self,
        operation: R,
        queue: int,
        readable: list[Segment],
        writable: list[Segment],
        started_ns: int,
    ) -> None:
        self.operation = operation
        self.queue = queue
        self.readable = readable
        self.writable = writable
        self.started_ns = started_ns
        self.used_length: int | None = None
        self.dropped = False

    @property
    def done(self) -> bool:
        """Whether the device has answered, or never will."""
        return self.used_length is not None or self.dropped

    def complete(self, used_length: int) -> None:
        """The device has used the chain."""
        self.used_length = used_length


class VirtioDriver(Generic[R]):
    """Driver of one virtio device, on any transport.

    `indirect` says whether requests go through indirect tables where that was negotiated.
    """

    __slots__ = ("_pending", "device", "guest", "indirect", "interrupts")

    def __init__(self, guest: Guest, transport: Transport) -> None:
        self.guest = guest
        self.device = VirtioDevice(guest, transport)
        self.device.on_config_change = self.forget_config
        self.indirect = True
        self.interrupts = Interrupts.POLLING
        self._pending: set[Pending[R]] = set()

    # --- for the kind of device

    @property
    def config(self) -> dict[str, int]:
        """The fields of the configuration space that exist, by name."""
        raise NotImplementedError

    def forget_config(self) -> None:
        """The configuration space has changed."""

    def dropped(self, queue: int | None) -> None:
        """All that was in flight on `queue`, on all of them where None, has been dropped."""

    def shape(self, request: R, ring: Queue) -> tuple[Sequence[int], Sequence[int]]:
        """Lengths of the readable and of the writable segments."""
        raise NotImplementedError

    def blank(self, request: R) -> bytes:
        """What the writable part holds before the device writes it."""
        return bytes([UNWRITTEN]) * request.writable

    # --- bringing up and down

    async def begin(
        self, features: Collection[int], force: Collection[int], interrupts: Interrupts, *, indirect: bool
    ) -> None:
        """Reset the device and agree on features."""
        await self.reset()
        self.interrupts = interrupts
        self.indirect = indirect
        self.device.negotiate({*features, Feature.VERSION_1}, force=force)
        self.forget_config()

    async def reset(self) -> None:
        """Reset the device, and only then drop the requests in flight: it owns their buffers until it is over."""
        await self.device.reset()
        self._drop(None)

    async def switch(self, transport: Transport) -> None:
        """Drive the same device through another of its interfaces from now on; it is reset through the one before."""
        await self.reset()
        self.device.transport = transport

    async def reset_queue(self, index: int, size: int | None = None) -> None:
        """Reset one queue and set it up anew; its requests in flight are dropped."""
        await self.device.reset_queue(index, size)
        self._drop(index)

    def _drop(self, queue: int | None) -> None:
        for pending in tuple(self._pending):
            if queue is None or pending.queue == queue:
                pending.dropped = True
                self._release(pending)
        self.dropped(queue)

    @property
    def queues(self) -> list[Queue]:
        """The queues in use."""
        return list(self.device.queues.values())

    @property
    def in_flight(self) -> int:
        """How many requests the device has not answered."""
        return sum(not pending.done for pending in self._pending)

    # --- requests

    async def submit_to(self, ring: Queue, requests: Iterable[R]) -> list[Pending[R]]:
        """Make requests available and notify the device once (again only where the queue fills up)."""
        submitted = []
        for request in requests:
            readable, writable = self._segments(request, ring)
            indirect = self.indirect and ring.options.indirect
            needed = 1 if indirect else len(readable) + len(writable)
            if ring.room < needed:
                ring.publish()
                ring.kick()
                await self._wait_for_room(ring, needed)
            submitted.append(self._add(request, ring, readable, writable, indirect=indirect))
        ring.publish()
        ring.kick()
        return submitted

    async def _wait_for_room(self, ring: Queue, needed: int) -> None:
        what = f"{needed} free descriptors in queue {ring.index}"
        await self.device.wait_for(lambda: ring.room >= needed, what)

    def _segments(self, request: R, ring: Queue) -> tuple[Sequence[int], Sequence[int]]:
        given = request.readable_split, request.writable_split
        readable, writable = self.shape(request, ring) if None in given else ((), ())
        readable = readable if given[0] is None else given[0]
        writable = writable if given[1] is None else given[1]
        if len(readable) + len(writable) > ring.size:
            raise GuestError(
                f"a chain of {len(readable) + len(writable)} segments for a queue of {ring.size}"
            )
        return readable, writable

    def _add(
        self,
        request: R,
        ring: Queue,
        readable: Sequence[int],
        writable: Sequence[int],
        *,
        indirect: bool,
    ) -> Pending[R]:
        memory = self.guest.memory
        allocate = memory.allocate if request.scatter == 1 else memory.allocate_far
        out = [Segment(allocate(length), length) for length in readable]
        into = [Segment(allocate(length), length) for length in writable]
        _fill(memory, out, request.readable)
        if request.writable:
            _fill(memory, into, self.blank(request))
        pending = Pending(request, ring.index, out, into, self.guest.target.now_ns())
        self._pending.add(pending)
        ring.add(out, into, pending.complete, indirect=indirect)
        return pending

    async def come_back(self, pending: Pending[R], timeout_ns: int | None = None) -> tuple[bytes, int, int]:
        """Wait for the device to use a request: what it may have written, the used length, and how long it took."""
        request = pending.operation
        if not pending.done:
            what = f"{request.name} on queue {pending.queue}"
            await self.device.wait_for(lambda: pending.done, what, timeout_ns)
        if pending.used_length is None:
            raise DroppedError(f"{request.name} on queue {pending.queue} was dropped by a reset")
        duration = self.guest.target.now_ns() - pending.started_ns
        written = b"".join(self.guest.memory.read(one.address, one.length) for one in pending.writable)
        self._release(pending)
        return written, pending.used_length, duration

    def check_used_length(self, request: R, used: int, written: int) -> None:
        """The driver may rely on the first `used` bytes only: a device that says less than `written` wrote nothing."""
        if used != written and not self.device.transport.legacy:
            packed = Feature.RING_PACKED in self.device.features
            raise GuestCheckError(
                f"VIRTIO 1.4 {'§2.8.4' if packed else '§2.7.8.2'}",
                f"{request.name}: used length {used}, written were {written} bytes",
            )

    def _release(self, pending: Pending[R]) -> None:
        self._pending.discard(pending)
        for segment in (*pending.readable, *pending.writable):
            self.guest.memory.free(segment.address)

    def cut(self, length: int, pieces: int, *, limit: int = 0, most: int = 0) -> list[int]:
        """`length` bytes of payload in `pieces`, at most `most`; none longer than `limit`; 0 is no bound."""
        limit = limit or length
        if pieces == 1 and length <= limit:
            return [length] if length else []
        if length > limit:
            return [min(limit, length - start) for start in range(0, length, limit)]
        return self.guest.memory.cut(length, min(pieces, most or pieces))


def _fill(memory: Memory, segments: Iterable[Segment], data: bytes) -> None:
    at = 0
    for segment in segments:
        memory.write(segment.address, data[at : at + segment.length])
        at += segment.length
