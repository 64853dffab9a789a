"""Connections taken from a listening socket, also where there are no descriptors for a while."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable

from devmodels import logs
from devmodels.iocontext import IoContext

log = logs.logger("devmodels")

RETRY_NS = 10**9
"""How long to wait where a connection cannot be accepted for want of descriptors or memory."""


class Acceptor:
    """Calls `on_connection(socket)`, non-blocking, for each connection to `listener`, which it owns.

    `name` is whose it is, for messages.
    """

    def __init__(
        self,
        listener: socket.socket,
        context: IoContext,
        on_connection: Callable[[socket.socket], None],
        *,
        name: str,
    ) -> None:
        self._name = name
        self._listener = listener
        self._context = context
        self._on_connection = on_connection
        self._watching = False
        self._closed = False
        listener.setblocking(False)
        self.go_on()

    def close(self) -> None:
        """Take no more."""
        self._closed = True
        self.pause()
        self._listener.close()

    def go_on(self) -> None:
        """Take connections, unless it was closed.  Idempotent."""
        if not self._closed and not self._watching:
            self._watching = True
            self._context.watch(self._listener.fileno(), select.EPOLLIN, self._accept)

    def pause(self) -> None:
        """Take none until `go_on`: who connects waits.  Idempotent."""
        if self._watching:
            self._watching = False
            self._context.unwatch(self._listener.fileno())

    @property
    def awaited(self) -> bool:
        """Whether somebody waits to be accepted."""
        look = select.poll()
        look.register(self._listener, select.POLLIN)
        return bool(look.poll(0))

    def _accept(self, _events: int) -> None:
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            # It would be readable all the time.
            log.warning("%s: no connection can be accepted: %s", self._name, error.strerror)
            self.pause()
            self._context.call_at(self._context.now_ns() + RETRY_NS, self.go_on)
            return
        sock.setblocking(False)
        self._on_connection(sock)
