"""A QMP server: greeting, negotiation, commands from a table.

Follows QEMU's docs/interop/qmp-spec.  A command's arguments are a `msgspec.Struct`, its work a coroutine; what goes
wrong is an error object of class GenericError with one line for the user.
"""

from __future__ import annotations

import select
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version
from typing import Any, NamedTuple

import msgspec

from devmodels.iocontext import IoContext
from devmodels.monitor.channel import ObjectChannel
from devmodels.options import OptionError, convert, one_line
from devmodels.unixlistener import listen, remove


class Empty(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """No arguments."""


class CommandError(Exception):
    """A command cannot be carried out; the text is one line for the user."""


class Command(NamedTuple):
    """A command: the schema of its arguments, and what it does; its result is sent as JSON."""

    arguments: type[msgspec.Struct]
    run: Callable[[Any], Awaitable[object]]


class MonitorServer:
    """Listens on a UNIX socket and serves one client after the other with `commands`.

    Raises OSError where the socket cannot be bound.
    """

    def __init__(self, path: str, context: IoContext, commands: Mapping[str, Command]) -> None:
        self.path = path
        self._context = context
        self._commands: dict[str, Command] = {
            "query-version": Command(Empty, self._query_version),
            "query-commands": Command(Empty, self._query_commands),
            **commands,
        }
        self._channel: ObjectChannel | None = None
        self._negotiated = False
        self._closed = False
        self._listener = listen(path)
        context.watch(self._listener.fileno(), select.EPOLLIN, self._accept)

    def close(self) -> None:
        """End the session, if any, and remove the socket. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._channel is None:
            self._context.unwatch(self._listener.fileno())
        else:
            self._channel.close()
        self._listener.close()
        remove(self.path)

    # --- clients

    def _accept(self, _events: int) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        self._context.unwatch(self._listener.fileno())
        self._negotiated = False
        self._channel = ObjectChannel(sock, self._context, self._command, self._left)
        self._channel.put({"QMP": {"version": _version(), "capabilities": []}})

    def _left(self) -> None:
        self._channel = None
        if not self._closed:
            self._context.watch(self._listener.fileno(), select.EPOLLIN, self._accept)

    # --- commands

    def _command(self, text: bytes) -> None:
        """One command; its answer goes to the client that sent it, if that is still there."""
        channel = self._channel
        assert channel is not None
        try:
            request = msgspec.json.decode(text, type=dict[str, object])
            extra = {"id": msgspec.Raw(msgspec.json.encode(request["id"]))} if "id" in request else {}
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            channel.answer(_error(f"JSON parse error: {one_line(str(error))}"))
            return

        async def serve() -> None:
            try:
                answer = {"return": await self._execute(request)}
            except _NotFound as error:
                answer = _error(str(error), "CommandNotFound")
            except (CommandError, OptionError, OSError, RecursionError) as error:
                text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
                answer = _error(text)
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
                raise _NotFound("Expecting capabilities negotiation with 'qmp_capabilities'")
            if arguments.get("enable"):
                raise CommandError("no capability is offered that could be enabled")
            self._negotiated = True
            return {}
        command = self._commands.get(name)
        if command is None:
            raise _NotFound(f"The command {name} has not been found")
        return await command.run(convert(arguments, command.arguments, what=name))

    async def _query_version(self, _arguments: Empty) -> object:
        return _version()

    async def _query_commands(self, _arguments: Empty) -> object:
        return [{"name": name} for name in sorted(self._commands)]


class _NotFound(Exception):
    """There is no such command, or not yet."""


def _error(text: str, kind: str = "GenericError") -> dict[str, object]:
    return {"error": {"class": kind, "desc": text}}


def _version() -> dict[str, object]:
    """As query-version answers; the member `qemu` is what clients look for, the numbers are ours."""
    numbers = [*version("devmodels").split("."), "0", "0"][:3]
    major, minor, micro = (int("".join(filter(str.isdigit, number)) or 0) for number in numbers)
    return {"qemu": {"major": major, "minor": minor, "micro": micro}, "package": "devmodels"}
