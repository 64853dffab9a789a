"""A virtio-blk driver (VIRTIO 1.4 §5.2) on top of `VirtioDevice`.

Requests are `Operation`s, made by the functions of `blk_operation` that are offered here as well (`read`, `write`, …);
those cut at the device's limits where the driver's methods make them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from guestsim.drivers import virtio_bus, virtio_driver
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
)
from guestsim.drivers.transport import Interrupts
from guestsim.drivers.virtio import RING_FEATURES
from guestsim.drivers.virtio_driver import UNWRITTEN, DroppedError, VirtioDriver
from guestsim.errors import GuestCheckError, GuestError

if TYPE_CHECKING:
    from guestsim.drivers.ring import Queue
    from guestsim.drivers.transport import Transport
    from guestsim.guest import Guest

BLK_FEATURES = RING_FEATURES | (frozenset(BlkFeature) - {BlkFeature.ZONED})
"""What this driver understands."""

_NO_STATUS = 0xFF
_MAX_TRANSFER = 1 << 20


Pending = virtio_driver.Pending[Operation]


class RequestError(GuestError):
    """A request that the caller expected to succeed did not."""

    def __init__(self, operation: Operation, answer: Answer) -> None:
        super().__init__(f"{operation.name} failed with {answer.status_name}")
        self.answer = answer


class VirtioBlk(VirtioDriver[Operation]):
    """Driver of one virtio-blk device, on any transport.

    Offsets and lengths are in bytes.  A vCPU uses the queue with its own number unless a caller names another.
    `on_answer` hears of every answer.
    """

    __slots__ = ("_config", "on_answer")

    def __init__(self, guest: Guest, transport: Transport) -> None:
        super().__init__(guest, transport)
        self._config: dict[str, int] | None = None
        self.on_answer: Callable[[Operation, Answer], None] | None = None

    # --- bringing up

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
        await self.begin(features, force, interrupts, indirect=indirect)
        device = self.device
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

    def forget_config(self) -> None:
        """It is read again when it is needed."""
        self._config = None

    @property
    def capacity(self) -> int:
        """The disk's size in bytes."""
        return self.config["capacity"] * SECTOR

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
        return await self.submit_to(ring, operations)

    def shape(self, request: Operation, ring: Queue) -> tuple[list[int], list[int]]:  # noqa: ARG002
        """Header, payload and status apart, within SIZE_MAX and SEG_MAX (§5.2.3)."""
        head, tail = min(BLK_HEADER.size, len(request.readable)), min(1, request.writable)
        readable = [head, *self._cut(len(request.readable) - head, request.scatter)] if head else []
        writable = [*self._cut(request.writable - tail, request.scatter), tail] if tail else []
        return readable, writable

    def _cut(self, length: int, pieces: int) -> list[int]:
        config = self.config
        return self.cut(length, pieces, limit=config.get("size_max", 0), most=config.get("seg_max", 0))

    def blank(self, request: Operation) -> bytes:
        """Its last byte is no status."""
        return bytes([UNWRITTEN]) * (request.writable - 1) + bytes([_NO_STATUS])

    async def finish(self, pending: Pending, timeout_ns: int | None = None) -> Answer:
        """Wait for the answer to a submitted request, and check its form."""
        operation = pending.operation
        written, used_length, duration = await self.come_back(pending, timeout_ns)
        answer = Answer(written[-1] if written else None, written[:-1], used_length, duration)
        if self.on_answer is not None:
            self.on_answer(operation, answer)
        if operation.checked:
            self._check(operation, answer)
        return answer

    def _check(self, operation: Operation, answer: Answer) -> None:
        """Hold an answer to what §5.2.6, §2.7.8 and §2.8.4 say of every request that is well formed."""
        if answer.status is not None and answer.status not in set(BlkStatus):
            raise GuestCheckError("VIRTIO 1.4 §5.2.6", f"{operation.name}: status byte {answer.status:#x}")
        if answer.ok:
            # A driver does well to ignore the used length of a legacy device (§5.2.6.3).
            self.check_used_length(operation, answer.used_length, operation.writable)

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
