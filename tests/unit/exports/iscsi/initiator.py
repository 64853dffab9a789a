"""An initiator that says exactly what a test wants said, and a daemon's exports for it to say it to."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from typing import Any

from devmodels.blockbackend import Graph
from devmodels.conformance import Profile
from devmodels.events import Events
from devmodels.exports.iscsi.export import IscsiExport
from devmodels.exports.table import Exports
from devmodels.iocontext import IoContext
from devmodels.protocols.iscsi import chap, pdu
from devmodels.protocols.iscsi.digest import digest
from devmodels.protocols.iscsi.pdu import LAYOUTS, Opcode
from devmodels.protocols.iscsi.text import join, parse_binary, show_binary, split
from devmodels.runstate import RunState

TARGET = "iqn.2026-11.org.example:d0"
INITIATOR = "iqn.2026-11.org.example:tester"
SIZE = 4 << 20
NOBODY = 0xFFFFFFFF

LOGIN_KEYS = {"InitiatorName": INITIATOR, "TargetName": TARGET, "SessionType": "Normal"}


class World:
    """Exports on a clock that only the test moves; the first one is over a memory disk of 4 MiB."""

    def __init__(self, *, delay_ns: int = 0, strict: bool = True, **options: object) -> None:
        self._delay_ns = delay_ns
        self.context = IoContext.stepped()
        self.graph = Graph(self.context)
        self.events = Events()
        self.exports = Exports(
            self.graph,
            profile=Profile.STRICT if strict else Profile.LENIENT,
            events=self.events,
            run_state=RunState(self.events),
        )
        self.add_disk("d0", delay_ns=delay_ns)
        for name in ("secret", "other"):
            secret = {"qom-type": "secret", "id": name, "data": f"twelve bytes: {name}"}
            self.graph.object_add(secret)
        self.add_export("e0", "d0", **options)
        self._initiators: list[Initiator] = []

    def add_disk(self, name: str, *, delay_ns: int = 0) -> None:
        """A node that answers after so many ns."""
        memory = {"driver": "memory", "size": SIZE, "discard": "unmap", "node-name": f"{name}m"}
        node = {"driver": "delay", "file": memory, "latency-ns": delay_ns, "discard": "unmap"}
        self.graph.add({**node, "node-name": name})

    def add_export(self, name: str, node: str, **options: object) -> IscsiExport:
        """Export a node."""
        given = {
            "type": "iscsi",
            "id": name,
            "node-name": node,
            "target": TARGET,
            "addr": {"type": "inet", "host": "127.0.0.1", "port": 0},
            "writable": True,
        }
        given |= {key.replace("_", "-"): value for key, value in options.items()}
        serving = self.exports.add(given).serving
        assert isinstance(serving, IscsiExport)
        return serving

    @property
    def export(self) -> IscsiExport:
        """The first one."""
        serving = self.exports.ids["e0"].serving
        assert isinstance(serving, IscsiExport)
        return serving

    @property
    def violations(self) -> list[str]:
        """The clauses that initiators have broken."""
        return [each.clause for each in self.export.target.scsi.violations.recent]

    def connect(self) -> Initiator:
        """Somebody connects to the first export's portal."""
        ours, theirs = socket.socketpair()
        self.export.portal.welcome(theirs)
        initiator = Initiator(ours, self.context)
        self._initiators.append(initiator)
        return initiator

    def login(self, **options: Any) -> Initiator:
        """Somebody connects and logs in."""
        initiator = self.connect()
        initiator.login(**options)
        return initiator

    def close(self) -> None:
        """End everything, and see that nothing is left."""
        for initiator in self._initiators:
            initiator.close()
        self.exports.close()
        self.context.step(
            2 * 10**9 + 2 * self._delay_ns
        )  # What has been written is flushed, however slow the disk.
        assert not self.exports.ids
        assert not self.exports.iscsi.targets
        assert not self.exports.iscsi.portals
        assert not self.exports.iscsi.numbers.used
        self.graph.close()
        self.context.close()


class Pdu:
    """A PDU that has come: fields by the names of the layouts, its data, and its number."""

    def __init__(self, header: bytes, ahs: bytes, data: bytes) -> None:
        self.opcode = Opcode(header[0] & pdu.OPCODE_MASK)
        layout = LAYOUTS[self.opcode]
        self.fields: dict[str, Any] = dict(zip(layout.names, layout.unpack_from(header, 0), strict=True))
        self.ahs = ahs
        self.data = data
        assert len(data) == self.fields["lengths"] & pdu.LENGTH_MASK

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]

    @property
    def text(self) -> dict[str, str]:
        """Its data as key=value pairs."""
        return dict(split(self.data))

    @property
    def sense(self) -> tuple[int, int]:
        """Sense key and additional sense code of a SCSI Response, or of an asynchronous message."""
        sense = self.data[2:]
        return sense[2] & 0xF, int.from_bytes(sense[12:14], "big")

    def __repr__(self) -> str:
        return f"<{self.opcode.name} {self.fields} {self.data[:32]!r}>"


def build(opcode: Opcode, *, immediate: bool = False, **fields: Any) -> bytes:
    """The basic header segment of a PDU; what is not given is 0."""
    layout = LAYOUTS[opcode]
    fields["opcode"] = opcode | (pdu.IMMEDIATE if immediate else 0)
    nothing = {"isid": b"\0" * 6, "cdb": b"\0" * 16}
    values = [fields.pop(name, nothing.get(name, 0)) for name in layout.names]
    assert not fields, fields
    return layout.pack(*values)


class Initiator:
    """One connection, from the initiator's side."""

    def __init__(self, sock: socket.socket, context: IoContext) -> None:
        self._sock = sock
        self._context = context
        self._data = bytearray()
        self.header_digest = self.data_digest = False
        self.cmd_sn = 100
        self.exp_stat_sn = 0
        self.itt = 0x10
        self.tsih = 0
        self.isid = b"\x80\x12\x34\x56\0\1"
        self.cid = 1
        sock.setblocking(False)

    def close(self) -> None:
        """Hang up."""
        self._sock.close()
        self._context.run_until_idle()

    # --- bytes

    def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are."""
        view = memoryview(data)
        while view:
            try:
                view = view[self._sock.send(view) :]
            except BlockingIOError:
                self._context.run_until_idle()
        self._context.run_until_idle()

    def send(
        self, header: bytes, data: bytes | memoryview = b"", ahs: bytes = b"", *, broken: str = ""
    ) -> None:
        """Send a PDU, with its lengths and digests; `broken`: a digest that is to be wrong."""
        lengths = len(ahs) // 4 << 24 | len(data)
        header = header[:4] + lengths.to_bytes(4, "big") + header[8:] + ahs
        if self.header_digest:
            header += _broken(digest(header), broken == "header")
        padded = bytes(data) + b"\0" * (-len(data) % 4)
        if self.data_digest and data:
            padded += _broken(digest(padded), broken == "data")
        self.send_bytes(header + padded)

    def request(self, opcode: Opcode, data: bytes = b"", **fields: Any) -> int:
        """Send a request that has a task tag and, unless it is immediate, a number of its own; returns the tag."""
        self.itt += 1
        fields.setdefault("itt", self.itt)
        ahs, broken = fields.pop("ahs", b""), fields.pop("broken", "")
        if "cmd_sn" not in fields:
            fields["cmd_sn"] = self.cmd_sn
            if not fields.get("immediate"):
                self.cmd_sn += 1
        fields.setdefault("exp_stat_sn", self.exp_stat_sn)
        self.send(build(opcode, **fields), data, ahs, broken=broken)
        return int(fields["itt"])

    @property
    def gone(self) -> bool:
        """Whether the target has hung up, and has said nothing before that."""
        self._fill()
        return self._ended and not self._data

    _ended = False

    def _fill(self) -> None:
        self._context.run_until_idle()
        while not self._ended:
            try:
                data = self._sock.recv(1 << 20)
            except BlockingIOError:
                return
            except ConnectionResetError:
                data = b""
            self._ended = not data
            self._data += data
            self._context.run_until_idle()

    def receive_all(self) -> list[Pdu]:
        """What has come."""
        self._fill()
        found = []
        while self._data:
            found.append(self._take())
        return found

    def receive(self) -> Pdu:
        """The one PDU that has come."""
        (found,) = self.receive_all()
        return found

    def _take(self) -> Pdu:
        lengths = int.from_bytes(self._data[4:8], "big")
        size = pdu.BHS_SIZE + (lengths >> 24) * 4
        length = lengths & pdu.LENGTH_MASK
        header = self._cut(size)
        if self.header_digest:
            assert self._cut(4) == digest(header)
        data = self._cut(length + -length % 4) if length else b""
        if self.data_digest and length:
            assert self._cut(4) == digest(data)
        found = Pdu(header[: pdu.BHS_SIZE], header[pdu.BHS_SIZE :], data[:length])
        self._check_stat_sn(found)
        return found

    def _cut(self, count: int) -> bytes:
        assert len(self._data) >= count, "a PDU is cut off"
        piece = bytes(self._data[:count])
        del self._data[:count]
        return piece

    def _check_stat_sn(self, found: Pdu) -> None:
        """Each status has the next number (§4.2.2.2)."""
        asks = found.opcode is Opcode.R2T or (found.opcode is Opcode.NOP_IN and found["itt"] == NOBODY)
        if found.opcode is Opcode.DATA_IN and not found["flags"] & pdu.STATUS_PRESENT:
            return
        assert found["stat_sn"] == self.exp_stat_sn, found
        self.exp_stat_sn += not asks

    # --- login

    def send_login_request(
        self, keys: Mapping[str, str] | bytes, *, stage: int = 1, following: int | None = None, **fields: Any
    ) -> None:
        """One Login Request."""
        flags = stage << pdu.CURRENT_SHIFT
        if following is not None:
            flags |= pdu.TRANSIT | following
        fields.setdefault("flags", flags)
        given: dict[str, Any] = {
            "isid": self.isid,
            "tsih": self.tsih,
            "cid": self.cid,
            "itt": 1,
            "cmd_sn": self.cmd_sn,
            "exp_stat_sn": self.exp_stat_sn,
        }
        data = keys if isinstance(keys, bytes) else join(keys.items())
        self.send(build(Opcode.LOGIN_REQUEST, immediate=True, **(given | fields)), data)

    def login_request(
        self, keys: Mapping[str, str] | bytes, *, stage: int = 1, following: int | None = None, **fields: Any
    ) -> Pdu:
        """One Login Request and what is said to it."""
        self.send_login_request(keys, stage=stage, following=following, **fields)
        return self.receive()

    def login(
        self, keys: Mapping[str, str] | None = None, *, instead: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Log in at once, without authentication; what was answered."""
        given = dict(LOGIN_KEYS if instead is None else instead) | dict(keys or {})
        response = self.login_request(given, following=3)
        assert response["status"] == 0, response
        return self.enter(response)

    def enter(self, response: Pdu) -> dict[str, str]:
        """The login is over."""
        assert response["flags"] & pdu.TRANSIT
        self.tsih = response["tsih"]
        answers = response.text
        self.header_digest = answers.get("HeaderDigest") == "CRC32C"
        self.data_digest = answers.get("DataDigest") == "CRC32C"
        return answers

    def authenticate(
        self,
        user: str,
        secret: bytes,
        *,
        algorithms: str = "5",
        challenge: bytes = b"",
        keys: Iterable[str] = (),
    ) -> Pdu:
        """Go through CHAP; the last response, after which the operational stage begins where all went well."""
        offered = dict(LOGIN_KEYS) | {"AuthMethod": "CHAP,None"}
        assert self.login_request(offered, stage=0).text["AuthMethod"] == "CHAP"
        said = self.login_request({"CHAP_A": algorithms}, stage=0)
        if said["status"]:
            return said
        text = said.text
        response = chap.response(
            int(text["CHAP_A"]), int(text["CHAP_I"]), secret, parse_binary(text["CHAP_C"])
        )
        proof = {"CHAP_N": user, "CHAP_R": show_binary(response)}
        if challenge:
            proof |= {"CHAP_I": "77", "CHAP_C": show_binary(challenge)}
        for key in keys:
            del proof[key]
        return self.login_request(proof, stage=0, following=1)

    # --- commands

    def command(
        self, cdb: bytes, data: bytes = b"", *, reads: int = 0, writes: int = 0, **fields: Any
    ) -> int:
        """Send a SCSI command; `data` comes with it."""
        flags = pdu.FINAL | 1
        if reads:
            flags |= pdu.READ
        if writes or data:
            flags |= pdu.WRITE
        fields.setdefault("flags", flags)
        fields.setdefault("expected", reads or writes or len(data))
        return self.request(Opcode.SCSI_COMMAND, data, cdb=cdb.ljust(16, b"\0"), **fields)

    def data_out(
        self, itt: int, ttt: int, data_sn: int, offset: int, data: bytes, *, final: bool, **rest: Any
    ) -> None:
        """Send a Data-Out."""
        broken = rest.pop("broken", "")
        fields: dict[str, Any] = {"itt": itt, "ttt": ttt, "data_sn": data_sn, "offset": offset}
        flags = pdu.FINAL if final else 0
        self.send(build(Opcode.DATA_OUT, flags=flags, **fields), data, broken=broken)

    def declare(self, **keys: str) -> None:
        """Say something of oneself in full feature phase."""
        self.request(Opcode.TEXT_REQUEST, join(keys.items()), flags=pdu.FINAL, ttt=NOBODY, immediate=True)
        assert self.receive().data == b""

    def ready(self) -> None:
        """Take the unit attention that a new nexus has to be told."""
        self.command(TEST_UNIT_READY)
        self.receive_all()

    def read(self, lba: int, blocks: int) -> bytes:
        """Read blocks, whatever PDUs they come in."""
        self.command(read_10(lba, blocks), reads=blocks * 512)
        found = self.receive_all()
        assert found[-1]["flags"] & pdu.STATUS_PRESENT
        return b"".join(each.data for each in found)


TEST_UNIT_READY = bytes(6)
REQUEST_SENSE = b"\x03\0\0\0\xfc\0"
INQUIRY = b"\x12\0\0\0\xff\0"


def read_10(lba: int, blocks: int) -> bytes:
    return b"\x28\0" + lba.to_bytes(4, "big") + b"\0" + blocks.to_bytes(2, "big") + b"\0"


def write_10(lba: int, blocks: int) -> bytes:
    return b"\x2a\0" + lba.to_bytes(4, "big") + b"\0" + blocks.to_bytes(2, "big") + b"\0"


def _broken(data: bytes, wanted: bool) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:] if wanted else data
