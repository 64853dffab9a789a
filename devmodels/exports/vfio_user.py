"""The `vfio-user` export: a PCI function of ours for another program's machine, one client after the other."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Literal

import msgspec

from devmodels.acceptor import Acceptor
from devmodels.blockbackend import BlockBackend
from devmodels.exports.vfio_user_session import Offered, Session
from devmodels.exports.vhost_user_blk import UnixAddress
from devmodels.exports.violations import ViolationWarnings
from devmodels.options import OptionError
from devmodels.unixlistener import listen, remove

log = logging.getLogger("devmodels.vfio-user")


class VfioUserOptions(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Options of `--export type=vfio-user`: `device` is the id of a PCI device of `--device`."""

    type: Literal["vfio-user"]
    id: str
    device: str
    addr: UnixAddress


class VfioUserServer:
    """Listens on a UNIX socket and serves one client after the other with one function.

    Raises OSError where the socket cannot be bound.
    """

    def __init__(self, path: str, offered: Offered) -> None:
        self.path = path
        self.offered = offered
        self._session: Session | None = None
        self._closed = False
        self._at_end: Callable[[], None] | None = None
        self._warnings = ViolationWarnings(offered.function.name)
        offered.violations.on_violation = self._warnings
        offered.machine.messages_in_memory = False
        self._acceptor = Acceptor(
            listen(path), offered.machine.context, self._connected, name=offered.function.name
        )

    @property
    def connected(self) -> bool:
        """Whether a client is connected, or its last request still runs."""
        return self._session is not None

    def _connected(self, sock: socket.socket) -> None:
        self._acceptor.pause()
        self._warnings.forget()
        log.info("%s: client connected", self.offered.function.name)
        self._session = Session(sock, self.offered, self._ended)

    def _ended(self) -> None:
        log.info("%s: client disconnected", self.offered.function.name)
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


class VfioUserExport:
    """The export as one of several.  OptionError where the socket cannot be bound."""

    backend: BlockBackend | None = None
    """Its function has its own way to nodes."""

    def __init__(self, options: VfioUserOptions, offered: Offered) -> None:
        try:
            self.server = VfioUserServer(options.addr.path, offered)
        except OSError as error:
            reason = error.strerror or error
            raise OptionError(f"addr.path: cannot listen at {options.addr.path!r}: {reason}") from None

    @property
    def connected(self) -> bool:
        """Whether a client is there, or its last request still runs."""
        return self.server.connected

    def close(self, then: Callable[[], None]) -> None:
        """End it, its client too."""
        self.server.close(then)
