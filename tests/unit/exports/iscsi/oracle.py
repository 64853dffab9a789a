"""An initiator that knows what may be said to it, and sees that nothing else is (RFC 7143 §4.2.2, §11)."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import Any

from devmodels.exports.iscsi.session import WINDOW
from devmodels.iocontext import IoContext
from devmodels.protocols.iscsi import pdu
from devmodels.protocols.iscsi.codes import Function, FunctionResponse
from devmodels.protocols.iscsi.pdu import Opcode, serial_after

from .initiator import NOBODY, Initiator, Pdu

SERIALS = 0xFFFFFFFF


@dataclass
class Asked:
    """One command: what may still be said of it."""

    tag: int
    line: Judge
    reads: int = 0
    writes: int = 0
    number: int | None = None
    """Its CmdSN; None where it is immediate."""
    delivered: int = 0
    data_sn: int = 0
    asked_for: int = 0
    """Offset from which data is asked for next."""
    transfers: dict[int, tuple[int, int]] = field(default_factory=dict)
    """What was asked for and has not come: offset and length by transfer tag."""
    silent: bool = False
    """It was ended, or rejected: nothing more is said of it."""


@dataclass
class Numbers:
    """What is common to the connections of a session."""

    cmd_sn: int
    asked: dict[int, Asked] = field(default_factory=dict)
    """Commands without a status, by tag."""
    functions: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Task management without an answer: the function, and the task's tag."""


class Judge(Initiator):
    """One connection of a session with these `numbers`."""

    def __init__(self, sock: socket.socket, context: IoContext, numbers: Numbers) -> None:
        super().__init__(sock, context)
        self.numbers = numbers
        self.agreed: dict[str, int] = {}
        self.expects: dict[int, Opcode] = {}
        """What answers requests that are no commands, by tag."""
        self.exp_cmd_sn: int | None = None
        self.max_cmd_sn: int | None = None

    def send_bytes(self, data: bytes) -> None:
        """As much of `data` as somebody takes who may have hung up."""
        try:
            super().send_bytes(data)
        except (BrokenPipeError, ConnectionResetError):
            self._ended = True

    # --- what is asked

    def ask(self, cdb: bytes, data: bytes = b"", *, reads: int = 0, writes: int = 0, **fields: Any) -> Asked:
        """A command, whose tag is new."""
        number = None if fields.get("immediate") else fields.get("cmd_sn", self.numbers.cmd_sn)
        asked = Asked(0, self, reads, writes, number, asked_for=len(data))
        flags = fields.pop("attribute", 1) | (pdu.READ if reads else 0) | (pdu.WRITE if writes else 0)
        flags |= fields.pop("final", pdu.FINAL)
        self.itt += 1
        self.numbers.asked[self.itt] = asked
        asked.tag = self.itt
        self.command(cdb, data, flags=flags, expected=reads or writes, itt=self.itt, **fields)
        return asked

    def expect(self, opcode: Opcode, answer: Opcode, data: bytes = b"", **fields: Any) -> None:
        """A request of another kind, immediate."""
        self.itt += 1
        self.expects[self.itt] = answer
        self.request(opcode, data, itt=self.itt, immediate=True, cmd_sn=self.numbers.cmd_sn, **fields)

    def manage(self, function: int, tag: int, ref_cmd_sn: int, lun: int) -> None:
        """Task management, immediate."""
        self.itt += 1
        self.numbers.functions[self.itt] = function, tag
        self.request(
            Opcode.TASK_MANAGEMENT_REQUEST,
            flags=pdu.FINAL | function,
            itt=self.itt,
            referenced_tag=tag,
            ref_cmd_sn=ref_cmd_sn,
            lun=lun,
            immediate=True,
            cmd_sn=self.numbers.cmd_sn,
        )

    # --- what is said

    def judge(self) -> None:
        """See that what has come may come."""
        for found in self.receive_all():
            self._check_numbers(found)
            _JUDGES[found.opcode](self, found)

    def _check_numbers(self, found: Pdu) -> None:
        expected, highest = found["exp_cmd_sn"], found["max_cmd_sn"]
        assert (highest - expected + 1) & SERIALS <= WINDOW, found
        assert self.exp_cmd_sn is None or not serial_after(self.exp_cmd_sn, expected), found
        assert self.max_cmd_sn is None or not serial_after(self.max_cmd_sn, highest), found
        self.exp_cmd_sn, self.max_cmd_sn = expected, highest

    def _command(self, found: Pdu) -> Asked:
        asked = self.numbers.asked[found["itt"]]
        assert asked.line is self, found
        assert not asked.silent, found
        return asked

    def _end(self, asked: Asked) -> None:
        del self.numbers.asked[asked.tag]

    def _data_in(self, found: Pdu) -> None:
        asked = self._command(found)
        assert (found["data_sn"], found["offset"]) == (asked.data_sn, asked.delivered), found
        assert 0 < len(found.data) <= self.agreed["MaxRecvDataSegmentLength"]
        asked.data_sn += 1
        asked.delivered += len(found.data)
        assert asked.delivered <= asked.reads
        if found["flags"] & pdu.STATUS_PRESENT:
            assert found["flags"] & pdu.FINAL
            assert found["status"] == 0
            self._check_residual(asked, found, asked.delivered, asked.reads)
            self._end(asked)

    def _check_residual(self, asked: Asked, found: Pdu, moved: int, expected: int) -> None:
        under, over = found["flags"] & pdu.UNDERFLOW, found["flags"] & pdu.OVERFLOW
        assert not (under and over)
        assert bool(under or over) == bool(found["residual"])
        if found.fields["status"] == 0:
            assert moved == expected - (found["residual"] if under else 0), (asked, found)

    def _response(self, found: Pdu) -> None:
        asked = self._command(found)
        assert found["response"] == 0
        assert found["status"] in (0, 2, 8, 0x18, 0x28), found
        assert (found["status"] == 2) == bool(found.data)
        if asked.reads:
            assert found["exp_data_sn"] == asked.data_sn
            self._check_residual(asked, found, asked.delivered, asked.reads)
        self._end(asked)

    def _r2t(self, found: Pdu) -> None:
        asked = self._command(found)
        assert found["r2t_sn"] == asked.data_sn
        assert found["ttt"] not in (NOBODY, *asked.transfers)
        assert found["offset"] == asked.asked_for, (asked, found)
        assert 0 < found["desired"] <= self.agreed["MaxBurstLength"]
        asked.data_sn += 1
        asked.asked_for += found["desired"]
        assert asked.asked_for <= asked.writes
        asked.transfers[found["ttt"]] = found["offset"], found["desired"]
        assert len(asked.transfers.keys() - {NOBODY}) <= self.agreed["MaxOutstandingR2T"]

    def _managed(self, found: Pdu) -> None:
        function, tag = self.numbers.functions.pop(found["itt"])
        response = FunctionResponse(found["response"])
        if response is FunctionResponse.COMPLETE and function == Function.ABORT_TASK:
            ended = self.numbers.asked.get(tag)
            if ended is not None:
                ended.silent = True

    def _other(self, found: Pdu) -> None:
        if found.opcode is Opcode.NOP_IN and found["itt"] == NOBODY:
            return
        assert self.expects.pop(found["itt"]) is found.opcode, found

    def _reject(self, found: Pdu) -> None:
        tag = int.from_bytes(found.data[16:20], "big")
        self.expects.pop(tag, None)
        self.numbers.functions.pop(tag, None)
        if found.data[0] & pdu.OPCODE_MASK == Opcode.SCSI_COMMAND and found["reason"] != 7:
            self.numbers.asked[tag].silent = True

    def _announcement(self, found: Pdu) -> None:
        assert found["tag"] == NOBODY


_JUDGES = {
    Opcode.DATA_IN: Judge._data_in,
    Opcode.SCSI_RESPONSE: Judge._response,
    Opcode.R2T: Judge._r2t,
    Opcode.TASK_MANAGEMENT_RESPONSE: Judge._managed,
    Opcode.NOP_IN: Judge._other,
    Opcode.TEXT_RESPONSE: Judge._other,
    Opcode.LOGOUT_RESPONSE: Judge._other,
    Opcode.REJECT: Judge._reject,
    Opcode.ASYNC_MESSAGE: Judge._announcement,
}
