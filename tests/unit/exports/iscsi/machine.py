"""Initiators that do what they may, and a little more, in any order: what the target says is always in order."""

from __future__ import annotations

import logging
import socket

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from devmodels.exports.iscsi.session import MAX_ROOM, Session
from devmodels.protocols.iscsi import pdu
from devmodels.protocols.iscsi.codes import Function
from devmodels.protocols.iscsi.pdu import Opcode

from .initiator import INQUIRY, LOGIN_KEYS, NOBODY, TEST_UNIT_READY, World, build, read_10, write_10
from .oracle import SERIALS, Asked, Judge, Numbers

MS = 10**6
KEYS = {
    "MaxConnections": "4",
    "MaxBurstLength": "2048",
    "FirstBurstLength": "1024",
    "MaxOutstandingR2T": "2",
    "MaxRecvDataSegmentLength": "1536",
    "ErrorRecoveryLevel": "0",
}
LIMITS = {name: int(KEYS[name]) for name in KEYS}

numbers = st.integers(0, 1 << 16)
blocks = st.integers(0, 12)
attributes = st.sampled_from([0, 1, 1, 1, 2, 3])


class Alarm(logging.Handler):
    """Keeps what is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(record.getMessage())


class IscsiMachine(RuleBasedStateMachine):
    """Up to three initiator ports with up to four connections each."""

    def __init__(self) -> None:
        super().__init__()
        self.alarm = Alarm()
        logging.getLogger("devmodels").addHandler(self.alarm)
        self.world = World(delay_ns=MS, strict=False)
        self.lines: list[Judge] = []
        self.sessions: list[Session] = []
        self.second = False
        self.connections = 0

    def teardown(self) -> None:
        try:
            self._settle()
            for line in self.lines:
                line.close()
            self.world.context.step(10 * MS)
            target = self.world.export.target
            assert not target.sessions
            assert not target.scsi.nexuses
            assert not target.endings._left
            for session in self.sessions:
                assert not session.tasks
                assert not session.unsubmitted
                assert not session.waiting
                assert session.room == MAX_ROOM
                assert session.immediate == 0
        finally:
            logging.getLogger("devmodels").removeHandler(self.alarm)
            for line in self.lines:
                line.close()
            self.world.close()
        assert self.alarm.heard == []

    # --- connections

    def _connect(self, isid: int, numbers: Numbers) -> Judge:
        ours, theirs = socket.socketpair()
        self.world.export.portal.welcome(theirs)
        line = Judge(ours, self.world.context, numbers)
        line.isid = bytes((0x80, 0, 0, 0, 0, isid))
        # Tags are one set in a session, whatever connections it has had.
        self.connections += 1
        line.itt = self.connections << 16
        line.agreed = LIMITS
        return line

    def _gone(self) -> None:
        """Connections that have ended are forgotten, their tasks with them."""
        for line in [each for each in self.lines if each.gone]:
            line.close()
            self.lines.remove(line)
            for asked in [each for each in line.numbers.asked.values() if each.line is line]:
                del line.numbers.asked[asked.tag]

    def _judge(self) -> None:
        for line in self.lines:
            line.judge()
        self._gone()

    def _settle(self) -> None:
        """Let everything end that can."""
        self._judge()
        self.world.context.step(5 * MS)
        self._judge()

    @rule(isid=st.integers(1, 3), start=st.sampled_from([100, SERIALS - 2]), more=st.booleans())
    def log_in(self, isid: int, start: int, more: bool) -> None:
        """A new session, perhaps in the place of another."""
        line = self._connect(isid, Numbers(start))
        line.cmd_sn = start
        keys = LOGIN_KEYS | KEYS | {"InitialR2T": "No" if more else "Yes"}
        line.send_login_request(keys, following=3)
        self.world.context.step(2 * MS)
        self._judge_others(line)
        line.enter(line.receive())
        session = self.world.export.target.sessions.get(line.tsih)
        if session is None:
            line.close()  # A cold reset has ended it already.
            return
        self.lines.append(line)
        self.sessions.append(session)
        line.ask(TEST_UNIT_READY, cmd_sn=start)
        self._sent(line, immediate=False)

    def _judge_others(self, line: Judge) -> None:
        for each in self.lines:
            if each is not line:
                each.judge()

    @precondition(lambda self: self.lines)
    @rule(which=numbers, cid=st.integers(1, 4))
    def join(self, which: int, cid: int) -> None:
        """One more connection of a session, perhaps in the place of another."""
        first = self.lines[which % len(self.lines)]
        line = self._connect(first.isid[5], first.numbers)
        line.tsih, line.cid, line.cmd_sn = first.tsih, cid, first.numbers.cmd_sn
        keys = LOGIN_KEYS | {"MaxRecvDataSegmentLength": KEYS["MaxRecvDataSegmentLength"]}
        for each in [each for each in self.lines if each.numbers is first.numbers and each.cid == cid]:
            each.judge()
        line.send_login_request(keys, following=3)
        self.world.context.step(2 * MS)
        self._judge_others(line)
        said = line.receive_all()
        if said and said[0]["status"] == 0:
            line.enter(said[0])
            self.lines.append(line)
        else:
            line.close()
        self._gone()

    @precondition(lambda self: self.lines)
    @rule(which=numbers, reason=st.integers(0, 3), cid=st.integers(1, 4))
    def log_out(self, which: int, reason: int, cid: int) -> None:
        """Of a connection, of a session, for recovery, for no reason that there is."""
        line = self.lines[which % len(self.lines)]
        line.expect(
            Opcode.LOGOUT_REQUEST,
            Opcode.LOGOUT_RESPONSE,
            flags=pdu.FINAL | reason,
            cid=cid,
        )
        self._settle()

    @precondition(lambda self: self.lines)
    @rule(which=numbers)
    def hang_up(self, which: int) -> None:
        """A connection breaks."""
        self.lines[which % len(self.lines)].close()
        self.lines.pop(which % len(self.lines))
        self._judge()

    # --- commands

    @precondition(lambda self: self.lines)
    @rule(
        which=numbers,
        cdb=st.one_of(
            st.builds(read_10, st.integers(0, 9000), blocks),
            st.sampled_from(
                [TEST_UNIT_READY, INQUIRY, b"\x03\0\0\0\xfc\0", b"\xff" * 10, b"\xa0" + bytes(9)]
            ),
        ),
        reads=st.sampled_from([0, 5, 255, 512, 2048, 4096, 10000]),
        attribute=attributes,
        immediate=st.booleans(),
        lun=st.sampled_from([0, 0, 0, 1 << 48, SERIALS]),
    )
    def read(self, which: int, cdb: bytes, reads: int, attribute: int, immediate: bool, lun: int) -> None:
        """A command that reads, or moves nothing."""
        line = self._numbered(which)
        line.ask(cdb, reads=reads, attribute=attribute, immediate=immediate, lun=lun)
        self._sent(line, immediate)

    def _numbered(self, which: int) -> Judge:
        line = self.lines[which % len(self.lines)]
        line.cmd_sn = line.numbers.cmd_sn
        return line

    def _sent(self, line: Judge, immediate: bool) -> None:
        if not immediate:
            line.numbers.cmd_sn = (line.numbers.cmd_sn + 1) & SERIALS
        self._judge()

    @precondition(lambda self: self.lines)
    @rule(
        which=numbers,
        lba=st.integers(0, 9000),
        count=blocks,
        expected=st.sampled_from([0, 512, 1024, 2048, 5000, 6144]),
        there=st.sampled_from([0, 0, 512, 513, 1024, 2048]),
        more=st.booleans(),
        attribute=attributes,
        immediate=st.booleans(),
    )
    def write(
        self,
        which: int,
        lba: int,
        count: int,
        expected: int,
        there: int,
        more: bool,
        attribute: int,
        immediate: bool,
    ) -> None:
        """A WRITE with so much data, perhaps with more to follow unasked."""
        line = self._numbered(which)
        asked = line.ask(
            write_10(lba, count),
            b"x" * there,
            writes=expected,
            attribute=attribute,
            immediate=immediate,
            final=0 if more else pdu.FINAL,
        )
        burst = min(expected, LIMITS["FirstBurstLength"])
        if more and there < burst:
            asked.transfers[NOBODY] = there, burst - there
        self._sent(line, immediate)

    @precondition(lambda self: self.lines)
    @rule(which=numbers, other=numbers, swap=st.booleans(), lost=st.booleans())
    def out_of_turn(self, which: int, other: int, swap: bool, lost: bool) -> None:
        """Two commands of a session, over any of its connections, the second one first."""
        line = self._numbered(which)
        others = [each for each in self.lines if each.numbers is line.numbers]
        another = others[other % len(others)]
        first, second = line.numbers.cmd_sn, line.numbers.cmd_sn + 1 & SERIALS
        another.ask(read_10(0, 1), reads=512, cmd_sn=second)
        line.numbers.cmd_sn = second + 1 & SERIALS
        if lost:
            line.manage(Function.ABORT_TASK, NOBODY - 1, first, 0)
        elif swap:
            line.ask(write_10(0, 1), b"y" * 512, writes=512, cmd_sn=first)
        else:
            line.ask(read_10(1, 1), reads=512, cmd_sn=first)
        self._judge()

    # --- data

    def _wanted(self) -> list[tuple[Asked, int]]:
        return [
            (asked, tag)
            for line in self.lines
            for asked in line.numbers.asked.values()
            if asked.line in self.lines
            for tag in asked.transfers
        ]

    @precondition(lambda self: self._wanted())
    @rule(which=numbers, wrong=st.sampled_from(["", "", "", "", "number", "offset", "long", "tag", "short"]))
    def send_data(self, which: int, wrong: str) -> None:
        """A sequence of Data-Out, whole, or something is wrong with it."""
        wanted = self._wanted()
        asked, tag = wanted[which % len(wanted)]
        if wrong == "" and tag != NOBODY:
            # Transfers are answered in order.
            tag = min(
                (each for each in asked.transfers if each != NOBODY), key=lambda each: asked.transfers[each]
            )
        offset, length = asked.transfers.pop(tag)
        if tag == NOBODY:
            asked.asked_for = offset + length - (wrong == "short")
        length += {"long": 1, "short": -1}.get(wrong, 0)
        offset += wrong == "offset"
        tag += wrong == "tag"
        line, sent, data_sn = asked.line, 0, int(wrong == "number")
        while sent < length:
            size = min(1000, length - sent)
            last = sent + size == length
            line.data_out(asked.tag, tag & SERIALS, data_sn, offset + sent, b"z" * size, final=last)
            sent += size
            data_sn += 1
        self._judge()

    @precondition(lambda self: self._wanted())
    @rule(which=numbers, first=st.integers(1, 40))
    def send_data_slowly(self, which: int, first: int) -> None:
        """The beginning of a Data-Out; whoever resets the unit does that in the middle of it."""
        wanted = [each for each in self._wanted() if each[1] != NOBODY]
        if not wanted:
            return
        asked, tag = wanted[which % len(wanted)]
        offset, length = asked.transfers.pop(tag)
        line = asked.line
        header = build(Opcode.DATA_OUT, flags=pdu.FINAL, itt=asked.tag, ttt=tag, offset=offset)
        wire = header[:4] + length.to_bytes(4, "big") + header[8:] + b"w" * (length + -length % 4)
        line.send_bytes(wire[: 48 + first])
        others = [each for each in self.lines if each is not line]
        if others:
            others[0].manage(Function.LOGICAL_UNIT_RESET, NOBODY, 0, 0)
        self._judge()
        if line in self.lines:
            line.send_bytes(wire[48 + first :])
        self._judge()

    # --- anything else

    @precondition(lambda self: self.lines)
    @rule(which=numbers, function=st.integers(0, 13), task=numbers, lun=st.sampled_from([0, 0, 1 << 48]))
    def manage(self, which: int, function: int, task: int, lun: int) -> None:
        """Task management, of any task of the session."""
        line = self._numbered(which)
        tasks = list(line.numbers.asked.values())
        asked = tasks[task % len(tasks)] if tasks else None
        tag = NOBODY if asked is None else asked.tag
        number = asked.number if asked is not None and asked.number is not None else line.numbers.cmd_sn
        line.manage(function, tag, number, lun)
        self._judge()

    @precondition(lambda self: self.lines)
    @rule(which=numbers, kind=st.sampled_from(["nop", "text", "more text", "snack", "login", "nothing"]))
    def say(self, which: int, kind: str) -> None:
        """A PDU that is no command."""
        line = self._numbered(which)
        match kind:
            case "nop":
                line.expect(Opcode.NOP_OUT, Opcode.NOP_IN, b"ping", flags=pdu.FINAL, ttt=NOBODY)
            case "text" | "more text":
                flags = pdu.FINAL if kind == "text" else pdu.CONTINUE
                text = b"SendTargets=\0MaxBurstLength=512\0"
                line.expect(Opcode.TEXT_REQUEST, Opcode.TEXT_RESPONSE, text, flags=flags, ttt=NOBODY)
            case "snack":
                line.send(build(Opcode.SNACK_REQUEST, flags=0x80, itt=NOBODY))
            case "login":
                line.send(build(Opcode.LOGIN_REQUEST, flags=0x87, isid=line.isid, itt=NOBODY))
            case _:
                line.send(bytes([0x1C]) + bytes(47))
        self._judge()

    @rule(ms=st.integers(0, 3))
    def time_passes(self, ms: int) -> None:
        """The disk comes to an end with what it does."""
        self.world.context.step(ms * MS)
        self._judge()

    @rule()
    def units_come_and_go(self) -> None:
        """A second logical unit is there, or is there no more."""
        if self.second:
            self.world.exports.delete(self.world.exports.ids["e1"])
        else:
            if "d1" not in self.world.graph.nodes:
                self.world.add_disk("d1", delay_ns=MS)
            self.world.add_export("e1", "d1", lun=1)
        self.second = not self.second
        self.world.context.step(3 * MS)
        self._judge()
