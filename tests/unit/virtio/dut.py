"""A small virtio device to drive rings with: it finishes buffers when it is told to, and remembers what it did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from devmodels.conformance import ViolationLog
from devmodels.dma import Direction
from devmodels.iocontext import IoContext
from devmodels.memory import GuestMemory
from devmodels.memoryregions import GuestMemoryError
from devmodels.virtio.device import CORE_FEATURES, VirtioDevice
from devmodels.virtio.queue import VirtQueue
from devmodels.virtio.ring import Chain

IN_ORDER = 1 << 35
ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET, FAILED = 1, 2, 4, 8, 64, 128
RUNNING = ACKNOWLEDGE | DRIVER | DRIVER_OK | FEATURES_OK
OWN_CLAUSE = "device under test"


class Mode(Enum):
    """When a buffer is finished: in `handle`, when the test says so, or never (a reset drops it)."""

    AT_ONCE = "at once"
    LATER = "later"
    NEVER = "never"


@dataclass(eq=False)
class Job:
    """A buffer that the device has taken; `written` of its bytes are filled when it is finished."""

    chain: Chain
    queue: VirtQueue
    mode: Mode
    number: int


def pattern(number: int, length: int) -> bytes:
    """What job `number` writes."""
    return bytes((number * 31 + at) & 0xFF for at in range(length))


@dataclass
class Notifications:
    """The transport: what the device told the driver."""

    used: list[int] = field(default_factory=list)
    config: int = 0

    def notify_used(self, queue: int) -> None:
        self.used.append(queue)

    def notify_config(self) -> None:
        self.config += 1


class TestDevice(VirtioDevice):
    """`mode` and `fraction` (of the writable bytes, in percent) are for buffers taken from now on."""

    __test__ = False
    DEVICE_ID = 63
    CONFIG_SIZE = 0

    def __init__(
        self,
        memory: GuestMemory,
        *,
        num_queues: int = 1,
        queue_size: int = 256,
        features: int = CORE_FEATURES | IN_ORDER,
        violations: ViolationLog | None = None,
        config: bytes = b"",
    ) -> None:
        super().__init__(
            name="dut",
            context=IoContext.virtual(),
            memory=memory,
            features=features,
            num_queues=num_queues,
            queue_size=queue_size,
            violations=violations,
        )
        self.notifications = Notifications()
        self.transport = self.notifications
        self.mode = Mode.AT_ONCE
        self.fraction = 100
        self.taken: list[Job] = []
        self.waiting: list[Job] = []
        self.done: dict[int, int] = {}
        """What was written, by number of the job."""
        self.batches: list[int] = []
        """How many buffers each batch had; a buffer that comes alone is in none."""
        self.config = bytearray(config)
        self.resets = 0
        self.resuming: dict[int, Job] = {}
        """Jobs that another device had begun, by head: the same buffers come to this one when it is restored."""

    def go_on_from(self, other: TestDevice) -> None:
        """Remember what `other` did, before its state is restored here."""
        self.mode, self.fraction = other.mode, other.fraction
        self.taken = other.taken
        self.done = other.done
        self.resuming = {job.chain.head: job for job in other.waiting}

    def read_config(self, offset: int, size: int) -> int:
        return int.from_bytes(self.config[offset : offset + size], "little")

    def write_config(self, offset: int, size: int, value: int) -> None:
        self.config[offset : offset + size] = value.to_bytes(size, "little")

    def device_was_reset(self) -> None:
        self.resets += 1

    def handle(self, queue: VirtQueue, chains: Sequence[Chain]) -> None:
        if len(chains) > 1:
            self.batches.append(len(chains))
        for chain in chains:
            if chain.head in self.resuming:
                job = self.resuming.pop(chain.head)
                job.chain, job.queue = chain, queue
                self.waiting.append(job)
                continue
            job = Job(chain, queue, self.mode, len(self.taken))
            self.taken.append(job)
            if job.mode is Mode.AT_ONCE:
                self.complete(job)
            else:
                self.waiting.append(job)

    def complete(self, job: Job) -> None:
        """Fill the first part of the buffer and give it back."""
        if job in self.waiting:
            self.waiting.remove(job)
        written = job.chain.writable_bytes * self.fraction // 100
        try:
            dma = self.memory.map(job.chain.writable, Direction.FROM_DEVICE)
        except GuestMemoryError as error:
            self.violations.report(OWN_CLAUSE, str(error), job.queue.name)
            written = 0
        else:
            data = pattern(job.number, written)
            at = 0
            for view in dma.views:
                piece = data[at : at + len(view)]
                view[: len(piece)] = piece
                at += len(view)
            dma.unmap(written)
        self.done[job.number] = written
        job.queue.finish(((job.chain, written),))

    def cancel(self, queue: VirtQueue) -> None:
        for job in [job for job in self.waiting if job.mode is Mode.NEVER and job.queue is queue]:
            self.waiting.remove(job)
            del queue.in_flight[job.chain.head]

    # --- for tests

    def negotiate(self, features: int) -> None:
        """The driver's steps up to FEATURES_OK (§3.1.1)."""
        self.write_status(0)
        self.write_status(ACKNOWLEDGE)
        self.write_status(ACKNOWLEDGE | DRIVER)
        for select in (0, 1):
            self.write_features(features >> 32 * select & 0xFFFF_FFFF, select=select)
        self.write_status(ACKNOWLEDGE | DRIVER | FEATURES_OK)
        assert self.status == ACKNOWLEDGE | DRIVER | FEATURES_OK

    def set_queue(self, index: int, size: int, parts: tuple[int, int, int]) -> VirtQueue:
        """What a transport does with the driver's queue registers."""
        queue = self.queues[index]
        queue.size = size
        queue.desc, queue.driver, queue.device = parts
        return queue

    def go(self) -> None:
        """DRIVER_OK."""
        self.write_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK)

    def idle(self, turns: int = 1000) -> None:
        """Run until nothing is left to do; AssertionError where it does not end."""
        for _ in range(turns):
            if not self.context.turn():
                return
        raise AssertionError(f"still busy after {turns} turns")
