"""One page over HTTP, for whoever scrapes it: GET and HEAD of a path, one request to a connection (RFC 9112).

Clients may be hostile or slow: a request is short, or refused; a connection ends after a while; there are few at a
time, and the oldest makes room for a new one.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from http import HTTPStatus

from devmodels.acceptor import Acceptor
from devmodels.iocontext import IoContext

MAX_REQUEST = 8192
"""Bytes of a request line and its headers."""
MAX_CONNECTIONS = 16
PATIENCE_NS = 10 * 10**9
"""How long a connection may take altogether."""
PLAIN = "text/plain; charset=utf-8"

Page = Callable[[], tuple[str, bytes]]
"""Content type and content."""


class HttpServer:
    """Serves `page` at `path` on a TCP socket at `host` and `port` (0: any that is free); OSError where it cannot."""

    def __init__(self, host: str, port: int, context: IoContext, path: str, page: Page) -> None:
        self._context = context
        self._path = path
        self._page = page
        self._connections: dict[int, _Connection] = {}
        self._closed = False
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=MAX_CONNECTIONS)
        self.port: int = listener.getsockname()[1]
        self._acceptor = Acceptor(listener, context, self._connected, name="prometheus")

    def close(self) -> None:
        """End all connections.  Idempotent."""
        if self._closed:
            return
        self._closed = True
        for connection in list(self._connections.values()):
            connection.close()
        self._acceptor.close()

    def _connected(self, sock: socket.socket) -> None:
        if len(self._connections) == MAX_CONNECTIONS:
            next(iter(self._connections.values())).close()
        fd = sock.fileno()
        self._connections[fd] = _Connection(
            sock, self._context, self._answer, lambda: self._connections.pop(fd, None)
        )

    def _answer(self, head: bytes) -> bytes:
        """The response to a request's head."""
        method, _, rest = head.partition(b"\n")[0].strip().partition(b" ")
        target, _, version = rest.partition(b" ")
        if not version.startswith(b"HTTP/1."):
            return response(HTTPStatus.BAD_REQUEST)
        if method not in (b"GET", b"HEAD"):
            return response(HTTPStatus.METHOD_NOT_ALLOWED, more="Allow: GET, HEAD\r\n")
        if target.partition(b"?")[0] != self._path.encode():
            text = f"{self._path} is all there is\n".encode()
            return response(HTTPStatus.NOT_FOUND, PLAIN, text, body=method == b"GET")
        kind, content = self._page()
        return response(HTTPStatus.OK, kind, content, body=method == b"GET")


class _Connection:
    """Takes a request's head, sends what it is answered with, and ends."""

    def __init__(
        self,
        sock: socket.socket,
        context: IoContext,
        answer: Callable[[bytes], bytes],
        on_end: Callable[[], object],
    ) -> None:
        self._sock = sock
        self._context = context
        self._answer = answer
        self._on_end = on_end
        self._head = bytearray()
        self._outgoing = b""
        self._timer = context.call_at(context.now_ns() + PATIENCE_NS, self.close)
        context.watch(sock.fileno(), select.EPOLLIN, self._receive)

    def close(self) -> None:
        """End it; called once."""
        self._timer.cancel()
        self._context.unwatch(self._sock.fileno())
        self._sock.close()
        self._on_end()

    def _receive(self, _events: int) -> None:
        try:
            data = self._sock.recv(MAX_REQUEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._head += data
        if len(self._head) > MAX_REQUEST:
            self._respond(response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE))
        elif b"\n\r\n" in self._head or b"\n\n" in self._head:
            self._respond(self._answer(bytes(self._head)))

    def _respond(self, answer: bytes) -> None:
        self._outgoing = answer
        fd = self._sock.fileno()
        self._context.unwatch(fd)
        self._context.watch(fd, select.EPOLLOUT, self._send)

    def _send(self, _events: int) -> None:
        try:
            sent = self._sock.send(self._outgoing, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._outgoing = self._outgoing[sent:]
        if not self._outgoing:
            self.close()


def response(
    status: HTTPStatus, kind: str = PLAIN, content: bytes | None = None, *, more: str = "", body: bool = True
) -> bytes:
    """A whole response, after which the connection ends."""
    if content is None:
        content = f"{status.phrase}\n".encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(content)}\r\n{more}Connection: close\r\n\r\n"
    )
    return head.encode() + (content if body else b"")
