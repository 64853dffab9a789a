"""The machine, the driver of its rings, and the oracles together; what requests are is `blk`'s and `scsi`'s."""

from __future__ import annotations

import errno
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from devmodels.blockbackend.request import Op
from devmodels.iocontext import IoContext
from devmodels.memory import GuestMemory
from devmodels.runstate import RunState
from devmodels.virtio.device import VirtioDevice
from fuzz.ring.disk import FuzzedDisk
from fuzz.ring.ledger import SECTOR, Ledger
from fuzz.ring.oracles import Bounded, Entered, Shadow, Written
from fuzz.ring.transports import Over, Transport, carry
from guestsim.drivers.layouts import LEGACY_PAGE
from tests.doorbells import CountedMemory
from tests.unit.virtio.arena import Arena
from tests.unit.virtio.dut import DRIVER_OK, NEEDS_RESET
from tests.unit.virtio.model import (
    NOTIFICATION_DATA,
    RING_RESET,
    VERSION_1,
    Buffer,
    Driver,
    DriverRing,
    Form,
    Vector,
)
from tests.unit.virtio.packed_model import PackedDriverRing
from tests.unit.virtio.plain import Block, Kind, PlainMemory, regions

MEMORY = 0x1_0000
STAGE = 0xE000
SLOT = 0x1C00
"""Bytes of memory for a request."""
TABLE = 0xF000
"""512 bytes for hostile tables."""
MESSAGE = 0xF800
RING, RING_STEP = 0x10_0000, 2 * LEGACY_PAGE
MOST_QUEUES = 4
ACCESSES_OF_ONE = 4 * 16 + 16
"""What a buffer is worth: each of at most 16 elements is fetched, read as part of a table, mapped, and read or written
besides; the ring is looked at and written."""
RINGS = RING_STEP * MOST_QUEUES
QUEUE_SIZE = 16
SECTORS = 64
SUSPEND, SUSPEND_BIT = 1 << 43, 16


@dataclass(eq=False)
class Sent:
    """A request on its way: the sectors that it reads and those that it may change; `promised` is what a flush is for.

    `since` is when it was given out (`Written.now`).  `alone`: as long as nothing else is on its way that changes what
    it reads or changes.  `judge` is told `used.len` and what the writable part holds, where the device has said so.
    """

    queue: int
    buffer: Buffer
    slot: int
    since: int
    reads: range
    changes: range
    promised: dict[int, bytes | None]
    judge: Callable[[Sent, int, bytes], None] | None
    alone: bool = True

    def overlaps(self, other: Sent) -> bool:
        """Whether the device, writing one of them, may write the other."""
        mine, its = self.buffer, other.buffer
        return _touch(mine.writable, [*its.readable, *its.writable]) or _touch(mine.readable, its.writable)

    def meet(self, other: Sent) -> None:
        """Both are on their way."""
        mine, its = set(self.changes), set(other.changes)
        if mine & its or mine & set(other.reads) or its & set(self.reads):
            self.alone = other.alone = False


def _touch(some: Sequence[Vector], others: Sequence[Vector]) -> bool:
    return any(a < b + m and b < a + n for a, n in some for b, m in others)


def sectors(first: int, length: int) -> range:
    """Those of the disk of which `length` bytes from sector `first` on are."""
    return range(min(first, SECTORS), min(first + -(-length // SECTOR), SECTORS))


class RingBench(Arena):
    """A device with a disk of 64 sectors behind queues of 16 entries, by default with all that it offers."""

    stage: ClassVar[int] = STAGE
    piece: ClassVar[int] = 0
    """How much of its disk the device works at a time, where that is more than memory for a request."""

    def __init__(
        self,
        over: Over,
        *,
        kind: Kind,
        packed: bool = False,
        without: int = 0,
        write_cache: bool = True,
    ) -> None:
        self.over = over
        self.packed = packed
        self.at = 0
        half = MEMORY // 2
        blocks = [Block(RING, bytearray(RINGS)), Block(0, bytearray(half)), Block(half, bytearray(half))]
        self.plain = PlainMemory(blocks)
        memory = CountedMemory(*regions(self.plain, kind))
        self.context = IoContext.virtual()
        self.run_state = RunState()
        self.disk = FuzzedDisk(self.context, SECTORS * SECTOR)
        self.disks = [self.disk]
        self.write_cache = write_cache
        self.device = self.make(memory)
        worth = ACCESSES_OF_ONE, MEMORY + self.piece
        self.bounded = Bounded(self.device, self.context, memory, worth)
        self.entered = Entered(self.device, "kick", "handle", "write_status", "enable_queue", "reset_queue")
        self.messages = 0
        self.transport: Transport = carry(self.device, over, self._message)
        offered = self.device.device_features & ~without
        self.features = offered & 0xFFFF_FFFF if over.legacy else offered | VERSION_1
        self.written = Written(memory)
        self.shadow = Shadow(self.plain)
        self.ledger = Ledger(bytes(self.disk.data))
        self.sent: list[Sent] = []
        self.slots: list[int] = []
        """Pieces of memory in which no request lies."""
        self.scribbles: list[Vector] = []
        """Where the device may write beside buffers, as long as its driver has done something odd."""
        self.drivers: list[Driver] = []
        self.lost = True
        self.suspending = False
        """Whether the driver has asked for a suspension, and not resumed the device."""
        self.still = False
        """Whether the device was suspended when that was last looked at."""
        self.master = True
        self.begin()

    def _message(self, _address: int, _data: int) -> None:
        self.messages += 1

    # --- of the device type

    @abstractmethod
    def make(self, memory: GuestMemory) -> VirtioDevice:
        """The device, over `disk`."""

    @property
    @abstractmethod
    def write_through(self) -> bool:
        """Whether every write is stable when it is acknowledged."""

    @abstractmethod
    def prove(self) -> None:
        """Write, flush, and read that back."""

    # --- bringing up

    def begin(self) -> None:
        """The driver's steps to DRIVER_OK, after a reset."""
        self.transport.begin(self.features)
        self.drivers.clear()
        self.sent.clear()
        self.slots = list(range(STAGE // SLOT))
        for queue in range(min(self.device.usable_queues(), MOST_QUEUES)):
            self.drivers.append(self._ring(queue))
        self.transport.run()
        self.bounded.settle()
        self.lost = self.suspending = self.still = False

    def _ring(self, queue: int) -> Driver:
        """A new ring; the driver's side of it."""
        model: type[Driver] = PackedDriverRing if self.packed else DriverRing
        desc, avail, _ = model.sizes(QUEUE_SIZE)
        at = RING + RING_STEP * queue
        align = LEGACY_PAGE if self.over.legacy else 16
        parts = (at, at + desc, -(-(at + desc + avail) // align) * align)
        self.plain.store(at, bytes(RING_STEP))
        driver = model(self.plain, QUEUE_SIZE, parts, self.features)
        self.bounded.begun(queue)
        # The device may look at it at once.
        self.shadow.driver_wrote()
        self.transport.place(queue, QUEUE_SIZE, parts)
        return driver

    # --- requests

    @property
    def room(self) -> bool:
        """Whether there is memory for a request more, which is what is given out from now on."""
        if self.slots:
            self.at = self.slots[0] * SLOT
        return bool(self.slots)

    def place(
        self,
        queue: int,
        readable: list[Vector],
        writable: list[Vector],
        form: Form,
        *,
        reads: range = range(0),
        changes: range = range(SECTORS),
        judge: Callable[[Sent, int, bytes], None] | None = None,
    ) -> Sent | None:
        """Place a buffer, if the ring has room for it."""
        self.shadow.driver_wrote()
        driver = self.drivers[queue]
        count = len(readable) + len(writable)
        if not 0 < count <= QUEUE_SIZE or driver.descriptors_for(count, form) > driver.free:
            return None
        buffer = Buffer(readable, writable)
        driver.place(buffer, form, self.allocate(16 * count))
        slot, since = self.slots.pop(0), self.written.now
        sent = Sent(queue, buffer, slot, since, reads, changes, self.ledger.promised(), judge)
        self.ledger.begun(changes)
        for other in self.sent:
            sent.meet(other)
        self.sent.append(sent)
        if any(sent.overlaps(other) for other in self.sent[:-1]):
            self._muddle()
        self.shadow.driver_wrote()
        return sent

    def _muddle(self) -> None:
        """Buffers lie on one another: what comes of any that is out, nobody can say."""
        self.ledger.begun(range(SECTORS))
        self.scribbles.append((0, MEMORY))
        for sent in self.sent:
            sent.judge, sent.alone, sent.changes = None, False, range(SECTORS)

    def nonsense(self, queue: int, readable: list[Vector], writable: list[Vector], form: Form) -> None:
        """Place any buffer, if there is room for it and anything in it."""
        if self.room:
            self.place(queue, readable, writable, form)

    def noise(self, data: bytes) -> None:
        """What a request may be of, where hostile tables lie."""
        self.plain.store(TABLE, data)
        self.shadow.driver_wrote()

    def go(self, queue: int) -> None:
        """Expose what was placed, notify, and let the device work."""
        driver = self.drivers[queue]
        before = len(driver.out)
        driver.expose()
        self.bounded.made_available(queue, len(driver.out) - before)
        self.shadow.driver_wrote()
        with self.bounded.doorbell():
            self.transport.kick(queue, driver.notification if driver.has(NOTIFICATION_DATA) else -1)
        self.settle()

    def settle(self) -> None:
        """Let the device rest; look at what it has written and given back."""
        self.bounded.settle()
        self.look()
        if not self.lost and not self.transport.get("device_status") & NEEDS_RESET:
            self.collect()

    def look(self, *, dead: int | None = None) -> None:
        """Nothing was written but where it may be: nowhere while it is suspended, never to a `dead` queue."""
        suspended = bool(self.transport.get("device_status") & SUSPEND_BIT)
        allowed = [(MESSAGE, 4), *self.scribbles]
        if not (suspended and self.still):
            for queue, driver in enumerate(self.drivers):
                if queue != dead:
                    allowed.append((driver.parts[2], driver.sizes(QUEUE_SIZE)[2]))
                    allowed += [(driver.parts[0], driver.sizes(QUEUE_SIZE)[0])] * self.packed
            allowed += [vector for each in self.sent for vector in each.buffer.writable]
        self.shadow.check(allowed)
        if suspended and not self.still:
            assert not any(queue.in_flight for queue in self.device.queues), "suspended with work to do"
        self.still = suspended

    def collect(self) -> None:
        """Judge what has come back."""
        back = []
        for driver in self.drivers:
            for used in driver.collect():
                sent = next(each for each in self.sent if each.buffer is used.buffer)
                self.sent.remove(sent)
                self.slots.append(sent.slot)
                # What an IN_ORDER ring skips was used completely (VIRTIO 1.4 §2.7.9, §2.8.8).
                back.append((sent, sent.buffer.writable_bytes if used.length is None else used.length))
        for sent, length in back:
            self.written.check(sent.buffer.writable, length, sent.since)
        for sent, length in back:
            if sent.judge is not None:
                sent.judge(sent, length, self.content(sent.buffer.writable))
        if back:
            self.ledger.check_stable(self.disk.stable)

    # --- suspension (VIRTIO 1.4 §3.4)

    def suspend(self) -> None:
        """Ask for it, where it was negotiated."""
        if self.features & SUSPEND and not self.lost:
            self.suspending = True
            self.transport.set("device_status", self.transport.get("device_status") | SUSPEND_BIT)
            self.settle()

    def resume(self) -> None:
        """Go on with a device that is suspended."""
        status = self.transport.get("device_status")
        if status & SUSPEND_BIT and not self.lost:
            self.suspending = self.still = False
            self.transport.set("device_status", status | DRIVER_OK)
            self.settle()

    def bus_master(self, on: bool) -> None:
        """Whether it may reach memory, where there is such a thing."""
        self.master = on
        self.transport.bus_master(on)
        self.settle()

    # --- resets, and the end

    def hold(self) -> None:
        """Requests of disks wait from now on."""
        for disk in self.disks:
            disk.hold()

    def release(self) -> None:
        """All that waits goes on."""
        for disk in self.disks:
            disk.release()

    def fail(self, op: Op) -> None:
        """Such operations fail from now on."""
        self.disk.fail[op] = errno.EIO

    def _go_on(self) -> None:
        self.release()
        self.run_state.cont()
        self.bounded.settle()

    def reset_queue(self, queue: int, *, released: bool) -> None:
        """Reset one queue; when that is over, nothing of what was in it happens any more, and it begins anew."""
        status = self.transport.get("device_status")
        if self.lost or self.suspending or status & NEEDS_RESET:
            return
        if not (self.over.legacy or self.features & RING_RESET):
            return
        self.transport.reset_queue(queue)
        if released:
            self.release()
        self.bounded.settle()
        if self.transport.queue_resetting(queue):
            # What has begun is waited for.
            self._go_on()
        assert not self.transport.queue_resetting(queue), "the reset of a queue does not end"
        self.look()
        for sent in [each for each in self.sent if each.queue == queue]:
            self.sent.remove(sent)
            self.slots.append(sent.slot)
        self._go_on()
        self.look(dead=queue)
        self.drivers[queue] = self._ring(queue)
        self.settle()
        if not self.sent:
            assert self.held == (0, 0), "memory is still mapped after the reset of a queue"

    def reset(self, *, released: bool) -> None:
        """Reset the device; when it says that it is done, nothing of what was before happens any more."""
        self.transport.set("device_status", 0)
        if released:
            self.release()
        self.bounded.settle()
        if self.transport.get("device_status"):
            # What has begun is waited for.
            self._go_on()
        assert self.transport.get("device_status") == 0, "the reset does not end"
        self.look()
        self.quiet()
        self.scribbles.clear()
        self.begin()

    def quiet(self) -> None:
        """Let everything go on that could: memory, disk and loans stay what they are."""
        self.shadow.driver_wrote()
        for disk in self.disks:
            disk.late, disk.frozen = 0, True
        self._go_on()
        for disk in self.disks:
            disk.frozen = False
            assert not disk.late, "a request went on after the reset"
        self.shadow.check([])
        assert self.held == (0, 0), "memory is still mapped after the reset"

    def works(self) -> None:
        """A driver that begins anew finds a device that works."""
        for disk in self.disks:
            disk.fail.clear()
        self.bus_master(True)
        self.reset(released=True)
        self.prove()
        self.ledger.check_stable(self.disk.stable)
