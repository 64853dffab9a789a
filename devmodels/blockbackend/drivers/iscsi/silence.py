"""Whether a target that has commands is still there: silence is asked about, and then not borne (RFC 7143 §11.18)."""

from __future__ import annotations

from devmodels.blockbackend.drivers.iscsi.connection import Connection
from devmodels.iocontext import IoContext, Timer

PING_NS = 5 * 10**9
MAX_SILENCE = 3
"""A target that has commands and says nothing for so many times `PING_NS` after it was asked is not there."""


class Silence:
    """Listens to one connection, from `listen` to `stop`."""

    __slots__ = ("_connection", "_context", "_progress", "_silent", "_timer")

    def __init__(self, context: IoContext, connection: Connection) -> None:
        self._context = context
        self._connection = connection
        self._silent = 0
        self._progress = (0, 0)
        self._timer: Timer | None = None

    def listen(self) -> None:
        """There are commands.  Idempotent."""
        if self._timer is None:
            self._silent = 0
            self._wait()

    def stop(self) -> None:
        """There are none any more.  Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self) -> None:
        self._progress = self._connection.progress
        self._timer = self._context.call_at(self._context.now_ns() + PING_NS, self._look)

    def _look(self) -> None:
        connection = self._connection
        (received, sent), (now_received, now_sent) = self._progress, connection.progress
        silent = received == now_received and (sent == now_sent or not connection.unsent)
        self._silent = self._silent + 1 if silent else 0
        if self._silent > MAX_SILENCE:
            self._timer = None
            connection.give_up("the target says nothing any more")
            return
        if silent and not connection.unanswered:
            connection.ping()
        self._wait()
