"""A disk behind a target, and an initiator that sends it CDBs, in one line."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from devmodels.blockbackend import BlockBackend, BlockNode, open_node
from devmodels.conformance import Profile, ViolationLog
from devmodels.iocontext import IoContext
from devmodels.runstate import RunState
from devmodels.scsi import (
    Function,
    LogicalUnit,
    Nexus,
    Outcome,
    Response,
    ScsiTarget,
    Status,
    TargetPort,
    Task,
    TaskAttribute,
    sas_transport_id,
)
from devmodels.scsi.disk import Disk, DiskOptions
from devmodels.scsi.lun import REPORT_LUNS

BLOCKS = 1024
SIZE = BLOCKS * 512
GUARD = b"\xa7" * 16
"""Stands around every buffer, so that whoever writes beyond it is seen."""


@dataclass
class Answer:
    """How a command ended."""

    task: Task
    buffer: bytearray
    room: int

    @property
    def ended(self) -> bool:
        """Whether `done` has been called."""
        return self.count == 1

    count: int = 0

    @property
    def status(self) -> Status:
        """Its status."""
        return self.task.status

    @property
    def outcome(self) -> Outcome:
        """Its outcome."""
        return self.task.outcome

    @property
    def data(self) -> bytes:
        """What was sent."""
        return bytes(self.buffer[len(GUARD) : len(GUARD) + self.task.sent])

    @property
    def key(self) -> int:
        """The sense key; 0 without sense data."""
        sense = self.task.sense
        if not sense:
            return 0
        return sense[2] & 0xF if sense[0] & 0x7E == 0x70 else sense[1] & 0xF

    @property
    def code(self) -> int:
        """Additional sense code and qualifier."""
        sense = self.task.sense
        if not sense:
            return 0
        at = 12 if sense[0] & 0x7E == 0x70 else 2
        return sense[at] << 8 | sense[at + 1]

    @property
    def field(self) -> tuple[int, int | None] | None:
        """The field that the sense data points at: byte and bit."""
        sense = self.task.sense
        if not sense or sense[0] & 0x7F != 0x70 or not sense[15] & 0x80:
            return None
        return struct.unpack(">H", sense[16:18])[0], sense[15] & 7 if sense[15] & 8 else None

    @property
    def information(self) -> int | None:
        """The information field of fixed sense data, where it is valid."""
        sense = self.task.sense
        return int.from_bytes(sense[3:7], "big") if sense and sense[0] & 0x80 else None


class Initiator:
    """One initiator port at a target."""

    def __init__(self, target: ScsiTarget, number: int, port: TargetPort | None = None) -> None:
        self.target = target
        self.nexus = Nexus(sas_transport_id(number), port or TargetPort(), f"initiator {number}")
        self.tag = 0
        target.nexus_gained(self.nexus)

    def send(
        self,
        cdb: bytes | str,
        *,
        out: bytes = b"",
        room: int = 0,
        lun: int | None = 0,
        attribute: TaskAttribute = TaskAttribute.SIMPLE,
        pieces: int = 1,
        tag: int | None = None,
    ) -> Answer:
        """Submit and do not wait; `room` bytes for data, in `pieces` pieces."""
        if isinstance(cdb, str):
            cdb = bytes.fromhex(cdb)
        buffer = bytearray(GUARD + b"\x55" * room + GUARD)
        view = memoryview(buffer)[len(GUARD) : len(GUARD) + room]
        step = max(1, -(-room // pieces))
        self.tag += 1
        answers: list[Answer] = []

        def done(task: Task) -> None:
            answers[0].count += 1
            assert answers[0].count == 1
            assert buffer[: len(GUARD)] == buffer[-len(GUARD) :] == GUARD

        task = Task(
            self.nexus,
            lun,
            self.tag if tag is None else tag,
            cdb,
            done,
            data_out=[memoryview(bytes(out))] if out else [],
            data_in=[view[at : at + step] for at in range(0, room, step)],
            attribute=attribute,
        )
        answers.append(Answer(task, buffer, room))
        self.target.submit(task)
        return answers[0]

    def do(
        self, cdb: bytes | str, *, out: bytes = b"", room: int = 0, lun: int | None = 0, pieces: int = 1
    ) -> Answer:
        """Submit and wait for the end."""
        answer = self.send(cdb, out=out, room=room, lun=lun, pieces=pieces)
        if not answer.count:
            self.target.context.run_until_idle()
        assert answer.ended
        return answer

    def good(self, cdb: bytes | str, *, out: bytes = b"", room: int = 0, lun: int | None = 0) -> bytes:
        """As `do`, for a command that must succeed; what it returns."""
        answer = self.do(cdb, out=out, room=room, lun=lun)
        assert answer.status is Status.GOOD, (answer.status, hex(answer.key), hex(answer.code))
        return answer.data

    def clear(self, lun: int = 0) -> None:
        """Hear all that the unit has to tell."""
        while self.do("00 00 00 00 00 00", lun=lun).key == 6:
            pass

    def manage(self, function: Function, *, lun: int | None = 0, tag: int = 0) -> list[Response]:
        """Task management; the answers, once they are there."""
        answers: list[Response] = []
        self.target.manage(self.nexus, function, lun, tag, answers.append)
        return answers


class World:
    """A target with one disk at LUN 0, two initiators that have heard its unit attentions."""

    def __init__(
        self,
        node: BlockNode | dict[str, object] | None = None,
        *,
        profile: Profile = Profile.STRICT,
        read_only: bool = False,
        **options: object,
    ) -> None:
        self.context = node.context if isinstance(node, BlockNode) else IoContext.virtual()
        if not isinstance(node, BlockNode):
            given = node or {"driver": "memory", "size": SIZE, "discard": "unmap"}
            node = open_node(given, self.context)
        self.node = node
        self.run_state = RunState()
        self.backend = BlockBackend(node, name="d0", run_state=self.run_state, read_only=read_only)
        self.violations = ViolationLog(profile)
        self.target = ScsiTarget(self.context, name="t0", violations=self.violations)
        self.disk = Disk(self.backend, DiskOptions(**options), violations=self.violations)  # type: ignore[arg-type]
        self.target.add(0, self.disk)
        self.first = Initiator(self.target, 1)
        self.second = Initiator(self.target, 2)
        self.first.clear()
        self.second.clear()

    def units(self) -> list[LogicalUnit]:
        """The disk, the well known unit, and what answers where there is none."""
        well_known = self.target.unit(REPORT_LUNS)
        assert well_known is not None
        return [self.disk, well_known, self.target.absent]

    def close(self) -> None:
        """Close everything."""
        self.disk.close()
        self.backend.close()
        self.node.close()
        self.context.close()
