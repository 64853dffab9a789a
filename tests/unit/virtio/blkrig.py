"""A virtio block device over a disk that a test can look into, stop and break, driven ring entry by ring entry.

Numbers and layouts are those of VIRTIO 1.4 §5.2, written down again here.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from devmodels.blockbackend.backend import BlockBackend
from devmodels.blockbackend.node import BlockNode
from devmodels.blockbackend.options import Discard, NodeOptions
from devmodels.blockbackend.request import Flags, Op, Read, Request
from devmodels.conformance import Profile, ViolationLog
from devmodels.iocontext import Event, IoContext
from devmodels.runstate import RunState
from devmodels.virtio_blk import VirtioBlk, VirtioBlkOptions
from tests.unit.virtio.arena import Arena
from tests.unit.virtio.dut import ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, Notifications
from tests.unit.virtio.model import VERSION_1, Buffer, Driver, DriverRing, Form, Vector
from tests.unit.virtio.packed_model import RING_PACKED, PackedDriverRing
from tests.unit.virtio.plain import Block, Kind, PlainMemory, guest_memory
from tests.unit.virtio.rig import RING, ring_parts

IN, OUT, FLUSH, GET_ID, GET_LIFETIME, DISCARD, WRITE_ZEROES, SECURE_ERASE = 0, 1, 4, 8, 10, 11, 13, 14
OK, IOERR, UNSUPP = 0, 1, 2

F_SIZE_MAX, F_SEG_MAX, F_RO, F_BLK_SIZE, F_FLUSH, F_CONFIG_WCE, F_MQ = 1, 2, 5, 6, 9, 11, 12
F_DISCARD, F_WRITE_ZEROES, F_LIFETIME, F_SECURE_ERASE = 13, 14, 15, 16

SECTOR = 512
ARENA = 0x40_0000
"""Bytes of guest memory for buffers, from address 0; it lies in two regions."""
STAGE = 0x10_0000
"""Bytes of buffers that a test may use before addresses come round."""

CONTENT = bytes(at * 7 + at // 512 & 0xFF for at in range(1 << 17))


class Disk(BlockNode):
    """`data` is the disk; `log` is what was asked; `fail` gives an errno by operation; `gate` holds requests back."""

    def __init__(
        self, context: IoContext, size: int, *, read_only: bool = False, discard: Discard = "unmap"
    ) -> None:
        super().__init__(
            NodeOptions(driver="disk", node_name="d0", read_only=read_only, discard=discard), context, size
        )
        self.data = bytearray((CONTENT * (size // len(CONTENT) + 1))[:size])
        self.log: list[tuple[Op, int, int, Flags]] = []
        self.fail: dict[Op, int] = {}
        self.bad_sectors: set[int] = set()
        self.gate: Event | None = None
        self.unmaps = True

    @property
    def can_unmap(self) -> bool:
        return self.unmaps

    async def _enter(self, request: Request) -> None:
        self.log.append((request.op, request.offset, request.length, request.flags))
        if self.gate is not None:
            await self.gate.wait()
        if request.op in self.fail:
            raise OSError(self.fail[request.op], "as told")
        sectors = range(request.offset // SECTOR, (request.offset + request.length) // SECTOR)
        if not self.bad_sectors.isdisjoint(sectors):
            raise OSError(errno.EIO, "bad sector")

    def read_now(self, reads: Sequence[Read]) -> int:
        if self.gate is not None or self.fail or self.bad_sectors:
            return 0
        for offset, vectors, length in reads:
            self.log.append((Op.READ, offset, length, Flags.NONE))
            self._copy_out(offset, vectors)
        return len(reads)

    async def read(self, request: Request) -> None:
        await self._enter(request)
        self._copy_out(request.offset, request.vectors)

    def _copy_out(self, at: int, vectors: Sequence[memoryview]) -> None:
        for vector in vectors:
            vector[:] = self.data[at : at + len(vector)]
            at += len(vector)

    async def write(self, request: Request) -> None:
        await self._enter(request)
        at = request.offset
        for vector in request.vectors:
            self.data[at : at + len(vector)] = vector
            at += len(vector)

    async def flush(self, request: Request) -> None:
        await self._enter(request)

    async def discard(self, request: Request) -> None:
        await self._enter(request)

    async def write_zeroes(self, request: Request) -> None:
        await self._enter(request)
        self.data[request.offset : request.offset + request.length] = bytes(request.length)

    async def secure_erase(self, request: Request) -> None:
        await self.write_zeroes(request)

    async def truncate(self, size: int) -> None:
        self.data[:] = self.data[:size].ljust(size, b"\0")
        self._resized(size)


@dataclass
class Sent:
    """A request on its way: where its parts lie."""

    buffer: Buffer
    readable: Sequence[Vector]
    writable: Sequence[Vector]
    length: int | None = None
    """`used.len`, once it has come back."""


@dataclass(frozen=True)
class Answer:
    """`data` is the writable part without its last byte, `status` that byte, `length` what the ring says."""

    status: int
    length: int
    data: bytes


@dataclass
class BlkRig(Arena):
    stage = STAGE
    plain: PlainMemory
    disk: Disk
    backend: BlockBackend
    device: VirtioBlk
    driver: Driver
    notifications: Notifications
    run_state: RunState
    at: int = 0
    sent: list[Sent] = field(default_factory=list)

    # --- requests

    def place(self, readable: Sequence[Vector], writable: Sequence[Vector], form: Form = Form.DIRECT) -> Sent:
        buffer = Buffer(readable, writable)
        table = self.allocate(16 * (len(readable) + len(writable)))
        self.driver.place(buffer, form, table)
        sent = Sent(buffer, readable, writable)
        self.sent.append(sent)
        return sent

    def go(self) -> None:
        """Expose what was placed, notify, let everything run, and collect what has come back."""
        self.driver.expose()
        self.device.kick(0)
        self.settle()

    def settle(self) -> None:
        for _ in range(1000):
            if not self.device.context.turn():
                break
        else:
            raise AssertionError("the device never rests")
        for used in self.driver.collect():
            sent = next(each for each in self.sent if each.buffer is used.buffer)
            self.sent.remove(sent)
            # What an IN_ORDER ring skips was used completely.
            sent.length = used.buffer.writable_bytes if used.length is None else used.length

    def answer(self, sent: Sent) -> Answer:
        assert sent.length is not None, "the request has not come back"
        content = self.content(sent.writable)
        return Answer(content[-1], sent.length, content[:-1])

    def send(
        self,
        kind: int,
        sector: int = 0,
        data: bytes = b"",
        room: int = 0,
        *,
        reserved: int = 0,
        cuts: tuple[Sequence[int], Sequence[int]] | None = None,
    ) -> Answer:
        """One request from beginning to end: header and `data` out, `room` bytes and a status in."""
        sent = self.start(kind, sector, data, room, reserved=reserved, cuts=cuts)
        self.go()
        return self.answer(sent)

    def start(
        self,
        kind: int,
        sector: int = 0,
        data: bytes = b"",
        room: int = 0,
        *,
        reserved: int = 0,
        cuts: tuple[Sequence[int], Sequence[int]] | None = None,
    ) -> Sent:
        """Place a request; `cuts` says where the readable and the writable part are cut."""
        out_cuts, in_cuts = ((16,), (room,)) if cuts is None else cuts
        readable = self.readable(header(kind, sector, reserved) + data, out_cuts)
        return self.place(readable, self.writable(room + 1, in_cuts))

    @property
    def used_operations(self) -> list[Op]:
        return [entry[0] for entry in self.disk.log]


OPERATION = "VIRTIO 1.4 §5.2.6.1"
RANGES = [(DISCARD, F_DISCARD), (WRITE_ZEROES, F_WRITE_ZEROES), (SECURE_ERASE, F_SECURE_ERASE)]


def header(kind: int, sector: int = 0, reserved: int = 0) -> bytes:
    return struct.pack("<IIQ", kind, reserved, sector)


def segment(sector: int, count: int, flags: int = 0) -> bytes:
    """struct virtio_blk_discard_write_zeroes."""
    return struct.pack("<QII", sector, count, flags)


def blk(
    size: int = 1 << 18,
    *,
    kind: Kind = Kind.SHARED,
    features: int | None = None,
    without: int = 0,
    read_only: bool = False,
    node_discard: Discard = "unmap",
    backend_cache: bool = True,
    ring: int = 64,
    options: Mapping[str, object] | None = None,
    profile: Profile = Profile.STRICT,
    **more_options: object,
) -> BlkRig:
    """A device with a disk of `size` bytes, its queue 0 running; by default all that it offers is negotiated."""
    given = {"queue_size": ring, **(options or {}), **more_options}
    parts, end = ring_parts(ring)
    half = ARENA // 2
    blocks = [
        Block(RING * 16, bytearray(end - RING)),
        Block(0, bytearray(half)),
        Block(half, bytearray(half)),
    ]
    parts = (parts[0] + RING * 15, parts[1] + RING * 15, parts[2] + RING * 15)
    plain = PlainMemory(blocks)
    memory = guest_memory(plain, kind)
    context = IoContext.virtual()
    run_state = RunState()
    disk = Disk(context, size, read_only=read_only, discard=node_discard)
    backend = BlockBackend(disk, name="d0", run_state=run_state, write_cache=backend_cache)
    device = VirtioBlk(
        backend,
        VirtioBlkOptions(**given),  # type: ignore[arg-type]
        name="vd0",
        context=context,
        memory=memory,
        violations=ViolationLog(profile),
    )
    notifications = Notifications()
    device.transport = notifications
    accepted = (device.device_features if features is None else features | VERSION_1) & ~without
    model: type[Driver] = PackedDriverRing if accepted & RING_PACKED else DriverRing
    driver = model(plain, ring, parts, accepted)
    rig = BlkRig(plain, disk, backend, device, driver, notifications, run_state)
    bring_up(rig, accepted, parts)
    return rig


def bring_up(rig: BlkRig, features: int, parts: tuple[int, int, int]) -> None:
    """The driver's steps to DRIVER_OK with one queue."""
    device = rig.device
    device.write_status(0)
    device.write_status(ACKNOWLEDGE)
    device.write_status(ACKNOWLEDGE | DRIVER)
    for select in (0, 1):
        device.write_features(features >> 32 * select & 0xFFFF_FFFF, select=select)
    device.write_status(ACKNOWLEDGE | DRIVER | FEATURES_OK)
    queue = device.queues[0]
    queue.size = rig.driver.size
    queue.desc, queue.driver, queue.device = parts
    device.enable_queue(queue)
    device.write_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK)
    rig.settle()
