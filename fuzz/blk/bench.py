"""The machine, the driver, and the oracles together."""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass
from typing import ClassVar

from devmodels.blockbackend.backend import BlockBackend
from devmodels.blockbackend.request import Op
from devmodels.conformance import ViolationLog
from devmodels.iocontext import IoContext
from devmodels.runstate import RunState
from devmodels.virtio_blk import VirtioBlk, VirtioBlkOptions
from fuzz.blk.disk import FuzzedDisk
from fuzz.blk.oracles import SECTOR, Bounded, Entered, Ledger, Shadow, Written
from fuzz.blk.transports import OverMmio, OverPci, Transport
from tests.unit.virtio.arena import Arena
from tests.unit.virtio.blkrig import FLUSH, GET_ID, IN, OK, OUT, header
from tests.unit.virtio.dut import ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET
from tests.unit.virtio.model import NOTIFICATION_DATA, VERSION_1, Buffer, Driver, DriverRing, Form, Vector
from tests.unit.virtio.packed_model import PackedDriverRing
from tests.unit.virtio.plain import Block, Kind, PlainMemory, guest_memory

MEMORY = 0x1_0000
STAGE = 0xE000
SLOT = 0x1C00
"""Bytes of memory for a request."""
TABLE = 0xF000
"""512 bytes for hostile tables."""
MESSAGE = 0xF800
RING, RING_SIZE = 0x10_0000, 0x2000
QUEUE_SIZE = 16
SECTORS = 64
WRITEBACK = 32
"""Of the device configuration."""
F_FLUSH, F_CONFIG_WCE = 1 << 9, 1 << 11
ANYTHING = -1
"""The kind of a request of which nobody knows what it is."""


@dataclass(eq=False)
class Sent:
    """A request on its way: the sectors that it reads and those that it may change; `promised` is what a flush is for.

    `alone`: as long as nothing else is on its way that changes what it reads or changes.
    """

    buffer: Buffer
    kind: int
    sector: int
    data: bytes
    promised: dict[int, bytes | None]
    slot: int
    since: int
    alone: bool = True

    @property
    def reads(self) -> range:
        """Of an IN."""
        return self._sectors(self.buffer.writable_bytes - 1) if self.kind == IN else range(0)

    @property
    def changes(self) -> range:
        """Of an OUT; what others do is not followed so closely."""
        if self.kind in (IN, FLUSH, GET_ID):
            return range(0)
        return self._sectors(len(self.data)) if self.kind == OUT else range(SECTORS)

    def _sectors(self, length: int) -> range:
        return range(min(self.sector, SECTORS), min(self.sector + -(-length // SECTOR), SECTORS))

    def meet(self, other: Sent) -> None:
        """Both are on their way."""
        mine, its = set(self.changes), set(other.changes)
        if mine & its or mine & set(other.reads) or its & set(self.reads):
            self.alone = other.alone = False


class BlkBench(Arena):
    """A disk of 64 sectors behind one queue of 16 entries, by default with all that the device offers."""

    stage: ClassVar[int] = STAGE

    def __init__(
        self, *, pci: bool, packed: bool, kind: Kind, without: int = 0, write_cache: bool = True
    ) -> None:
        self.packed = packed
        self.at = 0
        half = MEMORY // 2
        blocks = [Block(RING, bytearray(RING_SIZE)), Block(0, bytearray(half)), Block(half, bytearray(half))]
        self.plain = PlainMemory(blocks)
        memory = guest_memory(self.plain, kind)
        self.context = IoContext.virtual()
        self.run_state = RunState()
        self.disk = FuzzedDisk(self.context, SECTORS * SECTOR)
        self.backend = BlockBackend(self.disk, name="d0", run_state=self.run_state, write_cache=write_cache)
        options = VirtioBlkOptions(queue_size=QUEUE_SIZE, packed=packed, in_order=True, secure_erase=True)
        self.device = VirtioBlk(
            self.backend,
            options,
            name="vd0",
            context=self.context,
            memory=memory,
            violations=ViolationLog(),
        )
        self.bounded = Bounded(self.device, self.context)
        self.entered = Entered(self.device, "kick", "handle", "write_status", "enable_queue", "reset_queue")
        self.messages = 0
        self.transport: Transport = OverPci(self.device, self._message) if pci else OverMmio(self.device)
        self.features = self.device.device_features & ~without
        self.written = Written(memory)
        self.shadow = Shadow(self.plain)
        self.ledger = Ledger(bytes(self.disk.data))
        self.sent: list[Sent] = []
        self.slots: list[int] = []
        """Pieces of memory in which no request lies."""
        self.scribbles: list[Vector] = []
        """Where the device may write beside buffers, as long as its driver has done something odd."""
        self.driver: Driver
        self.lost = True
        self.begin()

    def _message(self, _address: int, _data: int) -> None:
        self.messages += 1

    # --- bringing up

    def begin(self) -> None:
        """The driver's steps to DRIVER_OK, after a reset."""
        put = self.transport.set
        put("device_status", ACKNOWLEDGE)
        put("device_status", ACKNOWLEDGE | DRIVER)
        accepted = self.features | VERSION_1
        for select in (0, 1):
            put("driver_feature_select", select)
            put("driver_feature", accepted >> 32 * select & 0xFFFF_FFFF)
        put("device_status", ACKNOWLEDGE | DRIVER | FEATURES_OK)
        assert self.transport.get("device_status") & FEATURES_OK
        self.begin_queue()
        put("device_status", ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK)
        self.bounded.settle()
        self.lost = False

    def begin_queue(self) -> None:
        """A new ring."""
        model: type[Driver] = PackedDriverRing if self.packed else DriverRing
        desc, avail, _ = model.sizes(QUEUE_SIZE)
        parts = (RING, RING + desc, RING + desc + avail + 15 & ~15)
        self.plain.store(RING, bytes(RING_SIZE))
        self.driver = model(self.plain, QUEUE_SIZE, parts, self.features | VERSION_1)
        self.bounded.begun()
        self.sent.clear()
        self.slots = list(range(STAGE // SLOT))
        put = self.transport.set
        put("queue_select", 0)
        put("queue_size", QUEUE_SIZE)
        for name, address in zip(("queue_desc", "queue_driver", "queue_device"), parts, strict=True):
            put(name, address)
        put("queue_enable", 1)
        self.shadow.driver_wrote()

    @property
    def write_through(self) -> bool:
        """Whether every write is stable when it is acknowledged (VIRTIO 1.4 §5.2.5.2)."""
        if self.features & F_CONFIG_WCE:
            return not self.transport.machine.read(self.transport.where[4] + WRITEBACK, 1)
        return not self.features & F_FLUSH

    # --- requests

    def send(self, kind: int, sector: int, data: bytes, room: int, form: Form, cuts: list[int]) -> None:
        """Place a well-formed request, if the ring has room for it."""
        if self.slots:
            self.at = self.slots[0] * SLOT
            readable = self.readable(header(kind, sector) + data, [16, *cuts])
            writable = self.writable(room + 1, [room, *cuts])
            self.shadow.driver_wrote()
            self._place(readable, writable, form, kind, sector, data)

    def nonsense(self, readable: list[Vector], writable: list[Vector], form: Form) -> None:
        """Place any buffer, if there is room for it and anything in it."""
        if self.slots and readable + writable:
            self.at = self.slots[0] * SLOT
            self._place(readable, writable, form, ANYTHING, 0, b"")

    def _place(
        self,
        readable: list[Vector],
        writable: list[Vector],
        form: Form,
        kind: int,
        sector: int,
        data: bytes,
    ) -> None:
        count = len(readable) + len(writable)
        if count > QUEUE_SIZE or self.driver.descriptors_for(count, form) > self.driver.free:
            return
        buffer = Buffer(readable, writable)
        self.driver.place(buffer, form, self.allocate(16 * count))
        sent = Sent(buffer, kind, sector, data, self.ledger.promised(), self.slots.pop(0), self.written.now)
        self.ledger.begun(sent.changes)
        for other in self.sent:
            sent.meet(other)
        self.sent.append(sent)
        self.shadow.driver_wrote()

    def go(self) -> None:
        """Expose what was placed, notify, and let the device work."""
        before = len(self.driver.out)
        self.driver.expose()
        self.bounded.made_available(len(self.driver.out) - before)
        self.shadow.driver_wrote()
        data = self.driver.notification << 16 if self.driver.has(NOTIFICATION_DATA) else 0
        self.transport.notify(0, data)
        self.settle()

    def settle(self) -> None:
        """Let the device rest; look at what it has written and given back."""
        self.bounded.settle()
        self.check_memory()
        if not self.lost and not self.transport.get("device_status") & NEEDS_RESET:
            self.collect()

    def check_memory(self) -> None:
        """Nothing was written but where it may be."""
        rings = [(self.driver.parts[2], self.driver.sizes(QUEUE_SIZE)[2])]
        if self.packed:
            rings.append((RING, self.driver.sizes(QUEUE_SIZE)[0]))
        buffers = [vector for each in self.sent for vector in each.buffer.writable]
        self.shadow.check([*rings, *buffers, *self.scribbles, (MESSAGE, 4)])

    def collect(self) -> None:
        """Judge what has come back."""
        for used in self.driver.collect():
            sent = next(each for each in self.sent if each.buffer is used.buffer)
            self.sent.remove(sent)
            self.slots.append(sent.slot)
            writable = sent.buffer.writable
            length = sent.buffer.writable_bytes if used.length is None else used.length
            self.written.check(writable, length, sent.since)
            if length == sent.buffer.writable_bytes and sent.kind >= 0:
                self.judge(sent, self.content(writable))

    def judge(self, sent: Sent, content: bytes) -> None:
        """What its driver learns from an answer."""
        if content[-1:] != bytes([OK]):
            # What was not read is zeroes: a driver may look at all that `used.len` covers.
            assert sent.kind != IN or not any(content[:-1]), "used.len covers what was there before"
            return
        if sent.kind == OUT and sent.alone:
            self.ledger.written(sent.sector, sent.data, stable=self.write_through)
        elif sent.kind == IN and sent.alone:
            self.ledger.check_read(sent.sector, content[:-1])
        elif sent.kind == FLUSH:
            self.ledger.flushed(sent.promised)
        self.ledger.check_stable(self.disk.stable)

    # --- resets, and the end

    def reset(self, *, released: bool) -> None:
        """Reset the device; when it says that it is done, nothing of what was before happens any more."""
        self.transport.set("device_status", 0)
        if released:
            self.disk.release()
        self.bounded.settle()
        if self.transport.get("device_status"):
            # What has begun is waited for.
            self.disk.release()
            self.run_state.cont()
            self.bounded.settle()
        assert self.transport.get("device_status") == 0, "the reset does not end"
        self.check_memory()
        self.quiet()
        self.sent.clear()
        self.scribbles.clear()
        self.begin()

    def quiet(self) -> None:
        """Let everything go on that could: memory, disk and loans stay what they are."""
        self.shadow.driver_wrote()
        self.disk.late, self.disk.frozen = 0, True
        self.disk.release()
        self.run_state.cont()
        self.bounded.settle()
        self.disk.frozen = False
        assert not self.disk.late, "a request went on after the reset"
        self.shadow.check([])
        assert self.held == (0, 0), "memory is still mapped after the reset"

    def works(self) -> None:
        """A driver that begins anew writes, flushes, and reads that back."""
        self.disk.fail.clear()
        self.disk.release()
        self.run_state.cont()
        self.reset(released=True)
        data = bytes(range(256)) * 2
        for kind, out, room in ((OUT, data, 0), (FLUSH, b"", 0), (IN, b"", SECTOR)):
            before = len(self.sent)
            self.send(kind, 3, out, room, Form.DIRECT, [])
            sent = self.sent[-1]
            self.go()
            assert len(self.sent) == before, "the device does not answer after a reset"
            assert self.content(sent.buffer.writable)[-1] == OK
        self.ledger.check_read(3, data)
        self.ledger.check_stable(self.disk.stable)

    def fail(self, op: Op) -> None:
        """Such operations fail from now on."""
        self.disk.fail[op] = errno.EIO

    def noise(self, kind: int, sector: int, data: bytes) -> None:
        """What a request may be of, where hostile tables lie."""
        self.plain.store(TABLE, struct.pack("<IIQ", kind, 0, sector) + data)
        self.shadow.driver_wrote()
