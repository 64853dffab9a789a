"""A virtio SCSI host device with disks that a test can look into, hold and break, driven ring entry by ring entry.

Numbers and layouts are those of VIRTIO 1.4 §5.6, written down again here.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from devmodels.blockbackend.backend import BlockBackend
from devmodels.conformance import Profile, ViolationLog
from devmodels.iocontext import IoContext
from devmodels.runstate import RunState
from devmodels.scsi.disk import Disk as ScsiDisk
from devmodels.scsi.disk import DiskOptions
from devmodels.virtio.queue import VirtQueue
from devmodels.virtio_scsi import VirtioScsi, VirtioScsiOptions
from tests.unit.virtio.arena import Arena
from tests.unit.virtio.blkrig import Disk
from tests.unit.virtio.dut import ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, Notifications
from tests.unit.virtio.model import VERSION_1, Buffer, Driver, DriverRing, Form, Vector
from tests.unit.virtio.packed_model import RING_PACKED, PackedDriverRing
from tests.unit.virtio.plain import Block, Kind, PlainMemory, guest_memory

CONTROL, EVENT, REQUEST = 0, 1, 2

S_OK, S_OVERRUN, S_ABORTED, S_BAD_TARGET, S_RESET, S_BUSY = range(6)
S_TRANSPORT_FAILURE, S_TARGET_FAILURE, S_NEXUS_FAILURE, S_FAILURE = 6, 7, 8, 9
S_FUNCTION_SUCCEEDED, S_FUNCTION_REJECTED, S_INCORRECT_LUN = 10, 11, 12

F_INOUT, F_HOTPLUG, F_CHANGE, F_T10_PI = 0, 1, 2, 3

GOOD, CHECK_CONDITION = 0x00, 0x02

ABORT_TASK, ABORT_TASK_SET, CLEAR_ACA, CLEAR_TASK_SET = range(4)
I_T_NEXUS_RESET, LOGICAL_UNIT_RESET, QUERY_TASK, QUERY_TASK_SET = range(4, 8)

TEST_UNIT_READY = bytes(6)
INQUIRY = struct.pack(">BBBHB", 0x12, 0, 0, 36, 0)

ARENA = 0x10_0000
STAGE = 0x4_0000
RING = 0x80_0000
RING_STEP = 0x1_0000


def lun_of(target: int = 0, lun: int = 0) -> bytes:
    """A `lun` field with flat addressing, as drivers write it."""
    return struct.pack(">BBH4x", 1, target, 0x4000 | lun)


def read_10(lba: int, blocks: int) -> bytes:
    return struct.pack(">BBIBHB", 0x28, 0, lba, 0, blocks, 0)


def write_10(lba: int, blocks: int) -> bytes:
    return struct.pack(">BBIBHB", 0x2A, 0, lba, 0, blocks, 0)


@dataclass
class Sent:
    """A request on its way: where its parts lie; `length` is `used.len`, once it has come back."""

    queue: int
    buffer: Buffer
    readable: Sequence[Vector]
    writable: Sequence[Vector]
    sense_size: int = 96
    length: int | None = None


@dataclass(frozen=True)
class Answer:
    """The response of a command, its data, and what the ring says."""

    response: int
    status: int
    residual: int
    sense: bytes
    data: bytes
    length: int
    padding: bytes
    """What the room for sense data holds beyond `sense_len`."""

    @property
    def sense_triple(self) -> tuple[int, int, int]:
        """Key, ASC, ASCQ of fixed sense data."""
        return self.sense[2] & 0xF, self.sense[12], self.sense[13]


@dataclass
class ScsiRig(Arena):
    stage = STAGE
    plain: PlainMemory
    disks: dict[tuple[int, int], Disk]
    device: VirtioScsi
    drivers: list[Driver]
    notifications: Notifications
    run_state: RunState
    at: int = 0
    tag: int = 0
    cdb_size: int = 32
    sense_size: int = 96
    sent: list[Sent] = field(default_factory=list)
    order: list[Sent] = field(default_factory=list)
    """What has come back, in the order in which it was seen."""

    # --- queues

    def place(self, queue: int, readable: Sequence[Vector], writable: Sequence[Vector]) -> Sent:
        buffer = Buffer(readable, writable)
        self.drivers[queue].place(buffer, Form.DIRECT, self.allocate(16 * (len(readable) + len(writable))))
        sent = Sent(queue, buffer, readable, writable, self.sense_size)
        self.sent.append(sent)
        return sent

    def go(self, queue: int = REQUEST) -> None:
        self.drivers[queue].expose()
        self.device.kick(queue)
        self.settle()

    def settle(self) -> None:
        for _ in range(1000):
            if not self.device.context.turn():
                break
        else:
            raise AssertionError("the device never rests")
        self.collect()

    def collect(self) -> None:
        for driver in self.drivers:
            for used in driver.collect():
                sent = next(each for each in self.sent if each.buffer is used.buffer)
                self.sent.remove(sent)
                self.order.append(sent)
                sent.length = used.buffer.writable_bytes if used.length is None else used.length

    # --- commands

    def start(
        self,
        cdb: bytes,
        data: bytes = b"",
        room: int = 0,
        *,
        lun: bytes = lun_of(),
        tag: int | None = None,
        attribute: int = 0,
        queue: int = REQUEST,
        cuts: tuple[Sequence[int], Sequence[int]] | None = None,
    ) -> Sent:
        """Place a command; `cuts` says where the readable and the writable part are cut."""
        self.tag += 1
        header = lun + struct.pack("<QBBB", self.tag if tag is None else tag, attribute, 0, 0)
        header += cdb.ljust(self.cdb_size, b"\0")
        out_cuts, in_cuts = ((len(header),), (12 + self.sense_size,)) if cuts is None else cuts
        readable = self.readable(header + data, out_cuts)
        return self.place(queue, readable, self.writable(12 + self.sense_size + room, in_cuts))

    def answer(self, sent: Sent) -> Answer:
        assert sent.length is not None, "the command has not come back"
        content = self.content(sent.writable)
        sense_len, residual, qualifier, status, response = struct.unpack_from("<IIHBB", content)
        assert qualifier == 0
        end = 12 + sent.sense_size
        sense = content[12 : 12 + sense_len]
        return Answer(
            response, status, residual, sense, content[end:], sent.length, content[12 + sense_len : end]
        )

    def send(
        self,
        cdb: bytes,
        data: bytes = b"",
        room: int = 0,
        *,
        lun: bytes = lun_of(),
        queue: int = REQUEST,
        attribute: int = 0,
        cuts: tuple[Sequence[int], Sequence[int]] | None = None,
    ) -> Answer:
        sent = self.start(cdb, data, room, lun=lun, queue=queue, attribute=attribute, cuts=cuts)
        self.go(queue)
        return self.answer(sent)

    def ready(self, lun: bytes = lun_of()) -> None:
        """Take the unit's attention conditions away."""
        while self.send(TEST_UNIT_READY, lun=lun).status != GOOD:
            pass

    # --- task management

    def start_control(self, request: bytes, room: int = 1) -> Sent:
        sent = self.place(CONTROL, self.readable(request), self.writable(room))
        self.go(CONTROL)
        return sent

    def control(self, request: bytes, room: int = 1) -> bytes:
        """What of the answer was written."""
        sent = self.start_control(request, room)
        assert sent.length is not None, "the request has not come back"
        return self.content(sent.writable)[: sent.length]

    def manage(self, subtype: int, *, lun: bytes = lun_of(), tag: int = 0) -> int:
        (response,) = self.control(struct.pack("<II", 0, subtype) + lun + struct.pack("<Q", tag))
        return response

    # --- events

    def offer_events(self, count: int = 1, room: int = 16) -> list[Sent]:
        offered = [self.place(EVENT, [], self.writable(room)) for _ in range(count)]
        self.go(EVENT)
        return offered

    def event(self, sent: Sent) -> tuple[int, bytes, int] | None:
        """Event, LUN and reason; None where the buffer has not come back."""
        if sent.length is None:
            return None
        assert sent.length == 16
        event, lun, reason = struct.unpack("<I8sI", self.content(sent.writable)[:16])
        return event, lun, reason

    # --- the bus

    def plug(self, target: int, lun: int, size: int = 1 << 16, **options: object) -> Disk:
        context = self.device.context
        disk = self.disks[target, lun] = Disk(context, size)
        backend = BlockBackend(disk, name=f"d{target}.{lun}", run_state=self.run_state)
        unit = ScsiDisk(
            backend,
            DiskOptions(**options),  # type: ignore[arg-type]
            name=f"disk {target}.{lun}",
            violations=self.device.violations,
        )
        self.device.plug(target, lun, unit)
        return disk

    @property
    def disk(self) -> Disk:
        return self.disks[0, 0]


def scsi(
    *units: tuple[int, int],
    kind: Kind = Kind.SHARED,
    without: int = 0,
    ring: int = 64,
    size: int = 1 << 16,
    **options: object,
) -> ScsiRig:
    """A device with disks at `units` (target 0 LUN 0 by default) and running queues, all that it offers negotiated.

    `options` are those of the device, and `profile`.
    """
    profile = Profile(options.pop("profile", Profile.STRICT))
    given: dict[str, object] = {"virtqueue_size": ring, **options}
    queues = 2 + int(str(given.get("num_queues", 1)))
    half = ARENA // 2
    plain = PlainMemory(
        [
            Block(RING, bytearray(RING_STEP * queues)),
            Block(0, bytearray(half)),
            Block(half, bytearray(half)),
        ]
    )
    device = VirtioScsi(
        VirtioScsiOptions(**given),  # type: ignore[arg-type]
        name="vs0",
        context=IoContext.virtual(),
        memory=guest_memory(plain, kind),
        violations=ViolationLog(profile),
    )
    notifications = Notifications()
    device.transport = notifications
    rig = ScsiRig(plain, {}, device, [], notifications, RunState())
    for target, lun in units or ((0, 0),):
        rig.plug(target, lun, size)
    bring_up(rig, device.device_features & ~without)
    return rig


def bring_up(rig: ScsiRig, features: int) -> None:
    """The driver's steps to DRIVER_OK with every queue."""
    device = rig.device
    device.write_status(0)
    device.write_status(ACKNOWLEDGE)
    device.write_status(ACKNOWLEDGE | DRIVER)
    for select in (0, 1):
        device.write_features((features | VERSION_1) >> 32 * select & 0xFFFF_FFFF, select=select)
    device.write_status(ACKNOWLEDGE | DRIVER | FEATURES_OK)
    rig.drivers[:] = [set_up(rig, queue, features) for queue in device.queues]
    device.write_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK)
    rig.sent.clear()
    rig.settle()


def set_up(rig: ScsiRig, queue: VirtQueue, features: int) -> Driver:
    """A new ring of one queue, enabled; the driver's side of it."""
    model: type[Driver] = PackedDriverRing if features & RING_PACKED else DriverRing
    size = queue.size
    at = RING + RING_STEP * queue.index
    rig.plain.store(at, bytes(RING_STEP))
    desc, avail, _ = model.sizes(size)
    parts = (at, at + desc, at + desc + avail + 15 & ~15)
    queue.desc, queue.driver, queue.device = parts
    rig.device.enable_queue(queue)
    return model(rig.plain, size, parts, features | VERSION_1)
