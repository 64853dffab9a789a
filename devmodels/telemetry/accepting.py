"""Connections taken from a listening socket, also where there are no descriptors for a while."""

from __future__ import annotations

import logging
import select
import socket
from collections.abc import Callable

from devmodels.iocontext import IoContext

log = logging.getLogger("devmodels.telemetry")

RETRY_NS = 10**9
"""How long to wait where a connection cannot be accepted for want of descriptors or memory."""


class Acceptor:
    """Calls `on_connection(socket)`, non-blocking, for each connection to `listener`, which it owns."""

    def __init__(
        self, listener: socket.socket, context: IoContext, on_connection: Callable[[socket.socket], None]
    ) -> None:
        self._listener = listener
        self._context = context
        self._on_connection = on_connection
        self._watching = False
        self._closed = False
        listener.setblocking(False)
        self._go_on()

    def close(self) -> None:
        """Take no more."""
        self._closed = True
        self._pause()
        self._listener.close()

    def _go_on(self) -> None:
        if not self._closed and not self._watching:
            self._watching = True
            self._context.watch(self._listener.fileno(), select.EPOLLIN, self._accept)

    def _pause(self) -> None:
        if self._watching:
            self._watching = False
            self._context.unwatch(self._listener.fileno())

    def _accept(self, _events: int) -> None:
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            # It would be readable all the time.
            log.warning("no connection can be accepted: %s", error.strerror)
            self._pause()
            self._context.call_at(self._context.now_ns() + RETRY_NS, self._go_on)
            return
        sock.setblocking(False)
        self._on_connection(sock)
