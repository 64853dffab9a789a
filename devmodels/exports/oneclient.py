"""The listening end of an export that has one client after the other, each with a session of its own."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Protocol

from devmodels.acceptor import Acceptor
from devmodels.exports.violations import ViolationWarnings
from devmodels.iocontext import IoContext
from devmodels.unixlistener import listen, remove


class Session(Protocol):
    """One connection; it calls what it was given when all that ran for it has come back."""

    def close(self) -> None:
        """End it."""
        ...


class OneClientServer:
    """Listens on a UNIX socket at `path`.  OSError where it cannot be bound.

    `who` is what a client is called in the log `log`, `name` who is served; `warnings` begin anew with each client.
    """

    def __init__(
        self,
        path: str,
        context: IoContext,
        *,
        name: str,
        who: str,
        log: logging.Logger,
        warnings: ViolationWarnings,
    ) -> None:
        self.path = path
        self._name = name
        self._who = who
        self._log = log
        self._warnings = warnings
        self._session: Session | None = None
        self._closed = False
        self._at_end: Callable[[], None] | None = None
        self._acceptor = Acceptor(listen(path), context, self._connected, name=name)

    def begin(self, sock: socket.socket, ended: Callable[[], None]) -> Session:
        """A session over `sock` that calls `ended`."""
        raise NotImplementedError

    @property
    def connected(self) -> bool:
        """Whether a client is connected, or its last request still runs."""
        return self._session is not None

    def _connected(self, sock: socket.socket) -> None:
        self._acceptor.pause()
        self._warnings.forget()
        self._log.info("%s: %s connected", self._name, self._who)
        self._session = self.begin(sock, self._ended)

    def _ended(self) -> None:
        self._log.info("%s: %s disconnected", self._name, self._who)
        self._session = None
        if self._closed:
            self._finish()
        else:
            self._acceptor.go_on()

    def close(self, then: Callable[[], None] | None = None) -> None:
        """End the session, if any, and remove the socket; `then` is called when what runs has come back.

        A second call does nothing.
        """
        if self._closed:
            return
        self._closed = True
        self._at_end = then
        self._acceptor.close()
        remove(self.path)
        if self._session is None:
            self._finish()
        else:
            self._session.close()

    def _finish(self) -> None:
        then, self._at_end = self._at_end, None
        if then is not None:
            then()
