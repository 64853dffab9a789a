"""The virtio block device, VIRTIO 1.4 §5.2: guest bytes into requests, results into guest bytes.

How a request ends:

* Whatever the device can answer, it answers with a status byte, and then it has written every byte of the
  device-writable part: data that could not be read is zero.  So `used.len` is the whole of that part.
* Where the status byte itself cannot be reached, or data that should be written, or where the data of a refused
  request is longer than 1 MiB, `used.len` is 0: no prefix of the buffer was written (VIRTIO 1.4 §2.7.8.2).
* IOERR is the answer to what failed and to what the driver got wrong; UNSUPP to what was not negotiated or is
  unknown (VIRTIO 1.4 §5.2.6, §5.2.6.2).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from devmodels.blockbackend.backend import BlockBackend
from devmodels.blockbackend.request import Flags, Op, Request
from devmodels.blockbackend.vectors import clear
from devmodels.conformance import ViolationLog, written
from devmodels.dma import Direction
from devmodels.iocontext import IoContext, IoThread
from devmodels.memory import GuestMemory
from devmodels.memoryregions import GuestMemoryError
from devmodels.virtio.constants import EVENT_IDX, INDIRECT_DESC, MAX_QUEUE_SIZE, RING_RESET, Status
from devmodels.virtio.device import CORE_FEATURES, VirtioDevice
from devmodels.virtio.queue import VirtQueue
from devmodels.virtio.ring import Chain, RingError
from devmodels.virtio.scatter import fill, gather, skip
from devmodels.virtio_blk.config import VirtioBlkOptions, as_qemu, config_values, offered_features
from devmodels.virtio_blk.configspace import ConfigSpace, look_at, may_write
from devmodels.virtio_blk.habits import STRICT, habits_of
from devmodels.virtio_blk.layout import (
    REQUEST_HEADER,
    SECTOR,
    BlkFeature,
)
from devmodels.virtio_blk.limits import allowed
from devmodels.virtio_blk.others import start_other
from devmodels.virtio_blk.quickreads import read_now
from devmodels.virtio_blk.request import (
    HEADER_SIZE,
    OPERATION,
    S_IOERR,
    S_OK,
    T_IN,
    T_OUT,
    BlkRequest,
    RangePart,
    queue_of,
    split_tail,
    type_as_qemu,
)

_READ = Op.READ
_WRITE = Op.WRITE
_NO_FLAGS = Flags.NONE
# A module's name costs half of what an enumeration's member does.
_TO_DEVICE = Direction.TO_DEVICE
_FROM_DEVICE = Direction.FROM_DEVICE

FILL_LIMIT = 1 << 20
"""Up to here a refused request's data is zeroed, so that `used.len` covers its status; with more, `used.len` is 0: a
driver must not be able to make a refusal expensive."""
CAPACITY_SIZE = 8
"""Bytes of `capacity`, with which the configuration space begins."""
CAPACITY_MASK = (1 << 8 * CAPACITY_SIZE) - 1

_new_request = BlkRequest.__new__


class VirtioBlk(VirtioDevice):
    """A virtio block device over a `BlockBackend`."""

    DEVICE_ID = 2
    CONFIG_SIZE = 72

    def __init__(
        self,
        backend: BlockBackend,
        options: VirtioBlkOptions | None = None,
        *,
        name: str,
        context: IoContext,
        memory: GuestMemory,
        violations: ViolationLog | None = None,
        core_features: int = CORE_FEATURES,
        threads: Sequence[IoThread] = (),
    ) -> None:
        options = VirtioBlkOptions() if options is None else options
        switched = INDIRECT_DESC | EVENT_IDX | RING_RESET
        self.habits = STRICT if violations is None else habits_of(violations)
        no_ranges = backend.read_only and not self.habits.ranges_always
        own = offered_features(options, read_only=backend.read_only, no_ranges=no_ranges)
        super().__init__(
            name=name,
            context=context,
            memory=memory,
            features=core_features & ~switched | own,
            num_queues=options.num_queues,
            queue_size=options.queue_size,
            violations=violations,
            threads=threads,
        )
        self.backend = backend
        backend.pinned = True
        backend.leaves_unread = self.habits.writes_no_rest
        if self.habits.flushes_in_turn:
            backend.flush_in_turn()
        backend.stats.counts_unmaps = not self.habits.counts_no_discards
        self.options, self.qemu_config_size = (
            as_qemu(options, own, backend.size // SECTOR) if self.violations.as_qemu else (options, None)
        )
        self._configured_write_cache = (
            backend.write_cache if options.write_cache == "auto" else options.write_cache == "on"
        )
        self.initial_write_cache = self._configured_write_cache
        """The mode that a reset leads to."""
        backend.write_cache = self.initial_write_cache
        self._space = ConfigSpace()
        self._rebuild_config()
        self.size_max = 0
        self.seg_max = MAX_QUEUE_SIZE
        backend.add_resize_listener(self._resized)

    # --- features and configuration space

    def has(self, bit: BlkFeature) -> bool:
        """Whether a feature was negotiated."""
        return bool(self.driver_features >> bit & 1)

    def usable_queues(self) -> int:
        """All of them with VIRTIO_BLK_F_MQ, else one (VIRTIO 1.4 §5.2.2)."""
        return len(self.queues) if self.has(BlkFeature.VIRTIO_BLK_F_MQ) else 1

    def features_accepted(self) -> None:
        """Settle the limits that bind the driver and, but through the legacy interface, the write-cache mode.

        QEMU settles the mode with DRIVER_OK.
        """
        options = self.options
        self.size_max = options.size_max if self.has(BlkFeature.VIRTIO_BLK_F_SIZE_MAX) else 0
        self.seg_max = options.segments() if self.has(BlkFeature.VIRTIO_BLK_F_SEG_MAX) else MAX_QUEUE_SIZE
        if not self.legacy and (self.status & Status.DRIVER_OK or not self.as_qemu):
            self._settle_write_cache()

    def legacy_driver_ok(self) -> None:
        """A driver without CONFIG_WCE has said all there is to the write-cache mode (VIRTIO 1.4 §5.2.5.3)."""
        if not self.has(BlkFeature.VIRTIO_BLK_F_CONFIG_WCE):
            self._settle_write_cache()

    def _settle_write_cache(self) -> None:
        """The write-cache mode that follows from the features (VIRTIO 1.4 §5.2.5.1, §5.2.5.2).

        With CONFIG_WCE but not FLUSH it starts as write-through; a driver that negotiated neither could never flush, so
        every write is made stable for it.  With CONFIG_WCE QEMU leaves the mode as it is.
        """
        flush = self.has(BlkFeature.VIRTIO_BLK_F_FLUSH)
        if self.habits.keeps_mode:
            flush |= self.has(BlkFeature.VIRTIO_BLK_F_CONFIG_WCE)
        self.backend.write_cache = self.initial_write_cache and flush
        self._rebuild_config()

    def device_was_reset(self) -> None:
        """Back to the write-cache mode that was configured, or that the driver behind a front end chose last."""
        self.size_max = 0
        self.seg_max = MAX_QUEUE_SIZE
        self.backend.write_cache = self.initial_write_cache
        self._rebuild_config()

    def driver_left(self) -> None:
        """The next driver finds the mode that was configured."""
        self.initial_write_cache = self._configured_write_cache
        self.device_was_reset()

    def activate(self) -> None:
        """Use the disk, against others."""
        self.backend.activate()

    def inactivate(self, done: Callable[[], None]) -> None:
        """Leave the disk to others."""

        async def rest() -> None:
            await self.backend.inactivate()
            done()

        self.context.start(rest())

    def migration_state(self) -> dict[str, int]:
        """The write-cache mode."""
        return {"write_cache": int(self.backend.write_cache)}

    def take_migration_state(self, state: dict[str, int]) -> None:
        """The driver goes on with the mode that it chose elsewhere."""
        if set(state) != {"write_cache"} or state["write_cache"] not in (0, 1):
            raise ValueError(f"expected write_cache of 0 or 1, not {state}")
        self.initial_write_cache = bool(state["write_cache"])
        self.backend.write_cache = self.initial_write_cache
        self._rebuild_config()

    def save_own(self) -> dict[str, int]:
        """The write-cache mode, and the capacity that the driver was shown."""
        return {"write_cache": int(self.backend.write_cache), "capacity": self.read_config(0, CAPACITY_SIZE)}

    def restore_own(self, state: dict[str, int]) -> None:
        """Take what `save_own` gave; what follows from the features is settled anew."""
        self.features_accepted()
        self.backend.write_cache = bool(state["write_cache"])
        self._rebuild_config()
        capacity = state["capacity"] & CAPACITY_MASK
        if capacity == self._space.values["capacity"]:
            return
        if self.suspended:
            # It must not change before the driver resumes the device, which tells it then (VIRTIO 1.4 §3.4.2).
            self._space.show({**self._space.values, "capacity": capacity})
        else:
            self.config_changed()

    def cancel(self, queue: VirtQueue) -> None:
        """Requests that have not started are dropped; QEMU's device lets those go on that a node holds."""
        self.backend.cancel_held(lambda request: queue_of(request) is queue, begun=not self.as_qemu)

    def _resized(self, _size: int) -> None:
        """The backend has another size: a new capacity, of which the driver is told (VIRTIO 1.4 §5.2.6.2)."""
        if not self.suspended:
            self._rebuild_config()
            self.config_changed()

    def resumed(self) -> None:
        """What changed during the suspension is shown and told now (VIRTIO 1.4 §3.4.2)."""
        if self._rebuild_config():
            self.config_changed()

    def _rebuild_config(self) -> bool:
        """Show what is so now; returns whether that is something else than before."""
        changed = self._space.show(
            config_values(
                self.options,
                self.device_features,
                capacity=self.backend.size // SECTOR,
                writeback=self.backend.write_cache,
                may_unmap=self.habits.says_unmap or self.backend.node.can_unmap,
                whole_tracks=self.habits.whole_tracks,
            )
        )
        if changed:
            self.config_changed(notify=False)
        return changed

    def config_bytes(self) -> bytes:
        """The whole configuration space."""
        return self._space.packed()

    def read_config(self, offset: int, size: int) -> int:
        """A little-endian value; bytes beyond the structure read 0."""
        look_at(self, offset, size)
        return int.from_bytes(self.config_bytes()[offset : offset + size], "little")

    def write_config(self, offset: int, size: int, value: int) -> None:
        """Only `writeback` can be written, and only with VIRTIO_BLK_F_CONFIG_WCE."""
        if not may_write(self, offset, size, value):
            return
        self.backend.write_cache = bool(value)
        if self.front_end:
            # Its machine may pause, which resets us: a driver that was told "write-through" must not find less.
            self.initial_write_cache = bool(value)
        self._rebuild_config()

    # --- requests

    def handle(self, queue: VirtQueue, chains: Sequence[Chain]) -> None:
        """Answer the reads that need no waiting; make requests of the others and submit them together."""
        done = read_now(self, queue, chains)
        if done < len(chains):
            self.submit(queue, self._parse(queue, chains[done:] if done else chains))

    def may_be_request(self, chain: Chain) -> bool:
        """It has a header and a status byte, too."""
        framed = chain.writable_bytes and chain.readable_bytes >= HEADER_SIZE
        return bool(framed) and super().may_be_request(chain)

    def handle_last(self, queue: VirtQueue, chains: Sequence[Chain], error: RingError) -> None:
        """QEMU's is broken by the time that what has to wait for the disk is done: nobody is told of that."""
        if self.as_qemu:
            starting = self._parse(queue, chains)
            super().handle_last(queue, (), error)
            self.submit(queue, starting)
        else:
            super().handle_last(queue, chains, error)

    def submit(self, queue: VirtQueue, starting: Sequence[Request]) -> None:  # noqa: ARG002
        """Submit requests of `queue` together."""
        if len(starting) > 1 and self.options.request_merging:
            with self.backend.batch():
                for each in starting:
                    self.backend.submit(each)
        else:
            for each in starting:
                self.backend.submit(each)

    def _parse(self, queue: VirtQueue, chains: Sequence[Chain]) -> list[Request]:
        """The requests to be submitted together; what needs no submission, or is refused, has been answered."""
        starting: list[Request] = []
        unpack_header = self.memory.unpack
        short_types = self.habits.short_types
        for chain in chains:
            request = _new_request(BlkRequest)
            request.queue = queue
            request.chain = chain
            request.dma = request.header = None
            request.flags = _NO_FLAGS
            request.label = ""
            readable = chain.readable
            writable = chain.writable
            if not chain.writable_bytes:
                self.wrong(request, "no room for the status byte")
                queue.finish(((chain, 0),))
                continue
            request.status_address, length = writable[-1]
            if length == 1:
                data_in = writable[:-1]
            else:
                data_in, request.status_address = split_tail(writable)
            if chain.readable_bytes < HEADER_SIZE:
                self.refuse(request, S_IOERR, f"request header of {chain.readable_bytes} bytes")
                continue
            address, length = readable[0]
            try:
                if length == HEADER_SIZE:
                    request.header = fields = unpack_header(address, REQUEST_HEADER.layout)
                else:
                    request.header = fields = REQUEST_HEADER.unpack_from(
                        gather(self.memory, readable, HEADER_SIZE), 0
                    )
                kind, _, sector = fields
                if short_types:
                    kind = type_as_qemu(kind)
                if kind == T_IN:
                    length = chain.writable_bytes - 1
                    ready = self._prepare_io(request, _READ, sector, data_in, length)
                elif kind == T_OUT:
                    length = chain.readable_bytes - HEADER_SIZE
                    ready = self._prepare_io(request, _WRITE, sector, skip(readable, HEADER_SIZE), length)
                else:
                    start_other(self, request, kind, sector, data_in, starting)
                    continue
            except GuestMemoryError as error:
                self.refuse(
                    request,
                    S_IOERR,
                    f"request of head {chain.head} outside memory: {error}",
                    data=written(error.address, 8),
                )
                continue
            if ready:
                starting.append(request)
        return starting

    def _prepare_io(
        self, request: BlkRequest, op: Op, sector: int, data: list[tuple[int, int]], length: int
    ) -> bool:
        """Make `request` IN or OUT of `length` bytes at `sector`; False where it has been refused."""
        offset = sector * SECTOR
        if (
            length % SECTOR
            or offset + length > self.backend.node.size
            or len(data) > self.seg_max
            or self.size_max
            or op is not _READ
        ) and not allowed(self, request, op, sector, data, length):
            return False
        request.dma = dma = self.memory.map(data, _FROM_DEVICE if op is _READ else _TO_DEVICE)
        request.op = op
        request.offset = offset
        request.length = length
        request.vectors = dma.views
        request.done = self.io_done
        return True

    def io_done(self, request: Request) -> None:
        """A request is over."""
        if TYPE_CHECKING:
            assert isinstance(request, BlkRequest)
        dma = request.dma
        status = S_OK
        if request.error:
            if request.error == errno.ECANCELED and self.as_qemu:
                if dma is not None:
                    dma.unmap(0)
                request.queue.drop(request.chain)
                return
            status = S_IOERR
        if dma is None:
            self.finish(request, status)
        elif request.op is _READ and (not (self.resetting or request.queue.resetting) or self.as_qemu):
            request.dma = None
            if status and self.habits.writes_no_rest:
                dma.unmap(0)
            else:
                if status:
                    clear(dma.views)
                dma.unmap(dma.nbytes)
            self.finish(request, status, filled=True)
        else:
            request.dma = None
            dma.unmap(0)
            self.finish(request, status)

    # --- the end of a request

    def part_done(self, part: Request) -> None:
        """A segment of a request is over."""
        assert isinstance(part, RangePart)
        whole = part.whole
        whole.error = whole.error or part.error
        whole.parts -= 1
        if not whole.parts:
            self.io_done(whole)

    def refuse(
        self,
        request: BlkRequest,
        status: int,
        reason: str,
        op: Op | None = None,
        *,
        clause: str = OPERATION,
        data: bytes = b"",
    ) -> None:
        """Answer a request that was never submitted, since the driver has got something wrong."""
        self.wrong(request, reason, clause, data)
        self.turn_away(request, status, op)

    def turn_away(self, request: BlkRequest, status: int, op: Op | None) -> None:
        """Answer a request that was never submitted."""
        if op is not None:
            self._account_invalid(op)
        self.finish(request, status)

    def wrong(self, request: BlkRequest, reason: str, clause: str = OPERATION, data: bytes = b"") -> None:
        """The driver has got something about a request wrong: `data`, or its header as it was judged."""
        if not data and request.header is not None:
            data = REQUEST_HEADER.pack(*request.header)
        elif not data:
            try:
                data = gather(self.memory, request.chain.readable, HEADER_SIZE)
            except GuestMemoryError as error:
                data = written(error.address, 8)
        self.violations.report(clause, reason, f"{request.queue.name} head {request.chain.head}", data)

    def _account_invalid(self, op: Op) -> None:
        self.backend.account_invalid(op)

    def finish(
        self, request: BlkRequest, status: int, *, filled: bool = False, reachable: bool = True
    ) -> None:
        """Write the status byte and give the buffer back.

        `filled` says that the data part has been written already, `reachable` that all of it could be.
        """
        chain = request.chain
        queue = request.queue
        if queue.drops:
            if self.as_qemu:
                self._tell(request, status)
            queue.finish(((chain, 0),))
            return
        if self.paused:
            self.put_off.append(partial(self.finish, request, status, filled=filled, reachable=reachable))
            return
        filling = chain.writable_bytes
        if not filled and filling > FILL_LIMIT:
            reachable = self.habits.counts_all
        elif filling > 1 and not filled and reachable and not self.habits.writes_no_rest:
            try:
                fill(self.memory, split_tail(chain.writable)[0], b"")
            except GuestMemoryError:
                reachable = False
        if not self._tell(request, status):
            reachable = self.habits.counts_all
        queue.finish(((chain, filling if reachable else 0),))

    def _tell(self, request: BlkRequest, status: int) -> bool:
        """Write the status byte; False where it is no memory."""
        try:
            self.memory.write_byte(request.status_address, status)
        except GuestMemoryError as error:
            self.wrong(request, f"status byte outside memory: {error}", data=written(error.address, 8))
            return False
        return True
