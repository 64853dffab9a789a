"""A target that does what it should, until a test has it do something else."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Mapping
from typing import Any

from devmodels.iocontext import IoContext
from devmodels.protocols.iscsi import pdu
from devmodels.protocols.iscsi.digest import digest
from devmodels.protocols.iscsi.pdu import Opcode
from devmodels.protocols.iscsi.text import join
from tests.unit.exports.iscsi.initiator import NOBODY, Pdu, build

BLOCK = 512
BLOCKS = 4096

Hook = Callable[["Ends", Pdu], bool]
"""Sees a PDU first; True: it was dealt with."""

BLOCK_LIMITS = bytes((0, 0xB0, 0, 60)) + bytes(60)
PROVISIONING = bytes((0, 0xB2, 0, 4, 0, 0xE0, 2, 0))


def sense(key: int, code: int, response: int = 0x70) -> bytes:
    """Sense data in the fixed format."""
    return bytes((response, 0, key, 0, 0, 0, 0, 10, 0, 0, 0, 0)) + code.to_bytes(2, "big") + bytes(4)


def settle(context: IoContext) -> None:
    """Let both ends do what they can without any time passing."""
    while context.turn() or context.look_at_descriptors():
        pass


class Target:
    """A disk, its connections, and what happened: `cdbs` are all commands.

    `hooks`: by opcode, who sees a PDU first; `answers`: by operation code, (status, sense) that commands get
    in place of an answer, one after the other.
    """

    outside = False

    def __init__(self, context: IoContext) -> None:
        self.context = context
        self.disk = bytearray(BLOCK * BLOCKS)
        self.ends: list[Ends] = []
        self.hooks: dict[Opcode, Hook] = {}
        self.answers: dict[int, list[tuple[int, bytes]]] = {}
        self.cdbs: list[bytes] = []
        self.login_keys: dict[str, str] = {}
        self.window = 32
        self.refuses = 0
        self.blocks = BLOCKS
        self.hosts: list[tuple[str, int]] = []

    async def connect(self, context: IoContext, host: str, port: int) -> socket.socket:
        """A transport's connect."""
        self.hosts.append((host, port))
        if self.refuses:
            self.refuses -= 1
            raise ConnectionRefusedError(111, "Connection refused")
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.ends.append(Ends(self, theirs))
        return ours

    @property
    def end(self) -> Ends:
        """The connection of last."""
        return self.ends[-1]

    def sent(self, *opcodes: int) -> list[bytes]:
        """The commands with these operation codes."""
        return [cdb for cdb in self.cdbs if cdb[0] in opcodes]

    def close(self) -> None:
        """Hang up everywhere."""
        for end in self.ends:
            end.close()


class Ends:
    """One connection, from the target's side."""

    def __init__(self, target: Target, sock: socket.socket) -> None:
        self.target = target
        self._sock = sock
        self._data = bytearray()
        self._out = bytearray()
        self.header_digest = self.data_digest = False
        self.stat_sn = 1
        self.exp_cmd_sn = 0
        self.seen: list[Pdu] = []
        self.writes: dict[int, Write] = {}
        self.closed = False
        sock.setblocking(False)
        target.context.watch(sock.fileno(), select.EPOLLIN, self._ready)

    def close(self) -> None:
        """Hang up."""
        if not self.closed:
            self.closed = True
            self.target.context.unwatch(self._sock.fileno())
            self._sock.close()

    # --- bytes

    def _ready(self, _events: int) -> None:
        try:
            data = self._sock.recv(1 << 20)
        except (BlockingIOError, ConnectionResetError):
            data = b""
        if not data:
            self.close()
            return
        self._data += data
        while not self.closed and (found := self._take()) is not None:
            self.seen.append(found)
            if found.opcode in pdu.NUMBERED and not found["opcode"] & pdu.IMMEDIATE:
                self.exp_cmd_sn = (found["cmd_sn"] + 1) & 0xFFFFFFFF
            hook = self.target.hooks.get(found.opcode)
            if hook is None or not hook(self, found):
                self.serve(found)

    def _take(self) -> Pdu | None:
        data = self._data
        if len(data) < pdu.BHS_SIZE:
            return None
        lengths = int.from_bytes(data[4:8], "big")
        size, length = pdu.BHS_SIZE + (lengths >> 24) * 4, lengths & pdu.LENGTH_MASK
        start = size + 4 * self.header_digest
        end = start + length + -length % 4
        whole = end + 4 * (self.data_digest and length > 0)
        if len(data) < whole:
            return None
        header, body = bytes(data[:size]), bytes(data[start:end])
        if self.header_digest:
            assert data[size:start] == digest(header)
        if whole > end:
            assert data[end:whole] == digest(body)
        del data[:whole]
        return Pdu(header[: pdu.BHS_SIZE], header[pdu.BHS_SIZE :], body[:length])

    def send_bytes(self, data: bytes) -> None:
        """Say anything."""
        self._out += data
        self._flush()

    def _flush(self) -> None:
        while self._out and not self.closed:
            try:
                count = self._sock.send(self._out)
            except BlockingIOError:
                # It reads, as soon as others have had their turn.
                self.target.context.call_soon(self._flush)
                return
            except OSError:
                count = len(self._out)
            del self._out[:count]

    def send(self, opcode: Opcode, data: bytes = b"", *, broken: str = "", **fields: Any) -> None:
        """Send a PDU with the numbers that it should have; `broken`: a digest that is to be wrong."""
        fields.setdefault("flags", pdu.FINAL)
        fields.setdefault("stat_sn", self.stat_sn)
        fields.setdefault("exp_cmd_sn", self.exp_cmd_sn)
        fields.setdefault("max_cmd_sn", (self.exp_cmd_sn + self.target.window - 1) & 0xFFFFFFFF)
        fields.setdefault("lengths", len(data))
        header = build(opcode, **fields)
        if self.header_digest:
            header += _bent(digest(header), broken == "header")
        padded = data + bytes(-len(data) % 4)
        if self.data_digest and data:
            padded += _bent(digest(padded), broken == "data")
        self.send_bytes(header + padded)

    def status(self, opcode: Opcode, data: bytes = b"", **fields: Any) -> None:
        """Send a PDU that takes a StatSN."""
        self.send(opcode, data, **fields)
        self.stat_sn = (self.stat_sn + 1) & 0xFFFFFFFF

    # --- what it does

    def serve(self, found: Pdu) -> None:
        """Do with a PDU what is right."""
        match found.opcode:
            case Opcode.LOGIN_REQUEST:
                self.log_in(found)
            case Opcode.SCSI_COMMAND:
                self._command(found)
            case Opcode.DATA_OUT:
                if found["itt"] in self.writes:
                    self.writes[found["itt"]].take(found)
            case Opcode.NOP_OUT if found["itt"] != NOBODY:
                self.status(Opcode.NOP_IN, itt=found["itt"], ttt=NOBODY)
            case Opcode.TASK_MANAGEMENT_REQUEST:
                self.writes.pop(found["referenced_tag"], None)
                self.status(Opcode.TASK_MANAGEMENT_RESPONSE, itt=found["itt"])
            case Opcode.TEXT_REQUEST:
                self.status(Opcode.TEXT_RESPONSE, itt=found["itt"], ttt=NOBODY)
            case Opcode.LOGOUT_REQUEST:
                self.status(Opcode.LOGOUT_RESPONSE, itt=found["itt"])
                self.close()

    def log_in(self, found: Pdu, keys: Mapping[str, str] | None = None, **fields: Any) -> None:
        """Answer a Login Request: whatever is offered is agreed to."""
        stage = found["flags"] >> pdu.CURRENT_SHIFT & pdu.STAGE_MASK
        answers = {"AuthMethod": "None", "TargetPortalGroupTag": "1"}
        if stage:
            offered = {key: value.partition(",")[0] for key, value in found.text.items()}
            answers = offered | {"MaxRecvDataSegmentLength": "65536"} | self.target.login_keys
        text = join((answers if keys is None else keys).items())
        self.exp_cmd_sn = found["cmd_sn"]
        fields.setdefault("flags", found["flags"])
        given: dict[str, Any] = {"isid": found["isid"], "tsih": 7 if stage else 0, "itt": found["itt"]}
        self.status(Opcode.LOGIN_RESPONSE, text, **(given | fields))
        if stage:
            self.header_digest = answers.get("HeaderDigest") == "CRC32C"
            self.data_digest = answers.get("DataDigest") == "CRC32C"

    def _command(self, found: Pdu) -> None:
        cdb = found["cdb"]
        self.target.cdbs.append(cdb)
        instead = self.target.answers.get(cdb[0])
        if instead:
            status, data = instead.pop(0)
            self.respond(found, status, data)
            return
        if cdb[0] in (0x2A, 0x8A, 0x41, 0x93, 0x42) and found["expected"]:
            self.writes[found["itt"]] = write = Write(self, found)
            write.ask()
            return
        said = self._read(cdb)
        if said is None:
            self.respond(found, 2, sense(5, 0x2000))
        elif found["flags"] & pdu.READ:
            self.data_in(found, said[: found["expected"]])
        else:
            self.respond(found)

    def _read(self, cdb: bytes) -> bytes | None:
        target = self.target
        match cdb[0]:
            case 0x28:
                lba, count = int.from_bytes(cdb[2:6], "big"), int.from_bytes(cdb[7:9], "big")
                return bytes(target.disk[lba * BLOCK : (lba + count) * BLOCK])
            case 0x12 if cdb[1]:
                pages = {0: bytes((0, 0, 0, 3, 0, 0xB0, 0xB2)), 0xB0: BLOCK_LIMITS, 0xB2: PROVISIONING}
                return pages.get(cdb[2])
            case 0x12:
                return bytes(36)
            case 0x9E if cdb[1] == 0x10:
                last = (target.blocks - 1).to_bytes(8, "big")
                return last + BLOCK.to_bytes(4, "big") + b"\0\0\xc0" + bytes(17)
            case 0x1A:
                return bytes((3, 0, 0x10, 0))
            case 0x00 | 0x35 | 0x93:
                return b""
        return None

    def respond(self, found: Pdu, status: int = 0, data: bytes = b"", **fields: Any) -> None:
        """A SCSI Response."""
        if data:
            data = len(data).to_bytes(2, "big") + data
        missing = found["expected"] if found["flags"] & pdu.READ else 0
        if missing:
            fields = {"flags": pdu.FINAL | pdu.UNDERFLOW, "residual": missing} | fields
        self.status(Opcode.SCSI_RESPONSE, data, itt=found["itt"], status=status, **fields)

    def data_in(self, found: Pdu, data: bytes, **fields: Any) -> None:
        """One Data-In with the status."""
        flags = pdu.FINAL | pdu.STATUS_PRESENT
        missing = found["expected"] - len(data)
        if missing:
            fields = {"flags": flags | pdu.UNDERFLOW, "residual": missing} | fields
        self.status(Opcode.DATA_IN, data, **({"itt": found["itt"], "ttt": NOBODY, "flags": flags} | fields))


class Write:
    """A command's data on its way in."""

    def __init__(self, end: Ends, found: Pdu) -> None:
        self._end = end
        self.command = found
        self.data = bytearray(found.data)
        self.asked = 0
        self.unsolicited = not found["flags"] & pdu.FINAL

    def take(self, found: Pdu) -> None:
        """A Data-Out."""
        assert found["offset"] == len(self.data)
        self.data += found.data
        if found["flags"] & pdu.FINAL:
            self.unsolicited = False
            self.ask()

    def ask(self) -> None:
        """Ask for what is missing, or end."""
        if self.unsolicited:
            return
        command = self.command
        missing = command["expected"] - len(self.data)
        if missing:
            desired = min(missing, 65536)
            tags = {"itt": command["itt"], "ttt": 0x1000 + self.asked, "r2t_sn": self.asked}
            self._end.send(Opcode.R2T, offset=len(self.data), desired=desired, **tags)
            self.asked += 1
            return
        cdb = command["cdb"]
        disk = self._end.target.disk
        if cdb[0] == 0x2A:
            at = int.from_bytes(cdb[2:6], "big") * BLOCK
            disk[at : at + len(self.data)] = self.data
        elif cdb[0] == 0x93:
            at, count = int.from_bytes(cdb[2:10], "big") * BLOCK, int.from_bytes(cdb[10:14], "big")
            disk[at : at + count * BLOCK] = self.data * count
        del self._end.writes[command["itt"]]
        self._end.respond(command)


def _bent(data: bytes, broken: bool) -> bytes:
    return bytes(byte ^ 0xFF for byte in data) if broken else data
