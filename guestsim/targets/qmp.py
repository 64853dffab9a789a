"""A synchronous QMP client for the host's side of a target: `qemu.qmp` on an event loop of its own.

Follows QEMU's docs/interop/qmp-spec.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias, TypeVar, cast

from qemu.qmp import EventListener, ExecuteError, QMPClient, QMPError

from guestsim.targets import TargetError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
"""What JSON can carry: QMP's arguments and results, and the objects of QEMU's `-device` and `-blockdev`."""

T = TypeVar("T")


class QmpClient:
    """A negotiated QMP session over a connected stream socket.

    The event loop runs only inside these calls, which therefore can't be made from a coroutine under asyncio.
    `why_lost` is asked for one line on what became of the server when the session fails; `timeout` in seconds is
    how long one command may take.  Every failure is a `TargetError`.
    """

    def __init__(
        self, connection: socket.socket, why_lost: Callable[[], str], *, timeout: float = 60.0
    ) -> None:
        """Take the greeting and negotiate; raises `TargetError`."""
        self._why_lost = why_lost
        self._timeout = timeout
        self._loop = asyncio.new_event_loop()
        self._client = QMPClient("guestsim")
        self._events = EventListener()
        self._client.register_listener(self._events)
        try:
            self._run(self._client.connect(connection), "QMP's greeting")
        except BaseException:
            self._loop.close()
            raise

    def execute(self, command: str, arguments: Mapping[str, Json] | None = None) -> Json:
        """Execute one command and return what it returned; its refusal is a `TargetError` in QEMU's words."""
        if self._loop.is_closed():
            raise TargetError("the machine has been closed")
        return cast("Json", self._run(self._client.execute(command, arguments), command))

    def take_events(self) -> list[tuple[str, Mapping[str, Json]]]:
        """Name and members of the events that came since the last call, at the latest with a command's answer."""
        return [
            (cast("str", event["event"]), cast("Mapping[str, Json]", event.get("data", {})))
            for event in self._events.clear()
        ]

    def close(self) -> None:
        """End the session. Idempotent."""
        if self._loop.is_closed():
            return
        # The server may be gone already, and says so here in any of several ways.
        with contextlib.suppress(Exception):
            self._loop.run_until_complete(asyncio.wait_for(self._client.disconnect(), self._timeout))
        self._loop.close()

    def _run(self, call: Coroutine[object, object, T], what: str) -> T:
        try:
            return self._loop.run_until_complete(asyncio.wait_for(call, self._timeout))
        except ExecuteError as error:
            raise TargetError(f"{what}: {error}") from error
        except TimeoutError as error:
            raise TargetError(f"{what}: QEMU gave no answer within {self._timeout:g} s") from error
        except (QMPError, OSError, EOFError) as error:
            raise TargetError(f"{what}: {self._why_lost()}") from error
