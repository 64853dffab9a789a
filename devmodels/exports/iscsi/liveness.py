"""Whether an initiator is still there: silence is asked about, deafness is not borne (RFC 7143 §4.6.3.2, §11.19)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.iocontext import Timer

if TYPE_CHECKING:
    from devmodels.exports.iscsi.connection import Connection

TICK_NS = 10 * 10**9
QUIET_TICKS = 6
"""After a minute of silence an initiator is asked for a sign of life; a discovery session ends."""

DEAD_TICKS = 9
"""After half a minute more without one the connection ends."""

DEAF_TICKS = 6
"""What an initiator has not begun to read for a minute it will not read."""


class Liveness:
    """Looks after one connection, once a tick."""

    __slots__ = ("_connection", "_deaf", "_quiet", "_received", "_sent", "_timer")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._quiet = self._deaf = 0
        self._received = self._sent = 0
        self._timer: Timer
        self._wait()

    def close(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _wait(self) -> None:
        context = self._connection.stream.context
        self._timer = context.call_at(context.now_ns() + TICK_NS, self._tick)

    def _tick(self) -> None:
        connection = self._connection
        stream = connection.stream
        received, sent = stream.received_bytes, stream.sent_bytes
        self._deaf = self._deaf + 1 if stream.unsent and sent == self._sent else 0
        self._quiet = self._quiet + 1 if not stream.unsent and received == self._received else 0
        self._received, self._sent = received, sent
        if self._deaf >= DEAF_TICKS:
            connection.ended("the initiator does not read")
        elif self._quiet >= DEAD_TICKS:
            connection.ended("the initiator does not answer")
        else:
            if self._quiet >= QUIET_TICKS and connection.session.target is None:
                connection.ended(None)
                return
            if self._quiet == QUIET_TICKS:
                connection.ping()
            self._wait()
