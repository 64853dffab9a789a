"""Targets, and the sessions that initiators have with them (RFC 7143 §4.2.7, §4.4.3, §6.3.5)."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from itertools import count

from devmodels.blockbackend import BlockBackend
from devmodels.exports.iscsi.authentication import LoginRefusedError
from devmodels.exports.iscsi.buffers import Pool
from devmodels.exports.iscsi.endings import Endings, Port
from devmodels.exports.iscsi.session import Session
from devmodels.protocols.iscsi.chap import Credentials
from devmodels.protocols.iscsi.codes import AsyncEvent, LoginStatus
from devmodels.protocols.iscsi.keys import Parameters
from devmodels.protocols.iscsi.pdu import SENSE_LENGTH
from devmodels.scsi.asc import Asc
from devmodels.scsi.constants import Protocol, SenseKey
from devmodels.scsi.lun import format_lun
from devmodels.scsi.nexus import Nexus, TargetPort, iscsi_transport_id
from devmodels.scsi.sense import Sense
from devmodels.scsi.target import ScsiTarget
from devmodels.scsi.unit import LogicalUnit

MAX_SESSIONS = 64
"""Sessions that one target has at a time."""

PORTAL_GROUP = 1
"""All portals of a target make one group: a session's connections may use any of them."""

_AT_ONCE = nullcontext()

ANNOUNCED = frozenset({Asc.REPORTED_LUNS_DATA_CHANGED, Asc.CAPACITY_DATA_CHANGED, Asc.INQUIRY_DATA_CHANGED})
"""Unit attention conditions that are announced by asynchronous messages too."""


class SessionNumbers:
    """TSIHs: not zero, and none that is in use (§11.12.6)."""

    def __init__(self) -> None:
        self.used: set[int] = set()
        self._last = 0

    def take(self) -> int:
        """A free one."""
        for _ in count():
            self._last = self._last % 0xFFFF + 1
            if self._last not in self.used:
                break
        self.used.add(self._last)
        return self._last

    def give_back(self, tsih: int) -> None:
        """It is free again."""
        self.used.discard(tsih)


class IscsiTarget:
    """One target by its name, with the logical units of `scsi`; `sessions` by TSIH."""

    def __init__(
        self,
        name: str,
        scsi: ScsiTarget,
        *,
        credentials: Credentials | None = None,
        numbers: SessionNumbers | None = None,
        pool: Pool | None = None,
    ) -> None:
        self.name = name
        self.scsi = scsi
        self.credentials = credentials
        self.portal_group = PORTAL_GROUP
        self.port = TargetPort(PORTAL_GROUP, Protocol.ISCSI, f"{name},t,0x{PORTAL_GROUP:04x}")
        self.sessions: dict[int, Session] = {}
        self.backends: dict[int, BlockBackend] = {}
        """The disks of logical units."""
        self.endings = Endings()
        self._news: dict[Asc, int] = {}
        self._numbers = SessionNumbers() if numbers is None else numbers
        self._pool = Pool() if pool is None else pool
        scsi.on_attention.append(self._attention)

    def batch(self, luns: Iterable[int | None]) -> AbstractContextManager[object]:
        """Requests of these logical units are gathered, and submitted at the end, neighbours merged.

        Those of disks that write at once are not: that is quicker.
        """
        backends = [self.backends[lun] for lun in luns if lun is not None and lun in self.backends]
        gathering = [backend for backend in backends if not backend.writes_now]
        if not gathering:
            return _AT_ONCE
        if len(gathering) == 1:
            return gathering[0].batch()
        batches = ExitStack()
        for backend in gathering:
            batches.enter_context(backend.batch())
        return batches

    def displace(self, port: Port) -> None:
        """End the session of an initiator port, which begins it anew (§6.3.5)."""
        for session in list(self.sessions.values()):
            if session.port == port:
                self.end_session(session, "the initiator has begun it anew")

    def open_session(self, isid: bytes, parameters: Parameters, cmd_sn: int) -> Session:
        """A new session; LoginRefusedError."""
        initiator = parameters.initiator_name
        if len(self.sessions) >= MAX_SESSIONS:
            raise LoginRefusedError(LoginStatus.OUT_OF_RESOURCES, f"{len(self.sessions)} sessions")
        nexus = Nexus(iscsi_transport_id(initiator, isid), self.port, initiator)
        tsih = self._numbers.take()
        session = Session(self, tsih, isid, parameters, cmd_sn, pool=self._pool, nexus=nexus)
        self.sessions[tsih] = session
        self.scsi.nexus_gained(nexus)
        return session

    def end_session(self, session: Session, reason: str | None = None) -> None:
        """End a session with its connections: its tasks end, nobody hears of them.  Idempotent."""
        if session.closed:
            return
        session.closed = True
        for connection in list(session.connections.values()):
            connection.close(reason)
        session.connections.clear()
        session.early.clear()
        for _, act in session.postponed:
            act()  # It finds that nobody is there to hear of it.
        session.postponed.clear()
        session.drop(lambda _command: True)
        del self.sessions[session.tsih]
        self._numbers.give_back(session.tsih)
        assert session.nexus is not None
        self.scsi.nexus_lost(session.nexus, self.endings.begin(session.port))

    # --- what initiators are told

    def _attention(self, unit: LogicalUnit, code: Asc) -> None:
        """A unit has something to tell: initiators need not wait for their next command to hear of it."""
        if code in ANNOUNCED and self.sessions:
            if not self._news:
                self.scsi.context.call_soon(self._announce)
            self._news.setdefault(code, unit.lun)

    def _announce(self) -> None:
        """An asynchronous message for each piece of news, to every session (§11.9.1)."""
        news, self._news = self._news, {}
        for code, lun in news.items():
            sense = Sense(SenseKey.UNIT_ATTENTION, code).build(descriptors=False)
            where = int.from_bytes(format_lun(lun), "big")
            for session in self.sessions.values():
                connection = next(iter(session.connections.values()))
                connection.announce(AsyncEvent.SCSI, where, SENSE_LENGTH.pack(len(sense)) + sense)

    def close(self) -> None:
        """The target is no longer there: its initiators are told, and their sessions end (§11.9)."""
        for session in list(self.sessions.values()):
            for connection in list(session.connections.values()):
                connection.announce(AsyncEvent.DROPPING_SESSION)
            self.end_session(session, "the target is no longer there")
