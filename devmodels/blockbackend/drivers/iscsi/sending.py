"""What an initiator sends in full feature phase: commands with their data, and what keeps order (RFC 7143 §11)."""

from __future__ import annotations

from devmodels.blockbackend.drivers.iscsi.negotiation import MAX_RECV_DATA_SEGMENT
from devmodels.blockbackend.drivers.iscsi.task import CDB_SIZE, Task
from devmodels.blockbackend.vectors import gather, window
from devmodels.iocontext import IoContext
from devmodels.iscsistream import Stream
from devmodels.protocols.iscsi.codes import Function, LogoutReason
from devmodels.protocols.iscsi.keys import CRC32C, Parameters
from devmodels.protocols.iscsi.pdu import (
    AHS,
    DATA_OUT,
    FINAL,
    IMMEDIATE,
    LOGOUT_REQUEST,
    NOP_OUT,
    READ,
    RESERVED_TAG,
    SCSI_COMMAND,
    TASK_MANAGEMENT_REQUEST,
    TEXT_REQUEST,
    WRITE,
    AhsType,
    Opcode,
    serial_after,
)
from devmodels.protocols.iscsi.text import join
from devmodels.scsi.constants import TaskAttribute

_SERIALS = 0xFFFFFFFF
_COMMAND = int(Opcode.SCSI_COMMAND)


class Sender:
    """The outgoing half of a connection.  `tasks` are those that have been issued and are not over, by tag, in order.

    `aborting`: tasks by the tag of the request to abort them; `pings`, `texts`, `logging_out`: tags of what has not
    been answered.  `cmd_sn`: the number of the next command; the target takes those up to `max_cmd_sn`.
    """

    def __init__(
        self,
        stream: Stream,
        parameters: Parameters,
        lun: int,
        *,
        cmd_sn: int,
        max_cmd_sn: int,
        exp_stat_sn: int,
    ) -> None:
        self._stream = stream
        self._lun = lun
        self.parameters = parameters
        self.cmd_sn = cmd_sn
        self.max_cmd_sn = max_cmd_sn
        self.exp_stat_sn = exp_stat_sn
        self.tasks: dict[int, Task] = {}
        self.aborting: dict[int, Task] = {}
        self.pings: set[int] = set()
        self.texts: set[int] = set()
        self.logging_out: int | None = None
        self._tag = 0
        stream.header_digest = parameters.header_digest == CRC32C
        stream.data_digest = parameters.data_digest == CRC32C

    def move(self, context: IoContext) -> None:
        """Everything happens on `context` from now on."""
        self._stream.move(context)

    @property
    def window_open(self) -> bool:
        """Whether the target takes another command (§4.2.2.1)."""
        return not serial_after(self.cmd_sn, self.max_cmd_sn)

    @property
    def progress(self) -> tuple[int, int]:
        """How many bytes have come, and how many have gone out."""
        return self._stream.received_bytes, self._stream.sent_bytes

    @property
    def unsent(self) -> int:
        """How many bytes wait to go out."""
        return self._stream.unsent

    def _new_tag(self) -> int:
        while True:
            self._tag = (self._tag + 1) % RESERVED_TAG
            if self._tag not in self.tasks:
                return self._tag

    def issue(self, task: Task) -> None:
        """Send a command, with as much of its data as may go with it (§4.2.5.2)."""
        task.itt = itt = self._new_tag()
        task.cmd_sn = self.cmd_sn
        task.issued += 1
        self.tasks[itt] = task
        agreed, writes = self.parameters, task.writes
        immediate = unsolicited = 0
        if writes:
            # With digests the payload is looked at twice: whoever changes it meanwhile must not be seen doing so.
            task.payload = [memoryview(gather(task.vectors))] if self._stream.data_digest else task.vectors
            first = min(writes, agreed.first_burst_length)
            if agreed.immediate_data:
                immediate = min(first, agreed.max_recv_data_segment_length)
            if not agreed.initial_r2t:
                unsolicited = first - immediate
        flags = (WRITE if writes else READ if task.reads else 0) | TaskAttribute.SIMPLE
        if not unsolicited:
            flags |= FINAL
        ahs = _long_cdb(task.long_cdb) if task.long_cdb else b""
        header = SCSI_COMMAND.pack(
            _COMMAND,
            flags,
            immediate | len(ahs) // 4 << 24,
            self._lun,
            itt,
            writes or task.reads,
            self.cmd_sn,
            self.exp_stat_sn,
            task.cdb,
        )
        self.cmd_sn = (self.cmd_sn + 1) & _SERIALS
        self._send_data(task, header + ahs, 0, immediate)
        task.sent = immediate + unsolicited
        if unsolicited:
            self.data_out(task, RESERVED_TAG, immediate, unsolicited)

    def _send_data(self, task: Task, header: bytes, offset: int, length: int) -> None:
        if not length:
            self._stream.send(header)
            return
        task.held += 1
        self._stream.send(header, window(task.payload, offset, length), length, task)

    def data_out(self, task: Task, ttt: int, offset: int, length: int) -> None:
        """A sequence of Data-Out PDUs (§11.7)."""
        longest = self.parameters.max_recv_data_segment_length
        end, number = offset + length, 0
        while offset < end:
            size = min(longest, end - offset)
            flags = FINAL if offset + size == end else 0
            header = DATA_OUT.pack(
                Opcode.DATA_OUT, flags, size, self._lun, task.itt, ttt, self.exp_stat_sn, number, offset
            )
            self._send_data(task, header, offset, size)
            offset += size
            number += 1

    def abort(self, task: Task) -> None:
        """Ask the target to end a task that has been issued: `task.abort_error` is then what became of it."""
        task.aborting = True
        itt = self._new_tag()
        self.aborting[itt] = task
        self._stream.send(
            TASK_MANAGEMENT_REQUEST.pack(
                Opcode.TASK_MANAGEMENT_REQUEST | IMMEDIATE,
                FINAL | Function.ABORT_TASK,
                0,
                self._lun,
                itt,
                task.itt,
                self.cmd_sn,
                self.exp_stat_sn,
                task.cmd_sn,
                0,
            )
        )

    def ping(self) -> None:
        """Ask the target for a sign of life (§11.18)."""
        itt = self._new_tag()
        self.pings.add(itt)
        self.nop_out(itt, RESERVED_TAG, 0)

    @property
    def unanswered(self) -> int:
        """How many pings have not been answered."""
        return len(self.pings)

    def nop_out(self, itt: int, ttt: int, lun: int) -> None:
        """A question of ours, or an answer to the target's."""
        numbers = self.cmd_sn, self.exp_stat_sn
        self._stream.send(NOP_OUT.pack(Opcode.NOP_OUT | IMMEDIATE, FINAL, 0, lun, itt, ttt, *numbers))

    def logout(self) -> None:
        """Ask for the session's end (§11.14); `connection_ended` follows.  Once."""
        if self.logging_out is None:
            self.logging_out = itt = self._new_tag()
            numbers = self.cmd_sn, self.exp_stat_sn
            flags = FINAL | LogoutReason.CLOSE_SESSION
            self._stream.send(
                LOGOUT_REQUEST.pack(Opcode.LOGOUT_REQUEST | IMMEDIATE, flags, 0, itt, 0, *numbers)
            )

    def negotiate(self) -> None:
        """The target has asked for a negotiation: declare again what is so anyway (§11.9.1)."""
        itt = self._new_tag()
        self.texts.add(itt)
        text = join([("MaxRecvDataSegmentLength", str(MAX_RECV_DATA_SEGMENT))])
        numbers = self.cmd_sn, self.exp_stat_sn
        opcode = Opcode.TEXT_REQUEST | IMMEDIATE
        header = TEXT_REQUEST.pack(opcode, FINAL, len(text), 0, itt, RESERVED_TAG, *numbers)
        self._stream.send(header, (text,), len(text))


def _long_cdb(cdb: bytes) -> bytes:
    """An additional header segment with what follows the first sixteen bytes of a CDB (§11.2.2.3)."""
    rest = cdb[CDB_SIZE:]
    segment = AHS.pack(len(rest) + 1, AhsType.EXTENDED_CDB, 0) + rest
    return segment + bytes(-len(segment) % 4)
