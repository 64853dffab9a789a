"""A virtio-blk driver (VIRTIO 1.4 §5.2) on top of `VirtioDevice`.

Requests are `Operation`s, made by the functions of `blk_operation` that are offered here as well (`read`, `write`, …);
those cut at the device's limits where the driver's methods make them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from guestsim.drivers import virtio_bus
from guestsim.drivers.blk_operation import (
    Answer,
    Operation,
    discard,
    flush,
    get_id,
    get_lifetime,
    read,
    secure_erase,
    write,
    write_zeroes,
)
from guestsim.drivers.layouts import (
    BLK_CONFIG,
    BLK_CONFIG_FEATURES,
    BLK_HEADER,
    BLK_LIFETIME,
    SECTOR,
    BlkFeature,
    BlkStatus,
    Feature,
)
from guestsim.drivers.transport import Interrupts
from guestsim.drivers.virtio import RING_FEATURES, VirtioDevice
from guestsim.errors import GuestCheckError, GuestError
from guestsim.memory import Segment

if TYPE_CHECKING:
    from guestsim.drivers.ring import Queue
    from guestsim.drivers.transport import Transport
    from guestsim.guest import Guest
    from guestsim.memory import Memory

BLK_FEATURES = RING_FEATURES | (frozenset(BlkFeature) - {BlkFeature.ZONED})
"""What this driver understands."""

_UNWRITTEN = 0xDB
"""What buffers hold before the device writes them, so that a device that writes nothing is found out."""
_NO_STATUS = 0xFF
_MAX_TRANSFER = 1 << 20


class RequestError(GuestError):
    """A request that the caller expected to succeed did not."""

    def __init__(self, operation: Operation, answer: Answer) -> None:
        super().__init__(f"{operation.name} failed with {answer.status_name}")
        self.answer = answer


class DroppedError(GuestError):
    """A request was in flight when its device or queue was reset: nobody will ever answer it."""


class Pending:
    """A request on its way. `dropped` once the device or its queue was reset before the answer came."""

    __slots__ = ("dropped", "operation", "queue", "readable", "started_ns", "used_length", "writable")

    def __init__(
        self,
        operation: Operation,
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


class VirtioBlk:
    """Driver of one virtio-blk device, on any transport.

    Offsets and lengths are in bytes.  `indirect` says whether requests go through indirect tables where that was
    negotiated; a vCPU uses the queue with its own number unless a caller names another.  `on_answer` hears of every
    answer.
    """

    __slots__ = ("_config", "_pending", "device", "guest", "indirect", "interrupts", "on_answer")

    def __init__(self, guest: Guest, transport: Transport) -> None:
        self.guest = guest
        self.device = VirtioDevice(guest, transport)
        self.device.on_config_change = self._forget_config
        self.indirect = True
        self.interrupts = Interrupts.POLLING
        self._config: dict[str, int] | None = None
        self._pending: set[Pending] = set()
        self.on_answer: Callable[[Operation, Answer], None] | None = None

    # --- bringing up and down

    async def probe(
        self,
        *,
        features: Collection[int] = BLK_FEATURES,
        force: Collection[int] = (),
        queues: int | None = None,
        queue_size: int | None = None,
        interrupts: Interrupts = Interrupts.MSIX,
        indirect: bool = True,
    ) -> None:
        """Reset the device and bring it up.

        `features` is what the driver is willing to accept, `force` what it accepts in any case; `queues` how many of
        the device's queues it uses (all by default), each of `queue_size` entries or as many as possible.
        """
        await self.reset()
        self.interrupts = interrupts
        self.indirect = indirect
        device = self.device
        device.negotiate({*features, Feature.VERSION_1}, force=force)
        self._config = None
        count = self.config["num_queues"] if BlkFeature.MQ in device.features else 1
        if not count:
            raise GuestCheckError("VIRTIO 1.4 §5.2.4", f"{device}: num_queues is 0")
        if queues is not None:
            count = min(count, queues)
        device.connect(interrupts, count)
        for index in range(count):
            device.setup_queue(index, queue_size)
        device.driver_ok()
        if device.transport.legacy:
            self._config = None  # Only now is it known whether the driver can flush (§5.2.5.3).

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

    # --- configuration space

    @property
    def config(self) -> dict[str, int]:
        """The fields of `virtio_blk_config` that exist, by name; read once, and again after each change (§5.2.4)."""
        if self._config is None:
            names = [
                name
                for name in BLK_CONFIG.fields
                if name == "capacity" or BLK_CONFIG_FEATURES.get(name) in self.device.offered
            ]
            values = self.device.read_config(BLK_CONFIG[name] for name in names)
            self._config = dict(zip(names, values, strict=True))
        return self._config

    def _forget_config(self) -> None:
        self._config = None

    @property
    def capacity(self) -> int:
        """The disk's size in bytes."""
        return self.config["capacity"] * SECTOR

    @property
    def queues(self) -> list[Queue]:
        """The queues in use."""
        return list(self.device.queues.values())

    @property
    def in_flight(self) -> int:
        """How many requests the device has not answered."""
        return sum(not pending.done for pending in self._pending)

    def set_write_cache(self, *, on: bool) -> None:
        """Switch between write-back and write-through (§5.2.6.1); CONFIG_WCE must have been negotiated."""
        if BlkFeature.CONFIG_WCE not in self.device.features:
            raise GuestError("CONFIG_WCE was not negotiated")
        self.device.transport.write_config(BLK_CONFIG["writeback"], int(on))
        self._config = None

    # --- requests

    async def execute(self, operation: Operation, *, queue: int | None = None) -> Answer:
        """Carry one request out and return what the device answered, whatever that is."""
        (answer,) = await self.execute_all([operation], queue=queue)
        return answer

    async def execute_all(self, operations: Iterable[Operation], *, queue: int | None = None) -> list[Answer]:
        """Carry requests out, all of them made available before one notification."""
        pending = await self.submit(operations, queue=queue)
        return [await self.finish(one) for one in pending]

    async def submit(self, operations: Iterable[Operation], *, queue: int | None = None) -> list[Pending]:
        """Make requests available and notify the device once (again only where the queue fills up)."""
        rings = self.queues
        if not rings:
            raise GuestError("the device has not been probed")
        if queue is not None and queue >= len(rings):
            raise GuestError(f"queue {queue}: the driver uses {len(rings)}")
        ring = rings[self.guest.cpu % len(rings) if queue is None else queue]
        submitted = []
        for operation in operations:
            readable, writable = self._shape(operation, ring)
            indirect = self.indirect and ring.options.indirect
            needed = 1 if indirect else len(readable) + len(writable)
            if ring.room < needed:
                ring.publish()
                ring.kick()
                await self._wait_for_room(ring, needed)
            submitted.append(self._add(operation, ring, readable, writable, indirect=indirect))
        ring.publish()
        ring.kick()
        return submitted

    async def _wait_for_room(self, ring: Queue, needed: int) -> None:
        what = f"{needed} free descriptors in queue {ring.index}"
        await self.device.wait_for(lambda: ring.room >= needed, what)

    def _shape(self, operation: Operation, ring: Queue) -> tuple[list[int], list[int]]:
        """Lengths of the readable and of the writable segments, within SIZE_MAX and SEG_MAX (§5.2.3)."""
        readable, writable = operation.readable_split, operation.writable_split
        if readable is None:
            head = min(BLK_HEADER.size, len(operation.readable))
            readable = (head, *self._cut(len(operation.readable) - head, operation.scatter)) if head else ()
        if writable is None:
            tail = min(1, operation.writable)
            writable = (*self._cut(operation.writable - tail, operation.scatter), tail) if tail else ()
        if len(readable) + len(writable) > ring.size:
            raise GuestError(
                f"a chain of {len(readable) + len(writable)} segments for a queue of {ring.size}"
            )
        return list(readable), list(writable)

    def _cut(self, length: int, pieces: int) -> list[int]:
        limit = self.config.get("size_max", length) or length
        if pieces == 1 and length <= limit:
            return [length] if length else []
        if length > limit:
            return [min(limit, length - start) for start in range(0, length, limit)]
        return self.guest.memory.cut(length, min(pieces, self.config.get("seg_max", pieces) or pieces))

    def _add(
        self,
        operation: Operation,
        ring: Queue,
        readable: list[int],
        writable: list[int],
        *,
        indirect: bool,
    ) -> Pending:
        memory = self.guest.memory
        allocate = memory.allocate if operation.scatter == 1 else memory.allocate_far
        out = [Segment(allocate(length), length) for length in readable]
        into = [Segment(allocate(length), length) for length in writable]
        _fill(memory, out, operation.readable)
        if operation.writable:
            _fill(memory, into, bytes([_UNWRITTEN]) * (operation.writable - 1) + bytes([_NO_STATUS]))
        pending = Pending(operation, ring.index, out, into, self.guest.target.now_ns())
        self._pending.add(pending)
        ring.add(out, into, pending.complete, indirect=indirect)
        return pending

    async def finish(self, pending: Pending, timeout_ns: int | None = None) -> Answer:
        """Wait for the answer to a submitted request, and check its form."""
        operation = pending.operation
        if not pending.done:
            what = f"{operation.name} on queue {pending.queue}"
            await self.device.wait_for(lambda: pending.done, what, timeout_ns)
        if pending.used_length is None:
            raise DroppedError(f"{operation.name} on queue {pending.queue} was dropped by a reset")
        duration = self.guest.target.now_ns() - pending.started_ns
        written = b"".join(self.guest.memory.read(one.address, one.length) for one in pending.writable)
        self._release(pending)
        answer = Answer(written[-1] if written else None, written[:-1], pending.used_length, duration)
        if self.on_answer is not None:
            self.on_answer(operation, answer)
        if operation.checked:
            self._check(operation, answer)
        return answer

    def _check(self, operation: Operation, answer: Answer) -> None:
        """Hold an answer to what §5.2.6, §2.7.8 and §2.8.4 say of every request that is well formed."""
        if answer.status is not None and answer.status not in set(BlkStatus):
            raise GuestCheckError("VIRTIO 1.4 §5.2.6", f"{operation.name}: status byte {answer.status:#x}")
        if self.device.transport.legacy:
            return  # A driver does well to ignore the used length there (§5.2.6.3).
        if answer.ok and answer.used_length != operation.writable:
            # The driver may rely on the first `len` bytes only: a shorter one doesn't cover the status.
            packed = Feature.RING_PACKED in self.device.features
            raise GuestCheckError(
                f"VIRTIO 1.4 {'§2.8.4' if packed else '§2.7.8.2'}",
                f"{operation.name}: used length {answer.used_length}, written were {operation.writable} bytes",
            )

    def _release(self, pending: Pending) -> None:
        self._pending.discard(pending)
        for segment in (*pending.readable, *pending.writable):
            self.guest.memory.free(segment.address)

    # --- what a block layer above the driver does: cut at the device's limits, insist on success

    def max_transfer(self) -> int:
        """The longest read or write in one request, in bytes (§5.2.4: SIZE_MAX and SEG_MAX)."""
        config = self.config
        if "size_max" not in config or not config["size_max"]:
            return _MAX_TRANSFER
        segments = min(config.get("seg_max", 1) or 1, min(ring.size for ring in self.queues) - 2)
        return min(_MAX_TRANSFER, config["size_max"] * segments // SECTOR * SECTOR)

    async def read(self, offset: int, length: int, *, scatter: int = 1, queue: int | None = None) -> bytes:
        """Read `length` bytes at `offset`; RequestError where the device fails it."""
        step = self.max_transfer()
        operations = [
            read(start, min(step, offset + length - start), scatter=scatter)
            for start in range(offset, offset + length, step)
        ]
        return b"".join(answer.data for answer in await self._insist(operations, queue))

    async def write(self, offset: int, data: bytes, *, scatter: int = 1, queue: int | None = None) -> None:
        """Write `data` at `offset`; RequestError where the device fails it."""
        step = self.max_transfer()
        operations = [
            write(offset + start, data[start : start + step], scatter=scatter)
            for start in range(0, len(data), step)
        ]
        await self._insist(operations, queue)

    async def flush(self) -> None:
        """Make completed writes stable; RequestError where the device fails it."""
        await self._insist([flush()], None)

    async def discard(self, offset: int, length: int) -> None:
        """Discard a range; RequestError where the device fails it."""
        await self._insist([discard([(offset, length)])], None)

    async def write_zeroes(self, offset: int, length: int, *, unmap: bool = False) -> None:
        """Zero a range; RequestError where the device fails it."""
        await self._insist([write_zeroes([(offset, length)], unmap=unmap)], None)

    async def secure_erase(self, offset: int, length: int) -> None:
        """Erase a range for good; RequestError where the device fails it."""
        await self._insist([secure_erase([(offset, length)])], None)

    async def get_id(self) -> str:
        """The device's identity string, without its padding (§5.2.6)."""
        (answer,) = await self._insist([get_id()], None)
        return answer.data.split(b"\0")[0].decode("ascii", "replace")

    async def get_lifetime(self) -> dict[str, int]:
        """Wear of the storage behind the device, by field name (§5.2.6)."""
        (answer,) = await self._insist([get_lifetime()], None)
        return BLK_LIFETIME.unpack(answer.data)

    async def _insist(self, operations: list[Operation], queue: int | None) -> list[Answer]:
        answers = await self.execute_all(operations, queue=queue)
        for operation, answer in zip(operations, answers, strict=True):
            if not answer.ok:
                raise RequestError(operation, answer)
        return answers


def _fill(memory: Memory, segments: Iterable[Segment], data: bytes) -> None:
    at = 0
    for segment in segments:
        memory.write(segment.address, data[at : at + segment.length])
        at += segment.length


def find(guest: Guest) -> list[Transport]:
    """The virtio-blk devices of the machine, in order."""
    return virtio_bus.find(guest, virtio_bus.BLOCK)


__all__ = [
    "Answer",
    "DroppedError",
    "Operation",
    "Pending",
    "RequestError",
    "VirtioBlk",
    "discard",
    "find",
    "flush",
    "get_id",
    "get_lifetime",
    "read",
    "secure_erase",
    "write",
    "write_zeroes",
]
