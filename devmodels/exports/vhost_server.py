"""The listening end of a vhost-user export: one front end after the other, each with a `Session` of its own."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

from devmodels.exports.oneclient import OneClientServer
from devmodels.exports.vhost_user import Session
from devmodels.exports.violations import ViolationWarnings
from devmodels.protocols.vhost_user import MAX_QUEUES
from devmodels.virtio.device import VirtioDevice

log = logging.getLogger("devmodels.vhost-user")


class VhostUserServer(OneClientServer):
    """Listens on a UNIX socket and serves one front end after the other with one device.

    `device` stays the same over all connections; its memory's regions are the front end's.  Raises OSError where the
    socket cannot be bound, and ValueError where the device has too many queues.
    """

    def __init__(self, path: str, device: VirtioDevice) -> None:
        if len(device.queues) > MAX_QUEUES:
            raise ValueError(f"{len(device.queues)} queues, vhost-user has at most {MAX_QUEUES}")
        self.device = device
        # A legacy driver is the front end's to judge: it alone knows whether its device is transitional.
        device.front_end = True
        device.notifies_anywhere = True
        warnings = ViolationWarnings(device.name, log, of="this connection")
        device.violations.on_violation = warnings
        super().__init__(path, device.context, name=device.name, who="front end", log=log, warnings=warnings)

    def begin(self, sock: socket.socket, ended: Callable[[], None]) -> Session:
        """A front end's session."""
        return Session(sock, self.device, ended)
