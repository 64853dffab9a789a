"""virtio-blk: its requests, and what a driver learns from their answers (VIRTIO 1.4 §5.2)."""

from __future__ import annotations

from functools import partial

from devmodels.blockbackend.backend import BlockBackend
from devmodels.conformance import ViolationLog
from devmodels.memory import GuestMemory
from devmodels.virtio.device import VirtioDevice
from devmodels.virtio_blk import VirtioBlk, VirtioBlkOptions
from fuzz.ring.bench import QUEUE_SIZE, SECTORS, RingBench, Sent, sectors
from fuzz.ring.ledger import SECTOR
from tests.unit.virtio.blkrig import FLUSH, GET_ID, IN, OK, OUT, header
from tests.unit.virtio.model import Form

WRITEBACK = 32
"""Of the device configuration."""
F_FLUSH, F_CONFIG_WCE = 1 << 9, 1 << 11


class BlkBench(RingBench):
    """Two queues."""

    def make(self, memory: GuestMemory) -> VirtioDevice:
        """With all that can be offered."""
        self.backend = BlockBackend(
            self.disk, name="d0", run_state=self.run_state, write_cache=self.write_cache
        )
        options = VirtioBlkOptions(
            num_queues=2, queue_size=QUEUE_SIZE, packed=self.packed, in_order=True, secure_erase=True
        )
        return VirtioBlk(
            self.backend,
            options,
            name="vd0",
            context=self.context,
            memory=memory,
            violations=ViolationLog(),
        )

    @property
    def write_through(self) -> bool:
        """VIRTIO 1.4 §5.2.5.2; a legacy driver may use the field where it is offered (§5.2.5.3)."""
        if self.over.legacy or self.features & F_CONFIG_WCE:
            return not self.transport.load(WRITEBACK, 1)
        return not self.features & F_FLUSH

    def send(
        self,
        queue: int,
        kind: int,
        sector: int,
        data: bytes = b"",
        room: int = 0,
        form: Form = Form.DIRECT,
        cuts: tuple[int, ...] = (),
    ) -> Sent | None:
        """Place a well-formed request, if there is room for it."""
        if not self.room:
            return None
        if kind == OUT:
            changes = sectors(sector, len(data))
        else:
            # What others do is not followed so closely.
            changes = range(0 if kind in (IN, FLUSH, GET_ID) else SECTORS)
        return self.place(
            queue,
            self.readable(header(kind, sector) + data, [16, *cuts]),
            self.writable(room + 1, [room, *cuts]),
            form,
            reads=sectors(sector, room) if kind == IN else range(0),
            changes=changes,
            judge=partial(self._answered, kind, sector, data),
        )

    def _answered(self, kind: int, sector: int, data: bytes, sent: Sent, length: int, content: bytes) -> None:
        if length != len(content):
            return
        if content[-1:] != bytes([OK]):
            # What was not read is zeroes: a driver may look at all that `used.len` covers.
            assert kind != IN or not any(content[:-1]), "used.len covers what was there before"
        elif kind == OUT and sent.alone:
            self.ledger.written(sector, data, stable=self.write_through)
        elif kind == IN and sent.alone:
            self.ledger.check_read(sector, content[:-1])
        elif kind == FLUSH:
            self.ledger.flushed(sent.promised)

    def prove(self) -> None:
        """By each queue."""
        data = bytes(range(256)) * 2
        for queue in range(len(self.drivers)):
            for kind, out, room in ((OUT, data, 0), (FLUSH, b"", 0), (IN, b"", SECTOR)):
                sent = self.send(queue, kind, 3, out, room)
                assert sent is not None
                self.go(queue)
                assert sent not in self.sent, "the device does not answer after a reset"
                assert self.content(sent.buffer.writable)[-1] == OK
            self.ledger.check_read(3, data)
