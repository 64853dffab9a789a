"""The listening end of a vhost-user export: one front end after the other, each with a `Session` of its own."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

from devmodels.acceptor import Acceptor
from devmodels.conformance import Violation
from devmodels.exports.vhost_user import Session
from devmodels.protocols.vhost_user import MAX_QUEUES
from devmodels.unixlistener import listen, remove
from devmodels.virtio.device import VirtioDevice

log = logging.getLogger("devmodels.vhost-user")

VIOLATIONS_LOGGED = 20
"""How many violations of one connection are logged; further ones are only counted."""


class VhostUserServer:
    """Listens on a UNIX socket and serves one front end after the other with one device.

    `device` stays the same over all connections; its memory's regions are the front end's.  Raises OSError where the
    socket cannot be bound, and ValueError where the device has too many queues.
    """

    def __init__(self, path: str, device: VirtioDevice) -> None:
        if len(device.queues) > MAX_QUEUES:
            raise ValueError(f"{len(device.queues)} queues, vhost-user has at most {MAX_QUEUES}")
        self.path = path
        self.device = device
        self._session: Session | None = None
        self._closed = False
        self._at_end: Callable[[], None] | None = None
        self._violations = 0
        # A legacy driver is the front end's to judge: it alone knows whether its device is transitional.
        device.front_end = True
        device.notifies_anywhere = True
        device.violations.on_violation = self._violated
        self._acceptor = Acceptor(listen(path), device.context, self._connected, name=device.name)

    @property
    def connected(self) -> bool:
        """Whether a front end is connected, or its last request still runs."""
        return self._session is not None

    def _connected(self, sock: socket.socket) -> None:
        self._acceptor.pause()
        self._violations = 0
        log.info("%s: front end connected", self.device.name)
        self._session = Session(sock, self.device, self._ended)

    def _ended(self) -> None:
        log.info("%s: front end disconnected", self.device.name)
        self._session = None
        if self._closed:
            self._finish()
        else:
            self._acceptor.go_on()

    def _violated(self, violation: Violation) -> None:
        self._violations += 1
        if self._violations <= VIOLATIONS_LOGGED:
            log.warning("%s: %s", self.device.name, violation)
        elif self._violations == VIOLATIONS_LOGGED + 1:
            log.warning("%s: further violations of this connection are only counted", self.device.name)

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
