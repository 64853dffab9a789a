"""The `vfio-user` export: a PCI function of ours for another program's machine, one client after the other."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Literal

import msgspec

from devmodels.blockbackend import BlockBackend
from devmodels.exports.oneclient import OneClientServer
from devmodels.exports.vfio_user_session import Offered, Session
from devmodels.exports.vhost_user_blk import UnixAddress
from devmodels.exports.violations import ViolationWarnings
from devmodels.options import OptionError

log = logging.getLogger("devmodels.vfio-user")


class VfioUserOptions(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Options of `--export type=vfio-user`: `device` is the id of a PCI device of `--device`."""

    type: Literal["vfio-user"]
    id: str
    device: str
    addr: UnixAddress


class VfioUserServer(OneClientServer):
    """Listens on a UNIX socket and serves one client after the other with one function.

    Raises OSError where the socket cannot be bound.
    """

    def __init__(self, path: str, offered: Offered) -> None:
        self.offered = offered
        name = offered.function.name
        warnings = ViolationWarnings(name)
        offered.violations.on_violation = warnings
        offered.machine.messages_in_memory = False
        super().__init__(path, offered.machine.context, name=name, who="client", log=log, warnings=warnings)

    def begin(self, sock: socket.socket, ended: Callable[[], None]) -> Session:
        """A client's session."""
        return Session(sock, self.offered, ended)


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
