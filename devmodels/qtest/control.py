"""The monitors: QMP or the human one over a connection that is made at the start, served from the first command on.

The greeting is the one of the QEMU that this stands in for, as its clients look at the numbers.
"""

from __future__ import annotations

import _socket  # without the classes of all numbers that `socket` makes, which takes milliseconds
import select
from typing import TYPE_CHECKING, Literal, TypeVar

from devmodels.options import OptionError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from devmodels.acceptor import Acceptor
    from devmodels.iocontext import IoContext
    from devmodels.monitor.server import MonitorSession
    from devmodels.monitor.world import World
    from devmodels.qtest.assembling import Assembling
    from devmodels.qtest.channels import Monitor, Socket
    from devmodels.qtest.humansession import HumanSession
    from devmodels.qtest.migration import Migration
    from devmodels.qtest.terminal import Relayed

T = TypeVar("T")
VERSION = (7, 2, 0)
"""Of the QEMU whose clients this is for: major, minor, micro."""
GREETING = (
    b'{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}, "package": ""}, '
    b'"capabilities": []}}\r\n'
)

HUMAN_GREETING = b"QEMU 7.2.0 monitor - type 'help' for more information\r\n(qemu) "


class Entrance:
    """Where clients come through a channel: one that listens itself, or whoever connects, one after the other.

    A socket to be connected to is there at once; OptionError, of this one's `option`, where it cannot be.
    """

    def __init__(self, where: Socket | Literal["stdio"], *, option: str) -> None:
        self._where = where
        self._option = option
        self._first: _socket.socket | None = None
        self._acceptor: Acceptor | None = None
        self._relayed: Relayed | None = None
        self._listener: socket.socket | None = None
        if where != "stdio" and where.server:
            self._listener = self._tried(lambda: _listener(where))

    def _tried(self, made: Callable[[], T]) -> T:
        try:
            return made()
        except OSError as error:
            raise OptionError(f"{self._option}: {self._where}: {error.strerror}") from None

    def wait(self) -> None:
        """Connect, or wait for the first client, if somebody is to wait for it; OptionError where that cannot be."""
        where, listener = self._where, self._listener
        if where == "stdio":
            return
        if listener is None:
            self._first = self._tried(lambda: _connect(where))
        elif where.wait:
            listener.setblocking(True)
            self._first = self._tried(listener.accept)[0]

    def open(self, context: IoContext, come: Callable[[_socket.socket], None]) -> None:
        """Hand clients over, each to `come` as a blocking socket; the next one after `go_on`."""
        if self._where == "stdio":
            from devmodels.qtest.terminal import Standard

            self._relayed = Standard(context)
            come(self._relayed.end)
            return
        if self._where.telnet:
            come = self._through_telnet(context, come)
        if self._listener is not None:
            from devmodels.acceptor import Acceptor

            def next_one(connection: _socket.socket) -> None:
                self._pause()
                connection.setblocking(True)
                come(connection)

            self._acceptor = Acceptor(self._listener, context, next_one, name=self._option)
        if self._first is not None:
            self._pause()
            come(self._first)

    def _through_telnet(
        self, context: IoContext, come: Callable[[_socket.socket], None]
    ) -> Callable[[_socket.socket], None]:
        def relayed(connection: _socket.socket) -> None:
            from devmodels.qtest.terminal import Telnet

            self._relayed = Telnet(context, connection)
            come(self._relayed.end)

        return relayed

    @property
    def others_may_come(self) -> bool:
        """Whether there can be a client after this one."""
        return self._listener is not None

    def _pause(self) -> None:
        if self._acceptor is not None:
            self._acceptor.pause()

    def go_on(self) -> None:
        """The client has left."""
        self._end_relay()
        if self._acceptor is not None:
            self._acceptor.go_on()

    def close(self) -> None:
        """Nobody comes any more; what was said to the client by way of us is said to the end."""
        self._end_relay()
        if self._acceptor is not None:
            self._acceptor.close()

    def _end_relay(self) -> None:
        if self._relayed is not None:
            self._relayed.close()
            self._relayed = None


def _connect(where: Socket) -> _socket.socket:
    if where.fd is not None:
        return _inherited(where.fd)
    if where.address is not None:
        import socket

        return socket.create_connection(where.address)
    end = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        end.connect(where.path)
    except OSError:
        end.close()
        raise
    return end


def _inherited(fd: int) -> socket.socket:
    import socket

    end = socket.socket(fileno=fd)
    end.setblocking(True)
    return end


def _listener(where: Socket) -> socket.socket:
    """A listening socket, at a path or an address, or the one inherited."""
    if where.fd is not None:
        return _inherited(where.fd)
    if where.address is not None:
        import socket

        family, *_, address = socket.getaddrinfo(
            where.address[0] or None, where.address[1], type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family, backlog=1)
    from devmodels import unixlistener

    return unixlistener.listen(where.path)


def _greeting(monitor: Monitor | None) -> bytes:
    if monitor is None or not (monitor.human or monitor.pretty):
        return GREETING
    if monitor.human:
        return HUMAN_GREETING
    from devmodels.monitor.pretty import pretty_json

    return pretty_json(GREETING)


class Control:
    """All control connections of a machine; what serves them is made when somebody says something."""

    def __init__(self, assembling: Assembling, on_quit: Callable[[], None]) -> None:
        self._assembling = assembling
        self._context = assembling.board.context
        self._on_quit = on_quit
        self._waiting: dict[int, _socket.socket] = {}
        self._entrances: list[Entrance] = []
        self._sessions: list[MonitorSession | HumanSession] = []
        self._world: World | None = None
        self._migration: Migration | None = None
        hotplug = assembling.board.hotplug
        if hotplug is not None:
            hotplug.take_out = self._take_out

    def _take_out(self, name: str) -> None:
        """The guest lets a device go before anybody has given a command: what takes it out is one of them."""
        hotplug = self._assembling.board.hotplug
        if self._world is None and self.world is not None and hotplug is not None:
            hotplug.take_out(name)

    def add(
        self,
        connection: _socket.socket,
        gone: Callable[[], None] = lambda: None,
        monitor: Monitor | None = None,
    ) -> None:
        """Greet a client; `gone` is called when it leaves.  Without `monitor` it is QMP's."""
        connection.sendall(_greeting(monitor))
        self._waiting[connection.fileno()] = connection
        self._context.watch(
            connection.fileno(), select.EPOLLIN, lambda _: self._begin(connection, gone, monitor)
        )

    def serve(self, entrance: Entrance, monitor: Monitor) -> None:
        """Greet whoever comes through `entrance`, which is closed with all else."""
        self._entrances.append(entrance)

        def come(connection: _socket.socket) -> None:
            try:
                self.add(connection, entrance.go_on, monitor)
            except OSError:
                # It has left already.
                connection.close()
                entrance.go_on()

        entrance.open(self._context, come)

    def _begin(self, connection: _socket.socket, gone: Callable[[], None], monitor: Monitor | None) -> None:
        # Slow to import, and for those only that say something.
        import socket

        self._context.unwatch(connection.fileno())
        del self._waiting[connection.fileno()]
        whole = socket.socket(fileno=connection.detach())

        def left() -> None:
            self._sessions.remove(session)
            gone()

        session = self._session(whole, left, monitor)
        self._sessions.append(session)

    def _session(
        self, connection: socket.socket, left: Callable[[], None], monitor: Monitor | None
    ) -> MonitorSession | HumanSession:
        if monitor is not None and monitor.human:
            from devmodels.qtest.humansession import HumanSession

            return HumanSession(connection, self.world, left)
        from devmodels.monitor.server import MonitorSession

        if monitor is None or not monitor.pretty:
            return MonitorSession(connection, self.world, left, greeted=True)
        from devmodels.monitor.pretty import pretty

        return MonitorSession(connection, self.world, left, greeted=True, encode=pretty)

    @property
    def migration(self) -> Migration:
        """How the machine comes and goes."""
        if self._migration is None:
            from devmodels.qtest.migration import Migration

            self._migration = Migration(self._assembling.board)
        return self._migration

    def wait_for(self, uri: str, on_failure: Callable[[str], None]) -> None:
        """The machine's state comes from elsewhere, or `on_failure` is told why not; OptionError."""
        # Devices that wait to be ejected come along, and what takes them out is one of the commands.
        _ = self.world
        self.migration.on_failure = on_failure
        try:
            self.migration.wait(uri)
        except OptionError as error:
            raise OptionError(f"-incoming {uri}: {error}") from None

    @property
    def world(self) -> World:
        """What commands work on."""
        if self._world is None:
            from devmodels.monitor.world import World
            from devmodels.qtest.commands import Commands, full_name

            self._world = World.of(self._assembling.board.assembly, self._on_quit)
            self._world.stands_for = VERSION
            self._world.machine_type = f"{full_name(self._assembling.board.name)}-machine"
            self._world.more_commands = Commands(self._assembling, self._world, self.migration).table()
        return self._world

    def close(self) -> None:
        """End all sessions."""
        for session in self._sessions:
            session.close()
        for connection in self._waiting.values():
            connection.close()
        for entrance in self._entrances:
            entrance.close()
        if self._migration is not None:
            self._migration.close()
