"""An initiator that reaches a daemon over TCP, with everything that the tests' own initiator can say."""

from __future__ import annotations

import select
import socket

from devmodels.iocontext import IoContext

from .initiator import Initiator

PATIENCE_SECONDS = 10.0


class Remote(Initiator):
    """One connection to a portal of this host; what is received comes in one piece, or not at all."""

    def __init__(self, port: int) -> None:
        self._context = IoContext.stepped()  # Nothing happens there.
        super().__init__(socket.create_connection(("127.0.0.1", port)), self._context)

    def send_bytes(self, data: bytes) -> None:
        self._sock.setblocking(True)
        self._sock.sendall(data)
        self._sock.setblocking(False)

    def _fill(self) -> None:
        """Wait until something has come, and take it."""
        if not self._data and not self._ended:
            select.select([self._sock], [], [], PATIENCE_SECONDS)
        super()._fill()

    def close(self) -> None:
        super().close()
        self._context.close()
