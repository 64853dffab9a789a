"""The channel back to the front end: one message, "the configuration space has changed".

Follows "Back-end communication" of the protocol's document.
"""

from __future__ import annotations

import os
import select
import socket
import stat

from devmodels.exports.vhost_channel import RequestRefused
from devmodels.iocontext import IoContext
from devmodels.protocols.vhost_user import HEADER, VERSION, BackendMessage


class BackendChannel:
    """A socket that the front end reads; `fd` becomes its own.  RequestRefused where that is no stream socket."""

    def __init__(self, fd: int, context: IoContext) -> None:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise RequestRefused("the channel back is no socket")
        self._sock = socket.socket(fileno=fd)
        self._context = context
        self._outgoing = b""
        self._owed = False
        if self._sock.family != socket.AF_UNIX or self._sock.type != socket.SOCK_STREAM:
            self._sock.detach()
            raise RequestRefused("the channel back is no UNIX stream socket")

    def config_changed(self) -> None:
        """Tell the front end; a message that has not even begun to leave says this one's too."""
        if self._outgoing:
            self._owed = True
            return
        self._outgoing = HEADER.pack(BackendMessage.CONFIG_CHANGE, VERSION, 0)
        self._send()
        if self._outgoing:
            self._context.watch(self._sock.fileno(), select.EPOLLOUT, self._room)

    def _send(self) -> None:
        try:
            sent = self._sock.send(self._outgoing, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            self._outgoing = self._outgoing[sent:]
        except BlockingIOError:
            return
        except OSError:
            # It has gone, and the connection itself will end.
            self._outgoing = b""

    def _room(self, _events: int) -> None:
        self._send()
        if not self._outgoing:
            self._context.unwatch(self._sock.fileno())
            if self._owed:
                self._owed = False
                self.config_changed()

    def close(self) -> None:
        """Give up the socket."""
        if self._outgoing:
            self._context.unwatch(self._sock.fileno())
        self._sock.close()
