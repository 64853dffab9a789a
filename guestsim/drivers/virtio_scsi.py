"""A driver of the virtio SCSI host device (VIRTIO 1.4 §5.6) on top of `VirtioDevice`: commands, control, events."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guestsim.drivers import virtio_bus, virtio_driver
from guestsim.drivers.cdb import Cdb
from guestsim.drivers.layouts import SECTOR
from guestsim.drivers.scsi import Sense, opcode_name, parse_sense
from guestsim.drivers.scsi_layouts import (
    ASYNC,
    ASYNC_ANSWER,
    CDB_SIZE,
    COMMAND,
    CONTROL_QUEUE,
    EVENT,
    EVENT_QUEUE,
    EVENTS_MISSED,
    FIRST_REQUEST_QUEUE,
    RESPONSE,
    SCSI_CONFIG,
    SENSE_SIZE,
    TMF,
    ControlType,
    EventType,
    ScsiFeature,
    ScsiResponse,
    lun_bytes,
    read_lun,
)
from guestsim.drivers.transport import Interrupts
from guestsim.drivers.virtio import RING_FEATURES
from guestsim.drivers.virtio_driver import Request, VirtioDriver
from guestsim.errors import GuestCheckError, GuestError
from guestsim.memory import Segment

if TYPE_CHECKING:
    from guestsim.drivers.ring import Queue
    from guestsim.drivers.transport import Transport
    from guestsim.guest import Guest

SCSI_FEATURES = RING_FEATURES | (frozenset(ScsiFeature) - {ScsiFeature.T10_PI})
"""What this driver understands."""

EVENT_BUFFERS = 8
MAX_EVENTS = 1024

Pending = virtio_driver.Pending["Command | Control"]


@dataclass(frozen=True, slots=True)
class Command(Request):
    """A command: `header` bytes of what the device reads are its header, `response` of what it writes its response."""

    header: int = COMMAND.size + CDB_SIZE
    response: int = RESPONSE.size + SENSE_SIZE

    @property
    def name(self) -> str:
        """The command's name, for messages."""
        return opcode_name(self.readable[COMMAND.size]) if len(self.readable) > COMMAND.size else "command"


@dataclass(frozen=True, slots=True)
class Control(Request):
    """A request of the control queue."""

    @property
    def name(self) -> str:
        """Its kind, for messages."""
        return "control request"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a command.

    `data` is what was returned as far as the used length covers it; `sense_length` what the device says of its sense
    data; `residual` how many bytes of what it was given and of its room were not used.
    """

    response: int
    status: int
    residual: int
    sense: Sense | None
    sense_data: bytes
    sense_length: int
    data: bytes
    used_length: int
    duration_ns: int

    @property
    def delivered(self) -> bool:
        """Whether a target has answered."""
        return self.response == ScsiResponse.OK

    @property
    def response_name(self) -> str:
        """`OK`, `BAD_TARGET`, …, or the number."""
        return response_name(self.response)


def response_name(response: int) -> str:
    """A response as the specification calls it, or its number."""
    return ScsiResponse(response).name if response in set(ScsiResponse) else f"response {response}"


@dataclass(frozen=True, slots=True)
class Event:
    """An event: what happened, where, why, and whether others before it were missed."""

    event: int
    target: int
    lun: int
    reason: int
    missed: bool

    def __str__(self) -> str:
        name = EventType(self.event).name if self.event in set(EventType) else f"event {self.event}"
        return f"{name} of {self.target}:{self.lun}, reason {self.reason:#x}{', others missed' * self.missed}"


class VirtioScsi(VirtioDriver[Command | Control]):
    """Driver of one SCSI host device, on any transport.

    `events` are those that have come and nobody has taken; a vCPU uses the request queue with its own number unless a
    caller names another.
    """

    __slots__ = ("_config", "_event_buffers", "_tag", "cdb_size", "events", "sense_size")

    def __init__(self, guest: Guest, transport: Transport) -> None:
        super().__init__(guest, transport)
        self._config: dict[str, int] | None = None
        self._event_buffers: list[Segment] = []
        self._tag = 0
        self.events: list[Event] = []
        self.sense_size, self.cdb_size = SENSE_SIZE, CDB_SIZE

    # --- bringing up

    async def probe(
        self,
        *,
        features: Collection[int] = SCSI_FEATURES,
        force: Collection[int] = (),
        queues: int | None = None,
        queue_size: int | None = None,
        interrupts: Interrupts = Interrupts.MSIX,
        indirect: bool = True,
        sense_size: int = SENSE_SIZE,
        cdb_size: int = CDB_SIZE,
        events: int = EVENT_BUFFERS,
    ) -> None:
        """Reset the device and bring it up.

        `queues` is how many of the device's request queues are used, all by default; `events` how many buffers the
        event queue is given.
        """
        await self.begin(features, force, interrupts, indirect=indirect)
        device = self.device
        # A driver does well to ignore the used lengths of a legacy device (§5.6.6).
        device.any_length = device.any_length or device.transport.legacy
        count = self.config["num_queues"]
        if not count:
            raise GuestCheckError("VIRTIO 1.4 §5.6.4", f"{device}: num_queues is 0")
        count = FIRST_REQUEST_QUEUE + min(count, queues or count)
        self.choose_sizes(sense_size, cdb_size)
        device.connect(interrupts, count)
        for index in range(count):
            device.setup_queue(index, queue_size)
        device.driver_ok()
        if device.transport.legacy:
            self._config = None
        self.offer_event_buffers(events)

    def choose_sizes(self, sense_size: int, cdb_size: int) -> None:
        """Write the sizes that are not what the device has (§5.6.4.1)."""
        for name, value in (("sense_size", sense_size), ("cdb_size", cdb_size)):
            if self.config[name] != value:
                self.device.transport.write_config(SCSI_CONFIG[name], value)
                self._config = None
        self.sense_size, self.cdb_size = sense_size, cdb_size

    @property
    def config(self) -> dict[str, int]:
        """The fields of `virtio_scsi_config`, by name; read once, and again after each change."""
        if self._config is None:
            values = self.device.read_config(SCSI_CONFIG.fields.values())
            self._config = dict(zip(SCSI_CONFIG.fields, values, strict=True))
        return self._config

    def forget_config(self) -> None:
        """It is read again when it is needed."""
        self._config = None

    def dropped(self, queue: int | None) -> None:
        """The event queue's buffers are the driver's again where it was reset."""
        if queue in (None, EVENT_QUEUE):
            for buffer in self._event_buffers:
                self.guest.memory.free(buffer.address)
            self._event_buffers.clear()
            self.events.clear()

    @property
    def request_queues(self) -> list[Queue]:
        """The request queues in use."""
        return [queue for index, queue in self.device.queues.items() if index >= FIRST_REQUEST_QUEUE]

    # --- commands

    def command(
        self,
        lun: bytes,
        cdb: bytes,
        data: bytes = b"",
        room: int = 0,
        *,
        tag: int | None = None,
        attribute: int = 0,
        scatter: int = 1,
    ) -> Command:
        """A command with `data` out and `room` for data in; its tag is one of its own where none is given."""
        if tag is None:
            self._tag += 1
            tag = self._tag
        header = COMMAND.pack(lun, tag, attribute, 0, 0) + cdb.ljust(self.cdb_size, b"\0")[: self.cdb_size]
        response = RESPONSE.size + self.sense_size
        return Command(header + data, response + room, scatter=scatter, header=len(header), response=response)

    def shape(self, request: Command | Control, ring: Queue) -> tuple[list[int], list[int]]:  # noqa: ARG002
        """Header and response apart from the data, which has at most SEG_MAX segments."""
        if isinstance(request, Control):
            return [len(request.readable)], [request.writable] if request.writable else []
        head, answer = min(request.header, len(request.readable)), min(request.response, request.writable)
        most = self.config["seg_max"]
        readable = [head, *self.cut(len(request.readable) - head, request.scatter, most=most)]
        writable = [answer, *self.cut(request.writable - answer, request.scatter, most=most)]
        return [each for each in readable if each], [each for each in writable if each]

    async def submit(
        self, commands: Iterable[Command | Control], *, queue: int | None = None
    ) -> list[Pending]:
        """Make commands available on a request queue and notify the device once."""
        rings = self.request_queues
        if not rings:
            raise GuestError("the device has not been probed")
        if queue is not None and queue >= len(rings):
            raise GuestError(f"request queue {queue}: the driver uses {len(rings)}")
        ring = rings[self.guest.cpu % len(rings) if queue is None else queue]
        return await self.submit_to(ring, commands)

    async def execute(self, command: Command, *, queue: int | None = None) -> Answer:
        """Carry one command out."""
        (pending,) = await self.submit([command], queue=queue)
        return await self.finish(pending)

    async def finish(self, pending: Pending, timeout_ns: int | None = None) -> Answer:
        """Wait for the answer to a command, and check its form."""
        command = pending.operation
        assert isinstance(command, Command)
        written, used_length, duration = await self.come_back(pending, timeout_ns)
        if len(written) < RESPONSE.size:
            return Answer(-1, 0, 0, None, b"", 0, b"", used_length, duration)
        sense_length, residual, _, status, response = RESPONSE.unpack_from(written)
        sense_data = written[RESPONSE.size : command.response][:sense_length]
        data = written[command.response :]
        if not self.device.any_length:
            data = data[: max(0, used_length - command.response)]
        elif response == ScsiResponse.OK and residual <= len(data):
            data = data[: len(data) - residual]
        answer = Answer(
            response,
            status,
            residual,
            parse_sense(sense_data),
            sense_data,
            sense_length,
            data,
            used_length,
            duration,
        )
        if command.checked:
            self._check(command, answer)
        return answer

    def _check(self, command: Command, answer: Answer) -> None:
        """Hold an answer to what §5.6.6.1 says of every command that is well formed."""
        clause = "VIRTIO 1.4 §5.6.6.1"
        if answer.response not in set(ScsiResponse):
            raise GuestCheckError(clause, f"{command.name}: response {answer.response}")
        if answer.sense_length > command.response - RESPONSE.size:
            raise GuestCheckError(clause, f"{command.name}: {answer.sense_length} bytes of sense data")
        if answer.used_length < RESPONSE.size + answer.sense_length and not self.device.any_length:
            self.check_used_length(command, answer.used_length, RESPONSE.size + answer.sense_length)

    async def send(self, target: int, lun: int, command: Cdb, data: bytes = b"") -> Answer:
        """As an initiator port: send a command to a unit and wait for its answer."""
        request = self.command(lun_bytes(target, lun), command.data, data, command.room)
        return await self.execute(request)

    async def read(self, offset: int, length: int, *, target: int = 0, lun: int = 0) -> bytes:
        """Read a disk of blocks of 512 bytes; GuestError where that fails."""
        from guestsim.drivers.cdb import read_16

        answer = await self.send(target, lun, read_16(lba=offset // SECTOR, blocks=length // SECTOR))
        if not answer.delivered or answer.status:
            raise GuestError(f"READ(16) at {offset} failed: {answer.sense or answer.response_name}")
        return answer.data

    # --- the control queue

    async def control(self, request: bytes, room: int) -> bytes:
        """Send a request over the control queue; what the used length covers of its answer."""
        (pending,) = await self.submit_control(request, room)
        return await self.finish_control(pending)

    async def submit_control(self, request: bytes, room: int) -> list[Pending]:
        """Send a request over the control queue."""
        if CONTROL_QUEUE not in self.device.queues:
            raise GuestError("the device has not been probed")
        return await self.submit_to(self.device.queues[CONTROL_QUEUE], [Control(request, room)])

    async def finish_control(self, pending: Pending) -> bytes:
        """Wait for the answer to such a request."""
        written, used_length, _ = await self.come_back(pending)
        return written if self.device.any_length else written[:used_length]

    async def manage(self, function: int, lun: bytes, tag: int = 0) -> int:
        """Task management: the response, -1 where there is none."""
        answer = await self.control(TMF.pack(ControlType.TMF, function, lun, tag), 1)
        return answer[0] if answer else -1

    async def notifications(self, kind: ControlType, lun: bytes, events: int) -> tuple[int, int]:
        """Ask for, or subscribe to, asynchronous events: those that there are, and the response."""
        answer = await self.control(ASYNC.pack(kind, lun, events), ASYNC_ANSWER.size)
        if len(answer) < ASYNC_ANSWER.size:
            return 0, -1
        actual, response = ASYNC_ANSWER.unpack(answer)
        return actual, response

    # --- the event queue

    def offer_event_buffers(self, count: int) -> None:
        """Give the event queue so many buffers more."""
        ring = self.device.queues[EVENT_QUEUE]
        for _ in range(min(count, ring.room)):
            buffer = Segment(self.guest.memory.allocate(EVENT.size), EVENT.size)
            self._event_buffers.append(buffer)
            self._offer(ring, buffer)
        ring.publish()
        ring.kick()

    def _offer(self, ring: Queue, buffer: Segment) -> None:
        self.guest.memory.write(buffer.address, bytes([virtio_driver.UNWRITTEN]) * EVENT.size)
        ring.add([], [buffer], lambda used: self._event(ring, buffer, used))

    def _event(self, ring: Queue, buffer: Segment, used_length: int) -> None:
        """An event has come; its buffer goes back to the device (§5.6.6.3.1)."""
        data = self.guest.memory.read(buffer.address, EVENT.size)
        if used_length == EVENT.size or self.device.any_length:
            event, lun, reason = EVENT.unpack(data)
            target, number = read_lun(lun)
            if len(self.events) < MAX_EVENTS:
                missed = bool(event & EVENTS_MISSED)
                self.events.append(Event(event & ~EVENTS_MISSED, target, number, reason, missed))
        self._offer(ring, buffer)
        ring.publish()
        ring.kick()


def find(guest: Guest) -> list[Transport]:
    """The SCSI host devices of the machine, in order."""
    return virtio_bus.find(guest, virtio_bus.SCSI)
