"""virtio-scsi: commands, control requests, events, and what a driver learns from them (VIRTIO 1.4 §5.6)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial

from devmodels.blockbackend.backend import BlockBackend
from devmodels.conformance import ViolationLog
from devmodels.memory import GuestMemory
from devmodels.scsi.disk import Disk as ScsiDisk
from devmodels.scsi.disk import DiskOptions
from devmodels.scsi.disk.blocks import PIECE
from devmodels.virtio.device import VirtioDevice
from devmodels.virtio_scsi import VirtioScsi, VirtioScsiOptions
from fuzz.ring.bench import QUEUE_SIZE, SECTORS, RingBench, Sent, sectors
from fuzz.ring.disk import FuzzedDisk
from fuzz.ring.ledger import SECTOR
from tests.unit.virtio.model import Form
from tests.unit.virtio.scsirig import (
    CHECK_CONDITION,
    CONTROL,
    EVENT,
    GOOD,
    I_T_NEXUS_RESET,
    LOGICAL_UNIT_RESET,
    REQUEST,
    S_FAILURE,
    S_INCORRECT_LUN,
    S_OK,
    TEST_UNIT_READY,
    lun_of,
)

MAIN, OTHER = (0, 0), (3, 1)
"""The disk that is followed, and one that comes and goes."""
START_UNIT = bytes((0x1B, 0, 0, 0, 1, 0))
SENSE_SIZE, CDB_SIZE = 20, 24
"""Of the device configuration."""
FUA = 8

Learn = Callable[[Sent, bytes], None]
"""What GOOD means, with the data that came."""


class ScsiBench(RingBench):
    """A control, an event and two request queues; a second disk comes and goes."""

    piece = PIECE

    def make(self, memory: GuestMemory) -> VirtioDevice:
        """With all that can be offered."""
        self.tag = 0
        options = VirtioScsiOptions(
            num_queues=2, virtqueue_size=QUEUE_SIZE, packed=self.packed, in_order=True
        )
        self.scsi = VirtioScsi(
            options, name="vs0", context=self.context, memory=memory, violations=ViolationLog()
        )
        self.backend = self._plug(MAIN, self.disk)
        self.other = FuzzedDisk(self.context, SECTORS * SECTOR)
        self.disks.append(self.other)
        for disk in self.disks:
            # MODE SELECT that switches a cache off is done with its flush, even where it was aborted.
            disk.flushes_itself = True
        self._there = False
        self.swap()
        return self.scsi

    def _plug(self, place: tuple[int, int], disk: FuzzedDisk) -> BlockBackend:
        backend = BlockBackend(
            disk, name=f"d{place[0]}", run_state=self.run_state, write_cache=self.write_cache
        )
        unit = ScsiDisk(backend, DiskOptions(), name=f"unit {place[0]}", violations=self.scsi.violations)
        self.scsi.plug(*place, unit)
        return backend

    def swap(self) -> None:
        """The other disk comes, or goes where it is there."""
        if self._there:
            self.scsi.unplug(*OTHER)
        else:
            self._plug(OTHER, self.other)
        self._there = not self._there

    @property
    def write_through(self) -> bool:
        """As mode page 8 says."""
        return not self.backend.write_cache

    @property
    def request_queues(self) -> range:
        """Their numbers."""
        return range(REQUEST, len(self.drivers))

    # --- commands

    def command(
        self,
        queue: int,
        cdb: bytes,
        data: bytes = b"",
        room: int = 0,
        *,
        lun: bytes = lun_of(*MAIN),
        attribute: int = 0,
        form: Form = Form.DIRECT,
        cuts: tuple[int, ...] = (),
        reads: range = range(0),
        changes: range = range(SECTORS),
        learn: Learn | None = None,
    ) -> Sent | None:
        """Place a command, if there is room for it."""
        if not self.room:
            return None
        self.tag += 1
        sense_size, cdb_size = self.transport.load(SENSE_SIZE, 4), self.transport.load(CDB_SIZE, 4)
        header = lun + struct.pack("<QBBB", self.tag, attribute, 0, 0) + cdb[:cdb_size].ljust(cdb_size, b"\0")
        response = 12 + sense_size
        return self.place(
            queue,
            self.readable(header + data, [len(header), *cuts]),
            self.writable(response + room, [response, *cuts]),
            form,
            reads=reads,
            changes=changes,
            judge=partial(self._answered, response, len(data) + room, learn),
        )

    def set_size(self, field: int, size: int) -> None:
        """Another `cdb_size` or `sense_size`, unless commands may wait that were framed with the one before."""
        for queue in self.request_queues:
            self.go(queue)
        if self.master and not self.suspending:
            self.transport.store(field, 4, size)

    def _answered(
        self, size: int, expected: int, learn: Learn | None, sent: Sent, length: int, content: bytes
    ) -> None:
        """VIRTIO 1.4 §5.6.6.1.1."""
        assert length >= size, f"used.len is {length}, and the response has {size} bytes"
        sense_len, residual, _, status, response = struct.unpack_from("<IIHBB", content)
        assert response <= S_FAILURE
        assert 12 + sense_len <= size
        assert not any(content[12 + sense_len : size]), "there is something behind the sense data"
        if response == S_OK:
            assert residual <= expected
            assert bool(sense_len) == (status == CHECK_CONDITION) or size == 12
            if status == GOOD and learn is not None:
                learn(sent, content[size:length])
        else:
            assert not sense_len

    def read(self, queue: int, lba: int, blocks: int, room: int, **how: object) -> Sent | None:
        """READ (16) of the disk that is followed."""

        def learn(sent: Sent, data: bytes) -> None:
            assert len(data) == blocks * SECTOR, "a read that is GOOD has read all"
            if sent.alone:
                self.ledger.check_read(lba, data)

        cdb = struct.pack(">BBQIBB", 0x88, 0, lba, blocks, 0, 0)
        reads = sectors(lba, blocks * SECTOR)
        return self.command(queue, cdb, b"", room, reads=reads, changes=range(0), learn=learn, **how)  # type: ignore[arg-type]

    def write(
        self, queue: int, lba: int, blocks: int, data: bytes, *, fua: bool = False, **how: object
    ) -> Sent | None:
        """WRITE (16) of the same."""
        through = fua or self.write_through

        def learn(sent: Sent, _data: bytes) -> None:
            if sent.alone and len(data) >= blocks * SECTOR:
                stable = fua or (through and self.write_through)
                self.ledger.written(lba, data[: blocks * SECTOR], stable=stable)

        cdb = struct.pack(">BBQIBB", 0x8A, FUA * fua, lba, blocks, 0, 0)
        changes = sectors(lba, blocks * SECTOR)
        return self.command(queue, cdb, data, 0, changes=changes, learn=learn, **how)  # type: ignore[arg-type]

    def synchronize(self, queue: int, **how: object) -> Sent | None:
        """SYNCHRONIZE CACHE (10), all of it."""

        def learn(sent: Sent, _data: bytes) -> None:
            self.ledger.flushed(sent.promised)

        cdb = struct.pack(">BBIBHB", 0x35, 0, 0, 0, 0, 0)
        return self.command(queue, cdb, changes=range(0), learn=learn, **how)  # type: ignore[arg-type]

    # --- the other queues

    def manage(self, function: int, lun: bytes, tag: int) -> None:
        """A task management function; when a reset is over, nothing that it was for is on its way."""
        ended: list[Sent] = []
        taken = self.master and not self.suspending
        if taken and function in (LOGICAL_UNIT_RESET, I_T_NEXUS_RESET) and lun == lun_of(*MAIN):
            exposed = [buffer for queue in self.request_queues for buffer in self.drivers[queue].out]
            ended = [each for each in self.sent if each.buffer in exposed and self._is_main(each)]

        def judge(_sent: Sent, _length: int, content: bytes) -> None:
            assert content[0] <= S_INCORRECT_LUN
            if content[0] == S_OK:
                assert not any(each in self.sent for each in ended), (
                    "a command outlived the reset of its unit"
                )

        if self.room:
            request = self.readable(struct.pack("<II", 0, function) + lun + struct.pack("<Q", tag))
            self.place(CONTROL, request, self.writable(1), Form.DIRECT, changes=range(0), judge=judge)

    def _is_main(self, sent: Sent) -> bool:
        return sent.judge is not None and self.content(sent.buffer.readable)[:8] == lun_of(*MAIN)

    def ask(self, kind: int, lun: bytes, events: int, room: int) -> None:
        """Asynchronous notification: query and subscription."""
        if self.room:
            request = self.readable(struct.pack("<I", kind) + lun + struct.pack("<I", events))
            self.place(CONTROL, request, self.writable(room), Form.DIRECT, changes=range(0))

    def offer_event(self, room: int) -> None:
        """A buffer for an event."""

        def judge(_sent: Sent, length: int, _content: bytes) -> None:
            assert length <= 16

        if self.room:
            self.place(EVENT, [], self.writable(room), Form.DIRECT, changes=range(0), judge=judge)

    # --- the end

    def _must(self, sent: Sent | None) -> tuple[int, int]:
        """Response and status of a command that has to be answered at once."""
        assert sent is not None
        self.go(sent.queue)
        assert sent not in self.sent, "the device does not answer after a reset"
        content = self.content(sent.buffer.writable)
        return content[11], content[10]

    def prove(self) -> None:
        """By each request queue, when the unit attention conditions have been told."""
        none = range(0)
        for _ in range(8):
            if self._must(self.command(REQUEST, TEST_UNIT_READY, changes=none)) == (S_OK, GOOD):
                break
            self._must(self.command(REQUEST, START_UNIT, changes=none))
        data = bytes(range(256)) * 2
        for queue in self.request_queues:
            for sent in (
                partial(self.write, queue, 3, 1, data),
                partial(self.synchronize, queue),
                partial(self.read, queue, 3, 1, SECTOR),
            ):
                assert self._must(sent()) == (S_OK, GOOD)
            self.ledger.check_read(3, data)
