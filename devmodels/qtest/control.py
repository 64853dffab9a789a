"""The control socket: QMP over a connection that is made at the start, served from the first command on.

The greeting is the one of the QEMU that this stands in for, as its clients look at the numbers.
"""

from __future__ import annotations

import _socket  # without the classes of all numbers that `socket` makes, which takes milliseconds
import select
from typing import TYPE_CHECKING, TypeVar

from devmodels.options import OptionError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from devmodels.acceptor import Acceptor
    from devmodels.iocontext import IoContext
    from devmodels.monitor.server import MonitorSession
    from devmodels.monitor.world import World
    from devmodels.qtest.assembling import Assembling
    from devmodels.qtest.channels import Socket
    from devmodels.qtest.migration import Migration

T = TypeVar("T")
VERSION = (7, 2, 0)
"""Of the QEMU whose clients this is for: major, minor, micro."""
GREETING = (
    b'{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}, "package": ""}, '
    b'"capabilities": []}}\r\n'
)


class Entrance:
    """Where clients come through a channel: one that listens itself, or whoever connects, one after the other.

    A socket to be connected to is there at once; OptionError, of this one's `option`, where it cannot be.
    """

    def __init__(self, where: Socket, *, option: str) -> None:
        self._where = where
        self._option = option
        self._first: _socket.socket | None = None
        self._acceptor: Acceptor | None = None
        self._listener = self._tried(lambda: _listener(where)) if where.server else None

    def _tried(self, made: Callable[[], T]) -> T:
        try:
            return made()
        except OSError as error:
            raise OptionError(f"{self._option}: {self._where}: {error.strerror}") from None

    def wait(self) -> None:
        """Connect, or wait for the first client, if somebody is to wait for it; OptionError where that cannot be."""
        where, listener = self._where, self._listener
        if listener is None:
            self._first = self._tried(
                lambda: _connect(where.path) if where.fd is None else _inherited(where.fd)
            )
        elif where.wait:
            listener.setblocking(True)
            self._first = self._tried(listener.accept)[0]

    def open(self, context: IoContext, come: Callable[[_socket.socket], None]) -> None:
        """Hand clients over, each to `come` as a blocking socket; the next one after `go_on`."""
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

    @property
    def others_may_come(self) -> bool:
        """Whether there can be a client after this one."""
        return self._listener is not None

    def _pause(self) -> None:
        if self._acceptor is not None:
            self._acceptor.pause()

    def go_on(self) -> None:
        """The client has left."""
        if self._acceptor is not None:
            self._acceptor.go_on()

    def close(self) -> None:
        """Nobody comes any more."""
        if self._acceptor is not None:
            self._acceptor.close()


def _connect(path: str) -> _socket.socket:
    end = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        end.connect(path)
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
    """A listening socket, at a path or the one inherited."""
    if where.fd is not None:
        return _inherited(where.fd)
    from devmodels import unixlistener

    return unixlistener.listen(where.path)


class Control:
    """All control connections of a machine; what serves them is made when somebody says something."""

    def __init__(self, assembling: Assembling, on_quit: Callable[[], None]) -> None:
        self._assembling = assembling
        self._context = assembling.board.context
        self._on_quit = on_quit
        self._waiting: dict[int, _socket.socket] = {}
        self._entrances: list[Entrance] = []
        self._sessions: list[MonitorSession] = []
        self._world: World | None = None
        self._migration: Migration | None = None

    def add(self, connection: _socket.socket, gone: Callable[[], None] = lambda: None) -> None:
        """Greet a client; `gone` is called when it leaves."""
        connection.sendall(GREETING)
        self._waiting[connection.fileno()] = connection
        self._context.watch(connection.fileno(), select.EPOLLIN, lambda _: self._begin(connection, gone))

    def serve(self, entrance: Entrance) -> None:
        """Greet whoever comes through `entrance`, which is closed with all else."""
        self._entrances.append(entrance)

        def come(connection: _socket.socket) -> None:
            try:
                self.add(connection, entrance.go_on)
            except OSError:
                # It has left already.
                connection.close()
                entrance.go_on()

        entrance.open(self._context, come)

    def _begin(self, connection: _socket.socket, gone: Callable[[], None]) -> None:
        # Slow to import, and for those only that say something.
        import socket

        from devmodels.monitor.server import MonitorSession

        self._context.unwatch(connection.fileno())
        del self._waiting[connection.fileno()]
        whole = socket.socket(fileno=connection.detach())

        def left() -> None:
            self._sessions.remove(session)
            gone()

        session = MonitorSession(whole, self.world, left, greeted=True)
        self._sessions.append(session)

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
            from devmodels.qtest.commands import Commands

            self._world = World.of(self._assembling.board.assembly, self._on_quit)
            self._world.stands_for = VERSION
            self._world.more_commands = Commands(self._assembling, self._world, self.migration).table()
        return self._world

    def close(self) -> None:
        """End all sessions."""
        for entrance in self._entrances:
            entrance.close()
        for session in self._sessions:
            session.close()
        for connection in self._waiting.values():
            connection.close()
        if self._migration is not None:
            self._migration.close()
