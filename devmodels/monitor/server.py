"""A QMP server: greeting, negotiation, commands, events.

Follows QEMU's docs/interop/qmp-spec.  Commands of one client are done in the order in which they came, one after the
other; out-of-band execution is not offered.  What goes wrong is an error object with one line for the user.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Mapping

import msgspec

from devmodels.acceptor import Acceptor
from devmodels.monitor.channel import ObjectChannel, line_of
from devmodels.monitor.command import CommandError, text_of
from devmodels.monitor.control import version_of
from devmodels.monitor.table import commands
from devmodels.monitor.world import World
from devmodels.options import OptionError, json_object, one_line
from devmodels.unixlistener import listen, remove

log = logging.getLogger("devmodels.monitor")


PATIENCE = 1 << 16
"""With so many bytes unread, a client is not told of errors that stop nothing."""


class MonitorSession:
    """One client's session over a connected socket, which it owns, with the commands of `world`.

    `on_end()` is called once when the client has left.  It works when the world's context does.
    """

    def __init__(
        self,
        sock: socket.socket,
        world: World,
        on_end: Callable[[], None],
        *,
        greeted: bool = False,
        encode: Callable[[object], bytes] = line_of,
    ) -> None:
        """`greeted`: somebody has sent the greeting already.  `encode`: how answers look."""
        self._world = world
        self._context = world.context
        self._commands = commands(world)
        self._negotiated = False
        self._on_end = on_end
        self._channel = ObjectChannel(sock, self._context, self._command, self._left, encode=encode)
        world.events.add_listener(self._event)
        if not greeted:
            self._channel.put(greeting(world))

    def close(self) -> None:
        """End the session. Idempotent."""
        self._world.events.remove_listener(self._event)
        self._channel.close()

    def _left(self) -> None:
        self._world.events.remove_listener(self._event)
        self._on_end()

    # --- events

    def _event(self, name: str, data: Mapping[str, object]) -> None:
        """Tell the client, if one is there and has negotiated."""
        if self._negotiated:
            if name == "BLOCK_IO_ERROR" and data.get("action") != "stop" and self._channel.unread > PATIENCE:
                # A guest on a broken disk can cause them without end.
                return
            now = time.time_ns() // 1000
            stamp = {"seconds": now // 10**6, "microseconds": now % 10**6}
            self._channel.put({"timestamp": stamp, "event": name, **({"data": dict(data)} if data else {})})

    # --- commands

    def _command(self, text: bytes) -> None:
        """One command; its answer goes to the client that sent it, if that is still there."""
        channel = self._channel
        try:
            request = json_object(text)
            extra = {"id": msgspec.Raw(msgspec.json.encode(request["id"]))} if "id" in request else {}
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            channel.answer(_error(f"JSON parse error: {error}"))
            return

        async def serve() -> None:
            try:
                answer = {"return": await self._execute(request)}
            except CommandError as error:
                answer = _error(str(error), error.kind)
            except (OptionError, OSError, RecursionError) as error:
                answer = _error(text_of(error))
            except Exception as error:
                log.exception("%s failed", request.get("execute"))
                answer = _error(f"{type(error).__name__}: {error}")
            channel.answer(answer | extra)

        self._context.start(serve())

    async def _execute(self, request: Mapping[str, object]) -> object:
        unknown = sorted(set(request) - {"execute", "arguments", "id"})
        if unknown:
            raise CommandError(f"QMP input member '{unknown[0]}' is unexpected")
        name = request.get("execute")
        if not isinstance(name, str):
            raise CommandError("QMP input lacks member 'execute', a command's name")
        arguments = request.get("arguments", {})
        if not isinstance(arguments, dict):
            raise CommandError("QMP input member 'arguments' must be an object")
        if not self._negotiated:
            if name != "qmp_capabilities":
                raise CommandError(
                    "Expecting capabilities negotiation with 'qmp_capabilities'", "CommandNotFound"
                )
            if arguments.get("enable"):
                raise CommandError("no capability is offered that could be enabled")
            self._negotiated = True
            return {}
        command = self._commands.get(name)
        if command is None:
            raise CommandError(f"The command {name} has not been found", "CommandNotFound")
        return await command(self._world, arguments)


class MonitorServer:
    """Listens on a UNIX socket and serves one client after the other with the commands of `world`.

    Raises OSError where the socket cannot be bound.  It works when the world's context does.
    """

    def __init__(self, path: str, world: World) -> None:
        self.path = path
        self._world = world
        self._session: MonitorSession | None = None
        self._closed = False
        self._acceptor = Acceptor(listen(path), world.context, self._connected, name="monitor")

    def close(self) -> None:
        """End the session, if any, and remove the socket. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._acceptor.close()
        if self._session is not None:
            self._session.close()
        remove(self.path)

    def _connected(self, sock: socket.socket) -> None:
        self._acceptor.pause()
        self._session = MonitorSession(sock, self._world, self._left)

    def _left(self) -> None:
        self._session = None
        self._acceptor.go_on()


def greeting(world: World) -> dict[str, object]:
    """What a client is sent first."""
    return {"QMP": {"version": version_of(world), "capabilities": []}}


def _error(text: str, kind: str = "GenericError") -> dict[str, object]:
    return {"error": {"class": kind, "desc": one_line(text)}}
