"""Portals: where a node's targets are reached, and how many may come (RFC 7143 §4.4.1, §13.8)."""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING

from devmodels.acceptor import Acceptor
from devmodels.exports.iscsi.connection import Connection
from devmodels.exports.iscsi.newcomer import Newcomer
from devmodels.exports.iscsi.target import IscsiTarget
from devmodels.iocontext import Timer

if TYPE_CHECKING:
    from devmodels.exports.iscsi.node import IscsiNode

log = logging.getLogger("devmodels.iscsi")

BACKLOG = 64
MAX_NEWCOMERS = 32
"""Connections of one portal that have not logged in; more of them wait to be accepted."""

HURRY_NS = 10**9
"""How long a login may take while there are so many, and others wait."""

MAX_DISCOVERIES = 32
"""Discovery sessions of one portal: one more ends the oldest."""

MAX_CONNECTIONS = 256
"""Connections of one portal, with those."""


class Portal:
    """One address, as long as a target is to be reached there; OSError where it cannot be listened at."""

    def __init__(self, node: IscsiNode, host: str, port: int) -> None:
        self.node = node
        self.context = node.context
        listener = _listen(host, port)
        self.address: tuple[str, int] = listener.getsockname()[:2]
        self.name = show_address(self.address)
        self.users: dict[IscsiTarget, int] = {}
        """The targets that are here, and for how many exports."""
        self._newcomers: dict[Newcomer, None] = {}
        """The oldest first."""
        self._hurry: Timer | None = None
        self._connections: set[Connection] = set()
        self._discoveries: dict[Connection, None] = {}
        self._acceptor = Acceptor(listener, self.context, self.welcome, name=self.name)
        log.info("iSCSI targets are at %s", self.name)

    def find_target(self, name: str) -> IscsiTarget | None:
        """The target of that name, if it is to be reached here."""
        target = self.node.targets.get(name)
        return target if target in self.users else None

    def welcome(self, sock: socket.socket) -> None:
        """Somebody has connected."""
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._newcomers[Newcomer(sock, self)] = None
        self._adjust()

    def left(self, newcomer: Newcomer) -> None:
        """Somebody has gone before he has logged in."""
        self._newcomers.pop(newcomer, None)
        self._adjust()

    def entered(self, newcomer: Newcomer, connection: Connection) -> None:
        """Somebody has logged in."""
        self._newcomers.pop(newcomer, None)
        self._connections.add(connection)
        if len(self._connections) == 1:
            self.context.add_poller(self)

        def closed() -> None:
            self._connections.discard(connection)
            if connection.session.target is None:
                self._discoveries.pop(connection, None)
                self.node.numbers.give_back(connection.session.tsih)
            if not self._connections:
                self.context.remove_poller(self)
            self._adjust()

        connection.on_closed = closed
        if connection.session.target is None:
            self._discoveries[connection] = None
            if len(self._discoveries) > MAX_DISCOVERIES:
                next(iter(self._discoveries)).ended("there are too many discovery sessions")
        self._adjust()

    @property
    def accepting(self) -> bool:
        """Whether somebody more may come at once."""
        newcomers = len(self._newcomers)
        return newcomers < MAX_NEWCOMERS and newcomers + len(self._connections) < MAX_CONNECTIONS

    def _adjust(self) -> None:
        if self.accepting:
            self._acceptor.go_on()
        else:
            self._acceptor.pause()
            if self._hurry is None:
                self._hurry_up()

    @property
    def _slowest(self) -> Newcomer | None:
        """Who has been at it the longest, where one more would be too many; not who waits for us."""
        if len(self._newcomers) < MAX_NEWCOMERS:
            return None
        return next((each for each in self._newcomers if not each.complete), None)

    def _hurry_up(self) -> None:
        slowest = self._slowest
        if slowest is not None:
            due = max(self.context.now_ns(), slowest.since_ns + HURRY_NS)
            self._hurry = self.context.call_at(due, self._make_room)

    def _make_room(self) -> None:
        """Send the slowest one away, if somebody waits."""
        self._hurry = None
        slowest = self._slowest
        if slowest is None:
            return
        now = self.context.now_ns()
        if not self._acceptor.awaited:
            self._hurry = self.context.call_at(now + HURRY_NS, self._make_room)
        elif slowest.since_ns + HURRY_NS <= now:
            slowest.late()
        else:
            self._hurry_up()

    # --- busy polling, as long as somebody is there (`--poll-max-ns`)

    def begin(self) -> None:
        """Nothing to prepare."""

    def poll(self) -> bool:
        """Look at the sockets, and at what else the context watches, without waiting."""
        return self.context.look_at_descriptors()

    def end(self) -> bool:
        """Whoever waits for descriptors will find what has come."""
        return False

    def close(self) -> None:
        """Nobody can come any more; those who have not logged in are sent away."""
        self._acceptor.close()
        if self._hurry is not None:
            self._hurry.cancel()
        for newcomer in list(self._newcomers):
            newcomer.close()
        self._newcomers.clear()


def show_address(address: tuple[str, int]) -> str:
    """An address as TargetAddress has it, §13.8."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket; the first address that `host` has."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except UnicodeError:
        raise OSError(0, "no name of a host") from None
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener
