"""The virtio SCSI host device, VIRTIO 1.4 §5.6: the driver's buffers into tasks, what became of them into responses.

    request queue → header, data mapped → ScsiBus.find → ScsiTarget.submit → … → response, data unmapped → used buffer

How a command ends:

* Every byte of the response, sense data padded with zeroes, is written, then as much of the data as was transferred:
  `used.len` is both.
* OVERRUN is the answer where the CDB asks for more than the driver has given, and then nothing was done; FAILURE to
  what the driver got wrong; BAD_TARGET where no such target is; the others as VIRTIO 1.4 §5.6.6.1.1 has them.
* Where the response cannot be reached `used.len` is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from devmodels.conformance import ViolationLog, written
from devmodels.dma import Direction
from devmodels.iocontext import IoContext, IoThread
from devmodels.memory import GuestMemory
from devmodels.memoryregions import GuestMemoryError
from devmodels.scsi import LogicalUnit, Nexus, TargetPort, Task, TaskAttribute
from devmodels.virtio.constants import ANY_LAYOUT, EVENT_IDX, INDIRECT_DESC, RING_RESET
from devmodels.virtio.device import CORE_FEATURES, VirtioDevice
from devmodels.virtio.queue import VirtQueue
from devmodels.virtio.ring import Chain, RingError
from devmodels.virtio.scatter import head, skip
from devmodels.virtio_scsi import quickreads, unitstates
from devmodels.virtio_scsi.bus import ScsiBus
from devmodels.virtio_scsi.config import (
    MAX_CDB_SIZE,
    MAX_SENSE_SIZE,
    WRITABLE_END,
    VirtioScsiOptions,
    build_config,
    offered_features,
    sizes_in,
)
from devmodels.virtio_scsi.control import ControlQueue
from devmodels.virtio_scsi.events import EventQueue
from devmodels.virtio_scsi.framing import Framing
from devmodels.virtio_scsi.habits import habits_of
from devmodels.virtio_scsi.layout import (
    CONTROL_QUEUE,
    DEFAULT_CDB_SIZE,
    DEFAULT_SENSE_SIZE,
    EVENT_QUEUE,
    FIRST_REQUEST_QUEUE,
    RESPONSE_SIZE,
    SENSE_SIZE_AT,
    ScsiFeature,
    ScsiResponse,
)
from devmodels.virtio_scsi.request import ScsiRequest

CLAUSE = "VIRTIO 1.4 §5.6.6.1"
CONFIGURATION = "VIRTIO 1.4 §5.6.4.1"

_SIMPLE = TaskAttribute.SIMPLE
_ATTRIBUTES = tuple(TaskAttribute)
_TO_DEVICE = Direction.TO_DEVICE
_FROM_DEVICE = Direction.FROM_DEVICE
_NOBODY = Nexus(b"", TargetPort(), "nobody")


class VirtioScsi(VirtioDevice):
    """A virtio SCSI host device with the targets of `bus`."""

    DEVICE_ID = 8
    CONFIG_SIZE = 36
    steady_queues = FIRST_REQUEST_QUEUE
    config_of_front_end = True

    def __init__(
        self,
        options: VirtioScsiOptions | None = None,
        *,
        name: str,
        context: IoContext,
        memory: GuestMemory,
        violations: ViolationLog | None = None,
        core_features: int = CORE_FEATURES,
        threads: Sequence[IoThread] = (),
    ) -> None:
        options = VirtioScsiOptions() if options is None else options
        switched = INDIRECT_DESC | EVENT_IDX | RING_RESET
        super().__init__(
            name=name,
            context=context,
            memory=memory,
            features=core_features & ~switched | offered_features(options),
            num_queues=FIRST_REQUEST_QUEUE + options.num_queues,
            queue_size=options.virtqueue_size,
            violations=violations,
            # The control and the event queue are the control plane's.
            threads=[*[None] * FIRST_REQUEST_QUEUE, *threads] if threads else (),
        )
        self.options = options
        self._habits = habits_of(self.violations)
        self.bus = ScsiBus(context, name=name, violations=self.violations)
        self.subscriptions: dict[tuple[int, int], int] = {}
        """The events that the driver wants to hear of, by target and LUN."""
        self._control = ControlQueue(self, self.queues[CONTROL_QUEUE])
        self._events = EventQueue(self, self.queues[EVENT_QUEUE])
        self.bus.listener = self._events
        self._packed: bytes | None = None
        self._inout = False
        self._active = False
        """Whether the units' disks are in use, where the transport tells that."""
        self._default_sizes()

    # --- features and configuration space

    def has(self, feature: ScsiFeature) -> bool:
        """Whether it was negotiated."""
        return bool(self.driver_features >> feature & 1)

    def features_accepted(self) -> None:
        """Settle what commands may look like."""
        self._inout = self.has(ScsiFeature.VIRTIO_SCSI_F_INOUT)
        self._set_sizes(self.framing.sense_size, self.framing.cdb_size)
        self.bus.connect()

    def legacy_driver_ok(self) -> None:
        """A driver that has no features to write is there, too."""
        self.bus.connect()

    def _default_sizes(self) -> None:
        """VIRTIO 1.4 §5.6.4.2."""
        self._set_sizes(DEFAULT_SENSE_SIZE, DEFAULT_CDB_SIZE)

    def _set_sizes(self, sense_size: int, cdb_size: int) -> None:
        any_layout = bool(self.driver_features & ANY_LAYOUT)
        self.framing = Framing(
            sense_size=sense_size, cdb_size=cdb_size, habits=self._habits, any_layout=any_layout
        )
        self._packed = None

    def config_bytes(self) -> bytes:
        """The whole configuration space."""
        if self._packed is None:
            sizes = self.framing
            self._packed = build_config(self.options, sense_size=sizes.sense_size, cdb_size=sizes.cdb_size)
        return self._packed

    def read_config(self, offset: int, size: int) -> int:
        """A little-endian value; bytes beyond the structure read 0."""
        return int.from_bytes(self.config_bytes()[offset : offset + size], "little")

    def write_config(self, offset: int, size: int, value: int) -> None:
        """`sense_size` and `cdb_size` can be written; commands that are in flight keep what they came with."""
        if not SENSE_SIZE_AT <= offset <= offset + size <= WRITABLE_END:
            self.violation(
                CONFIGURATION, f"write of {size} bytes at configuration offset {offset}", written(value, size)
            )
            return
        config = bytearray(self.config_bytes())
        config[offset : offset + size] = value.to_bytes(size, "little")
        sense_size, cdb_size = sizes_in(bytes(config))
        if sense_size > MAX_SENSE_SIZE or cdb_size > MAX_CDB_SIZE:
            summary = (
                f"sense_size {sense_size} and cdb_size {cdb_size}, expected at most {MAX_SENSE_SIZE} and"
            )
            self.violation(CONFIGURATION, f"{summary} {MAX_CDB_SIZE}", written(value, size))
            if self._habits.as_qemu:
                self.needs_reset()
            return
        self._set_sizes(sense_size, cdb_size)

    # --- the life of the device

    def device_was_reset(self) -> None:
        """The sizes are the usual ones again; what is the driver's ends, unless it is a front end that pauses."""
        self._inout = False
        self._default_sizes()
        if not self.front_end:
            self.driver_reset()

    def driver_reset(self) -> None:
        """The units are reset, too, and there is nothing to tell."""
        self.subscriptions.clear()
        self._events.reset()
        self.bus.disconnect()

    driver_left = driver_reset

    @property
    def driver_waits(self) -> bool:
        """Whether a front end has paused: its driver knows nothing of that, and misses what happens meanwhile."""
        return self.front_end and self.bus.connected and not self.status

    def plug(
        self, number: int, lun: int, unit: LogicalUnit, appearing: Callable[[], None] | None = None
    ) -> None:
        """`unit` is there from now on; ValueError where the place is taken, OSError where it cannot be used.

        `appearing` is called when it can be used, before the driver hears of it.
        """
        if self._active:
            unit.activate()
        if appearing is not None:
            appearing()
        self.bus.add(number, lun, unit)

    def unplug(self, number: int, lun: int, over: Callable[[], None] | None = None) -> LogicalUnit:
        """Take a unit out, whatever the driver does with it; `over` when its commands have ended."""
        return self.bus.remove(number, lun, over)

    def activate(self) -> None:
        """Use the units' disks, against others."""
        self._active = True
        for _, _, unit in self.bus.units():
            unit.activate()

    def inactivate(self, done: Callable[[], None]) -> None:
        """Leave the disks to others."""
        self._active = False

        async def rest() -> None:
            for _, _, unit in list(self.bus.units()):
                await unit.inactivate()
            done()

        self.context.start(rest())

    def save_own(self) -> dict[str, int]:
        """The sizes that the driver has chosen, whether units know of it, and whether it has yet to hear of events."""
        return {
            "sense_size": self.framing.sense_size,
            "cdb_size": self.framing.cdb_size,
            "connected": int(self.bus.connected),
            "events_missed": int(self._events.missed),
        }

    def restore_own(self, state: dict[str, int]) -> None:
        """Take what `save_own` gave."""
        self._inout = self.has(ScsiFeature.VIRTIO_SCSI_F_INOUT)
        if state["connected"]:
            self.bus.connect()
        self._set_sizes(min(state["sense_size"], MAX_SENSE_SIZE), min(state["cdb_size"], MAX_CDB_SIZE))
        self._events.missed = bool(state["events_missed"])

    def save_parts(self) -> dict[str, bytes]:
        """What each unit knows, and what the driver wants to hear of."""
        return unitstates.save(self.bus, self.subscriptions)

    def judge_parts(self, parts: dict[str, bytes]) -> None:
        """ValueError where it is not of these units."""
        unitstates.judge(self.bus, parts)

    def restore_parts(self, parts: dict[str, bytes]) -> None:
        """Take what `save_parts` gave."""
        self.subscriptions = unitstates.restore(self.bus, parts)

    def cancel(self, queue: VirtQueue) -> None:
        """Commands of `queue` that have not started are dropped; functions go on, and nobody hears of them.

        QEMU's commands go on, too, where the queue alone is reset.
        """
        if queue.index == CONTROL_QUEUE:
            self._control.give_back()
        elif queue.index == EVENT_QUEUE:
            self._events.given_up()
        elif queue.in_flight and (self.resetting or not self.as_qemu):
            for target in self.bus.all_targets():
                target.cancel(lambda task: isinstance(task, ScsiRequest) and task.queue is queue, _nothing)

    # --- queues

    def process(self, queue: VirtQueue) -> None:
        """Take every buffer that is available; those of the event queue stay until there is something to tell."""
        if queue.index == EVENT_QUEUE:
            self._events.more()
        else:
            super().process(queue)

    def handle(self, queue: VirtQueue, chains: Sequence[Chain]) -> None:
        """Start the commands, or the requests of the control queue."""
        if queue.index >= FIRST_REQUEST_QUEUE:
            self._commands(queue, chains)
        elif queue.index == CONTROL_QUEUE:
            for chain in chains:
                self._control.handle(chain)
        else:
            self._events.give_back(chains)

    def judge_chains(self, queue: VirtQueue, chains: list[Chain]) -> None:
        """Without a whole header, or room for a whole response: nothing that came with it is begun."""
        header, response = self.framing.header_size, self.framing.response_size
        if queue.index >= FIRST_REQUEST_QUEUE and any(
            each.readable_bytes < header or each.writable_bytes < response for each in chains
        ):
            for each in chains:
                del queue.in_flight[each.head]
            chains.clear()
            raise RingError(CLAUSE, f"a header of less than {header} bytes, or room for less than {response}")

    def _commands(self, queue: VirtQueue, chains: Sequence[Chain]) -> None:
        """Start commands."""
        done = 0 if self._habits.as_qemu else quickreads.read_now(self, queue, chains)
        if done:
            chains = chains[done:]
        parsed = map(partial(self._parse, queue), chains)
        self.start((each for each in parsed if each is not None), together=len(chains) > 1)

    def start(self, requests: Iterable[ScsiRequest], *, together: bool) -> None:
        """Submit commands; of several, those with data to write that come one after the other start `together`."""
        if self._habits.as_qemu:
            self.bus.start_as_qemu(requests)
            return
        writes: list[ScsiRequest] = []
        for request in requests:
            if together and request.dma_out is not None and request.attribute is _SIMPLE:
                writes.append(request)
                continue
            if writes:
                self.bus.start_together(writes)
                writes = []
            request.place.unit.submit(request)
        if writes:
            self.bus.start_together(writes)

    def _parse(self, queue: VirtQueue, chain: Chain) -> ScsiRequest | None:
        """Make a task of one buffer; None where that was answered."""
        request = self.frame(queue, chain)
        return request if request is not None and self.find(request) and self.map(request) else None

    def frame(self, queue: VirtQueue, chain: Chain) -> ScsiRequest | None:
        """What a buffer's header says, as a task for nobody yet; None where it was answered."""
        framing = self.framing
        if chain.readable_bytes < framing.header_size or chain.writable_bytes < framing.response_size:
            self._wrong_size(queue, chain, framing)
            return None
        out_at, in_at = framing.begins(chain)
        out_size, in_size = chain.readable_bytes - out_at, chain.writable_bytes - in_at
        if out_size and in_size and not self._inout:
            self._refuse(queue, chain, framing, "data both ways without VIRTIO_SCSI_F_INOUT")
            return None
        try:
            lun, tag, attribute, priority, _, cdb = self._unpack(framing, chain.readable)
        except GuestMemoryError as error:
            self._refuse(queue, chain, framing, f"header outside memory: {error}", written(error.address, 8))
            return None
        request = ScsiRequest(_NOBODY, None, tag, cdb, self.done)
        if attribute and not self._habits.as_qemu:
            request.attribute = _ATTRIBUTES[attribute] if attribute < len(_ATTRIBUTES) else _SIMPLE
        request.priority = priority
        request.address = lun
        request.queue = queue
        request.chain = chain
        request.framing = framing
        request.expected = out_size + in_size
        request.dma_in = request.dma_out = request.answer = None
        return request

    def find(self, request: ScsiRequest) -> bool:
        """Whose command it is; False where there is no such target, as it was answered."""
        place = self.bus.find(request.address)
        if place is None:
            request.answer = ScsiResponse.VIRTIO_SCSI_S_BAD_TARGET
            request.done(request)
            return False
        request.place = place
        request.nexus = place.nexus
        request.lun = place.lun
        return True

    def map(self, request: ScsiRequest) -> bool:
        """Give it its data; False where that is no memory, as it was answered."""
        chain, framing = request.chain, request.framing
        out_at, in_at = framing.begins(chain)
        out_size = chain.readable_bytes - out_at
        try:
            if out_size:
                request.dma_out = self.memory.map(skip(chain.readable, out_at), _TO_DEVICE)
                request.data_out = request.dma_out.views
            if request.expected > out_size:
                request.dma_in = self.memory.map(skip(chain.writable, in_at), _FROM_DEVICE)
                request.data_in = request.dma_in.views
        except GuestMemoryError as error:
            if request.dma_out is not None:
                request.dma_out.unmap(0)
            self._refuse(
                request.queue,
                chain,
                framing,
                f"data outside memory: {error}",
                written(error.address, 8),
            )
            return False
        return True

    def _unpack(self, framing: Framing, readable: Sequence[tuple[int, int]]) -> tuple[Any, ...]:
        """The header's fields, copied out once."""
        address, length = readable[0]
        if length >= framing.header_size:
            return self.memory.unpack(address, framing.header)
        return framing.header.unpack(self.read_all(readable, framing.header_size))

    def read_all(self, readable: Sequence[tuple[int, int]], count: int) -> bytes:
        """The first `count` bytes of a scatter list; GuestMemoryError."""
        return b"".join(self.memory.read(*piece) for piece in head(readable, count))

    def when_taken(self, then: Callable[[], None]) -> None:
        """Take the commands that are available, and call `then`: here they have been as they came."""
        then()

    # --- the end of a command

    def when_shown(self, then: Callable[[], None]) -> None:
        """Show the driver the commands that have ended, and call `then`."""
        for queue in self.queues[FIRST_REQUEST_QUEUE:]:
            if queue.flush_due:
                queue.flush()
        then()

    def done(self, task: Task) -> None:
        """A task is over."""
        if TYPE_CHECKING:
            assert isinstance(task, ScsiRequest)
        queue, sent = task.queue, task.sent
        usual = queue.open
        dropped = not usual and queue.drops and not self.as_qemu
        if task.dma_out is not None:
            task.dma_out.unmap(0)
        if task.dma_in is not None:
            task.dma_in.unmap(0 if dropped else sent)
        if usual:
            written = self.write_all(queue, task.chain, task.response())
            queue.finish(((task.chain, task.framing.used(task.chain, written, sent)),))
        else:
            self._respond(queue, task.chain, task.framing, task.response(), sent)

    def _wrong_size(self, queue: VirtQueue, chain: Chain, framing: Framing) -> None:
        """Header or response do not have the size that was agreed on."""
        summary = (
            f"{chain.readable_bytes} bytes with a header of {framing.header_size},"
            f" {chain.writable_bytes} with a response of {framing.response_size}"
        )
        self._refuse(queue, chain, framing, summary)

    def _refuse(
        self, queue: VirtQueue, chain: Chain, framing: Framing, summary: str, data: bytes = b""
    ) -> None:
        """Answer a command that the driver got wrong: `data`, or its header, of which nothing was read before."""
        if not data:
            try:
                data = self.read_all(chain.readable, min(chain.readable_bytes, framing.header_size))
            except GuestMemoryError as error:
                data = written(error.address, 8)
        self.violations.report(CLAUSE, summary, f"{queue.name} head {chain.head}", data)
        self._respond(queue, chain, framing, framing.response(ScsiResponse.VIRTIO_SCSI_S_FAILURE), 0)

    def _respond(self, queue: VirtQueue, chain: Chain, framing: Framing, response: bytes, sent: int) -> None:
        """Write a response and give the buffer back, `sent` bytes of data in it."""
        if queue.drops:
            if self.as_qemu:
                self.write_all(queue, chain, response)
            queue.finish(((chain, 0),))
        elif self.paused:
            self.put_off.append(partial(self._respond, queue, chain, framing, response, sent))
        else:
            room = chain.writable_bytes
            if room < len(response):
                # As much of it as there is room for, where that tells anything.
                response = response[:room] if room >= RESPONSE_SIZE else b""
            written = self.write_all(queue, chain, response)
            queue.finish(((chain, framing.used(chain, written, sent)),))

    def write_all(self, queue: VirtQueue, chain: Chain, data: bytes) -> int:
        """Write `data` at the beginning of a buffer's writable part, which is as long; 0 where it cannot be reached."""
        if not data:
            return 0
        try:
            done = 0
            for address, length in chain.writable:
                part = data[done : done + length] if done or length < len(data) else data
                self.memory.write(address, part)
                done += len(part)
                if done >= len(data):
                    break
        except GuestMemoryError as error:
            self.violations.report(
                CLAUSE,
                f"response outside memory: {error}",
                f"{queue.name} head {chain.head}",
                written(error.address, 8),
            )
            return 0
        return len(data)


def _nothing() -> None:
    pass
