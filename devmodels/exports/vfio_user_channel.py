"""The socket of a vfio-user connection: messages in, one at a time; answers out, and requests for the client's memory.

Follows "Header" and "Command Concurrency" of the protocol's document.  Commands are taken in the order in which they
came, the next one when the one at hand has been dealt with, and while an answer cannot be sent nothing is read: a
client that floods or does not listen holds up itself alone.

What has been read ahead waits like what has not been read.
"""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from devmodels.exports.vfio_user_incoming import Incoming, LeftError, Message, ProtocolError, close_all
from devmodels.iocontext import IoContext
from devmodels.protocols.vfio_user import (
    ERROR,
    HEADER,
    NO_REPLY,
    TYPE_COMMAND,
    TYPE_MASK,
    TYPE_REPLY,
    command_name,
)

MESSAGES_PER_TURN = 32
"""After so many messages in a row others have their turn."""

ANSWER_SECONDS = 5.0
"""How long a client may take to read or write its memory for us; QEMU gives a server as long."""

MOST_QUEUED = 4096
MOST_QUEUED_BYTES = 8 << 20
MOST_QUEUED_FDS = 64
"""What a client may send before it answers for its memory."""

_HANG_UP = 0
"""EPOLLHUP is reported in any case."""


class Channel:
    """One connection's socket, which it owns.

    `on_message(message)` is called for each command, and may raise ProtocolError; the next one follows when it returns,
    or after `hold` at `go_on`.  `on_end(reason)` is called once when the connection has ended by itself, None where in
    peace; not after `close`.  `early(message)`: the answer to a command that may be answered before its turn, while we
    wait for the client, else None.
    """

    def __init__(
        self,
        sock: socket.socket,
        context: IoContext,
        on_message: Callable[[Message], None],
        on_end: Callable[[str | None], None],
        early: Callable[[Message], bytes | None],
    ) -> None:
        self._sock = sock
        self._fd = sock.fileno()
        self._context = context
        self._on_message = on_message
        self._on_end = on_end
        self._early = early
        self._incoming = Incoming(sock)
        self._queued: deque[Message] = deque()
        self._queued_bytes = 0
        self._held = False
        self._working = False
        self._outgoing = bytearray()
        self._asked = 0
        self._watching: int | None = None
        self._failed = False
        self._closed = False
        sock.setblocking(False)
        self._rewatch()
        context.add_poller(self)

    # --- what comes of a message

    def answer(self, message: Message, payload: bytes | memoryview = b"") -> None:
        """Reply to a command that wants one."""
        if not message.flags & NO_REPLY:
            self._put(
                HEADER.pack(message.id, message.command, HEADER.size + len(payload), TYPE_REPLY, 0) + payload
            )

    def refuse(self, message: Message, error: int) -> None:
        """Reply that a command cannot be done, and why (an errno)."""
        if not message.flags & NO_REPLY:
            self._put(HEADER.pack(message.id, message.command, HEADER.size, TYPE_REPLY | ERROR, error))

    def hold(self) -> None:
        """Take no message until `go_on`."""
        self._held = True
        self._rewatch()

    def go_on(self) -> None:
        """Take messages again."""
        self._held = False
        if not self._working:
            self._context.call_soon(self._resume)

    def _put(self, data: bytes) -> None:
        if self._closed or self._failed:
            return
        if not self._outgoing:
            try:
                sent = self._sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self._end(f"connection lost: {error.strerror or error}")
                return
            if sent == len(data):
                return
            data = data[sent:]
        self._outgoing += data
        self._rewatch()

    # --- the client's memory

    def ask(self, command: int, payload: bytes) -> bytes | None:
        """Send a command of ours and wait for its answer's payload; what comes in between waits for its turn.

        None where the client refuses, or the connection is lost: it ends then, but not before whoever asks has come to
        an end.
        """
        if self._closed or self._failed:
            return None
        self._asked = self._asked + 1 & 0xFFFF
        self._outgoing += HEADER.pack(self._asked, command, HEADER.size + len(payload), TYPE_COMMAND, 0)
        self._outgoing += payload
        try:
            reply = self._await_reply(command)
        except LeftError:
            self._fail(None)
            return None
        except ProtocolError as error:
            self._fail(f"connection ended: {error}")
            return None
        except OSError as error:
            self._fail(f"connection lost: {error.strerror or error}")
            return None
        if (self._queued or self._incoming.pending) and not self._working:
            self._context.call_soon(self._resume)
        return None if reply.flags & ERROR else reply.payload

    def _await_reply(self, command: int) -> Message:
        poll = select.poll()
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            self._send()
            while (message := self._incoming.receive()) is not None:
                if message.flags & TYPE_MASK == TYPE_REPLY:
                    close_all(message.fds)
                    if (message.id, message.command) != (self._asked, command):
                        raise ProtocolError(f"an answer to {command_name(message.command)} nobody waits for")
                    return message
                self._queue(self._answered_early(message))
            left = deadline - time.monotonic()
            if left <= 0:
                raise ProtocolError(f"{command_name(command)} is not answered within {ANSWER_SECONDS:g} s")
            poll.register(self._fd, select.POLLIN | (select.POLLOUT if self._outgoing else 0))
            poll.poll(left * 1000)

    def _answered_early(self, message: Message) -> Message:
        """Without an answer the client may not come to answering us: the command is done in its turn all the same."""
        payload = None if message.flags & NO_REPLY else self._early(message)
        if payload is None:
            return message
        size = HEADER.size + len(payload)
        self._outgoing += HEADER.pack(message.id, message.command, size, TYPE_REPLY, 0) + payload
        self._send()
        return message._replace(flags=message.flags | NO_REPLY)

    def _queue(self, message: Message) -> None:
        self._queued.append(message)
        self._queued_bytes += len(message.payload)
        fds = sum(len(each.fds) for each in self._queued) if message.fds else 0
        if len(self._queued) > MOST_QUEUED or self._queued_bytes > MOST_QUEUED_BYTES or fds > MOST_QUEUED_FDS:
            raise ProtocolError(f"{len(self._queued)} messages instead of an answer")

    def _fail(self, reason: str | None) -> None:
        """The connection is over for whoever uses it now; it ends when they have returned."""
        self._failed = True
        self._context.call_soon(partial(self._end, reason))

    # --- the end

    def close(self) -> None:
        """Give up the socket and what came in by it. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._context.remove_poller(self)
        if self._watching is not None:
            self._context.unwatch(self._fd)
        self._sock.close()
        self._incoming.close()
        for message in self._queued:
            close_all(message.fds)
        self._queued.clear()

    def _end(self, reason: str | None) -> None:
        if not self._closed:
            self.close()
            self._on_end(reason)

    def _guarded(self, step: Callable[[], object]) -> object:
        """Run a step that uses the socket; what goes wrong ends the connection."""
        try:
            return step()
        except LeftError:
            self._end(None)
        except ProtocolError as error:
            self._end(f"connection ended: {error}")
        except OSError as error:
            self._end(f"connection lost: {error.strerror or error}")
        return None

    # --- when there is something to do

    def _rewatch(self) -> None:
        """Wait for what the state asks for: room for an answer, a message, or while it is held the end only."""
        if self._closed:
            return
        if self._outgoing:
            wanted = select.EPOLLOUT
        else:
            wanted = _HANG_UP if self._held else select.EPOLLIN
        if wanted == self._watching:
            return
        if self._watching is not None:
            self._context.unwatch(self._fd)
        self._context.watch(self._fd, wanted, self._ready)
        self._watching = wanted

    def _ready(self, events: int) -> None:
        if self._held and events & (select.EPOLLHUP | select.EPOLLERR):
            # Nobody is left to be answered; what the answer waits for may never come.
            self._end(None)
            return
        self._resume()

    def _resume(self) -> None:
        if not self._working and not self._closed:
            self._guarded(self._work)
            self._rewatch()

    def _work(self) -> bool:
        """Send what is to be sent, and deal with the messages that are there; whether there was one."""
        if self._outgoing:
            self._send()
        self._working = True
        try:
            for count in range(MESSAGES_PER_TURN):
                if self._closed or self._failed or self._held or self._outgoing:
                    return count > 0
                message = self._next()
                if message is None:
                    return count > 0
                try:
                    self._on_message(message)
                finally:
                    if message.fds:
                        close_all(message.fds)
                if not message.flags & NO_REPLY and not self._queued and not self._incoming.pending:
                    # Who waited for the answer has nothing more for now; who did not may have.
                    return True
        finally:
            self._working = False
        if self._queued or self._incoming.pending:
            self._context.call_soon(self._resume)
        return True

    def _next(self) -> Message | None:
        if self._queued:
            message = self._queued.popleft()
            self._queued_bytes -= len(message.payload)
            return message
        received = self._incoming.receive()
        if received is not None and received.flags & TYPE_MASK == TYPE_REPLY:
            close_all(received.fds)
            raise ProtocolError(f"an answer to {command_name(received.command)} that nobody waits for")
        return received

    # --- busy polling

    def begin(self) -> None:
        """Nothing has to be said: who sends a message always wakes us."""

    def poll(self) -> bool:
        """Deal with messages that are there."""
        if self._working or self._held or self._outgoing:
            return False
        found = bool(self._guarded(self._work))
        if found:
            self._rewatch()
        return found

    def end(self) -> bool:
        """The descriptor is watched in any case."""
        return False

    # --- out

    def _send(self) -> None:
        try:
            while self._outgoing:
                sent = self._sock.send(self._outgoing)
                del self._outgoing[:sent]
        except BlockingIOError:
            return
