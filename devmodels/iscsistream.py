"""The socket of an iSCSI connection: PDUs in, PDUs out.

Follows RFC 7143 §11.2 for the parts of a PDU and §13.1 for digests.  What comes is read into one buffer, as much as
is there; data that is not there yet is read straight to where it is wanted.  What goes out is gathered and sent
together.  Who does not read is not read from.  Both ends use it: the export and the block driver `iscsi`.
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from struct import Struct
from typing import NamedTuple, Protocol

from devmodels.iocontext import IoContext
from devmodels.protocols.iscsi.digest import ZEROES, digest, digest_of
from devmodels.protocols.iscsi.pdu import (
    BHS_SIZE,
    DIGEST_SIZE,
    LENGTH_MASK,
    LENGTHS_OFFSET,
    MAX_AHS,
    OPCODE_MASK,
)

BUFFER_SIZE = 1 << 17
"""Bytes that are read at once where nobody waits for data: many small PDUs, or the beginning of a large one."""

AHEAD = 1 << 12
"""As many bytes behind long data that goes elsewhere are read along with it: the PDUs that follow."""

READS_PER_TURN = 16
"""After so many reads others have their turn."""

SOON = 64
"""When so many pieces wait to be sent, they are sent while further PDUs are dealt with: both ends work then."""

MAX_UNSENT = 1 << 24
"""While more bytes than this wait to be sent, nothing is read."""

IOV_MAX = 1024

NOTHING = memoryview(b"")

_lengths = Struct(">I").unpack_from


class BrokenConnectionError(Exception):
    """The other end broke the protocol in a way that ends the connection."""


class Held(Protocol):
    """What has lent its memory to a PDU."""

    def release(self) -> None:
        """The PDU is out, or never will be."""
        ...


class Receiver(Protocol):
    """Who takes the PDUs of a stream."""

    def place(self, opcode: int, header: bytes, length: int) -> memoryview | None:
        """Where the `length` bytes of data of the PDU that is coming go; None: nowhere.

        BrokenConnectionError where that is more than may come.
        """
        ...

    def received(self, opcode: int, header: bytes, ahs: bytes, data: memoryview, intact: bool) -> None:
        """A PDU is there, its data where `place` said, or in the stream's own buffer for as long as this call lasts,
        where nobody was asked; not `intact` where the data's digest is wrong.

        May raise BrokenConnectionError.
        """
        ...

    def paused(self) -> None:
        """What was there has been handed over; more may come, or not."""
        ...

    def ended(self, reason: str | None) -> None:
        """The connection has ended by itself: in peace where `reason` is None.  Not called after `close`."""
        ...


class Stream:
    """One connection's socket, which it owns.

    `header_digest` and `data_digest` say whether PDUs have them, both ways.  `receiver` is who takes what comes.
    """

    __slots__ = (
        "_buffer",
        "_closed",
        "_flushing",
        "_full",
        "_head",
        "_held",
        "_out",
        "_pdu",
        "_queued",
        "_rest",
        "_sock",
        "_tail",
        "_then",
        "_turn",
        "_view",
        "_watching",
        "context",
        "data_digest",
        "header_digest",
        "reading",
        "received_bytes",
        "receiver",
        "sent_bytes",
    )

    def __init__(self, sock: socket.socket, context: IoContext, receiver: Receiver) -> None:
        self._sock = sock
        self.context = context
        self.receiver = receiver
        self.header_digest = False
        self.data_digest = False
        self.reading = False
        """Whether PDUs are being handed over: what is answered goes out together, at the end."""
        self._buffer = bytearray(BUFFER_SIZE)
        self._view = memoryview(self._buffer)
        self._head = self._tail = 0
        self._pdu: _Incoming | None = None
        self._rest = NOTHING
        self._out: list[bytes | memoryview] = []
        self._queued = self.sent_bytes = self.received_bytes = 0
        self._held: deque[tuple[int, Held]] = deque()
        self._flushing = False
        self._full = False
        self._closed = False
        self._then: Callable[[], None] | None = None
        self._turn = partial(self._flush_on, context)
        self._watching: int | None = None
        sock.setblocking(False)
        self._rewatch()

    @property
    def unsent(self) -> int:
        """How many bytes wait for the other end to read."""
        return self._queued - self.sent_bytes

    def move(self, context: IoContext) -> None:
        """Everything happens on `context` from now on."""
        if self._watching is not None:
            self.context.unwatch(self._sock.fileno())
            self._watching = None
        self.context = context
        self._turn = partial(self._flush_on, context)
        self._flushing = False
        self._schedule()

    def close(self) -> None:
        """Give up the socket, and what it does not take at once.  Idempotent."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(OSError):
            self._put()  # What says why it ends, perhaps.
        if self._watching is not None:
            self.context.unwatch(self._sock.fileno())
        self._sock.close()
        self._out.clear()
        self._let_go(self._queued)
        self._rest = NOTHING

    def hush(self) -> None:
        """Hand nothing over until `go_on`."""
        self._then = _nothing

    def go_on(self) -> None:
        """Hand over what has come meanwhile, and what comes."""
        self._then = None
        self.context.call_soon(partial(self._attend, self._parse))

    def finish(self) -> None:
        """Send what is to be sent, then end in peace; nothing more is read."""
        self._then = self._finished
        self._pdu = None
        self._schedule()

    def _finished(self) -> None:
        self._end(None)

    def _end(self, reason: str | None) -> None:
        if not self._closed:
            self.close()
            self.receiver.ended(reason)

    # --- out

    def send(
        self,
        header: bytes,
        parts: Sequence[bytes | memoryview] = (),
        length: int = 0,
        holding: Held | None = None,
    ) -> None:
        """Queue a PDU with data of `length` bytes in `parts`; what it is `holding` is let go when it has been sent."""
        if self._closed:
            if holding is not None:
                holding.release()
            return
        out = self._out
        if self.header_digest:
            header += digest(header)
        out.append(header)
        count = len(header)
        if length:
            out.extend(parts)
            padding = ZEROES[length & 3]
            count += length + len(padding)
            if padding:
                out.append(padding)
            if self.data_digest:
                out.append(digest_of((*parts, padding)))
                count += DIGEST_SIZE
        self._queued += count
        if holding is not None:
            self._held.append((self._queued, holding))
        if not self.reading and not self._flushing:
            self._flushing = True
            self.context.call_soon(self._turn)

    def _schedule(self) -> None:
        """Send at the context's next turn, together with what else is queued by then."""
        if not self._flushing:
            self._flushing = True
            self.context.call_soon(self._turn)

    def _flush_on(self, context: IoContext) -> None:
        """The turn of a context that the stream has not left meanwhile."""
        if context is self.context:
            self._flush()

    def _flush(self) -> None:
        self._flushing = False
        if self._closed:
            return
        try:
            self._put()
        except OSError as error:
            self._end(f"connection lost: {error.strerror or error}")
            return
        if not self._out and self._then is not None:
            self._then()
        if self._out or self._then is not None or self._watching != select.EPOLLIN:
            self._rewatch()

    def _put(self) -> None:
        """Send what the socket takes."""
        out = self._out
        self._full = False
        while out:
            many = len(out) > IOV_MAX
            try:
                count = self._sock.sendmsg(out[:IOV_MAX] if many else out, (), socket.MSG_NOSIGNAL)
            except BlockingIOError:
                self._full = True
                return
            self.sent_bytes += count
            if self.sent_bytes == self._queued:
                out.clear()
            else:
                _drop(out, count)
            if self._held:
                self._let_go(self.sent_bytes)

    def _let_go(self, sent: int) -> None:
        held = self._held
        while held and held[0][0] <= sent:
            held.popleft()[1].release()

    # --- in

    def _rewatch(self) -> None:
        if self._closed:
            return
        wanted = select.EPOLLOUT if self._out else 0
        if self._then is None and self.unsent <= MAX_UNSENT:
            wanted |= select.EPOLLIN
        if wanted == self._watching:
            return
        fd = self._sock.fileno()
        if self._watching is not None:
            self.context.unwatch(fd)
        self.context.watch(fd, wanted, self._ready)
        self._watching = wanted

    def _ready(self, events: int) -> None:
        if not self._watching and events & (select.EPOLLHUP | select.EPOLLERR):
            self._end(None)
            return
        self._attend(self._receive)

    def _attend(self, take: Callable[[], None]) -> None:
        """`take` what has come, and send what is said to that."""
        self.reading = True
        try:
            if not self._closed and self._then is None:
                take()
        except BrokenConnectionError as error:
            self._end(f"connection ended: {error}")
        except OSError as error:
            self._end(f"connection lost: {error.strerror or error}")
        self.reading = False
        if self._out or self._then is not None or self._watching != select.EPOLLIN:
            self._flush()

    def _receive(self) -> None:
        for _ in range(READS_PER_TURN):
            wanted = len(self._rest) or BUFFER_SIZE - self._tail
            count = self._read()
            if not count:
                return
            self.received_bytes += count
            self._parse()
            if self._closed or self._then is not None or count < wanted or self.unsent > MAX_UNSENT:
                return

    def _read(self) -> int:
        """Read once, data first; how many bytes there were."""
        rest = self._rest
        try:
            if rest:
                ahead = AHEAD if len(rest) > BUFFER_SIZE else BUFFER_SIZE
                count = self._sock.recvmsg_into([rest, self._view[:ahead]])[0]
            else:
                count = self._sock.recv_into(self._view[self._tail :])
        except BlockingIOError:
            return 0
        if not count:
            self._end(
                None if self._pdu is None and self._head == self._tail else "left in the middle of a PDU"
            )
            return 0
        if not rest:
            self._tail += count
        elif count < len(rest):
            self._rest = rest[count:]
        else:
            self._rest = NOTHING
            self._tail = count - len(rest)
        return count

    def _parse(self) -> None:
        """Hand over every PDU that is whole, and begin the one that is not."""
        buffer, view, receiver = self._buffer, self._view, self.receiver
        while not self._closed and self._then is None:
            pdu = self._pdu
            head = self._head
            have = self._tail - head
            if pdu is not None:
                if self._rest or have < pdu.trailer:
                    break
                self._complete(pdu)
                receiver = self.receiver
                continue
            if have < BHS_SIZE:
                break
            (length,) = _lengths(buffer, head + LENGTHS_OFFSET)
            end = BHS_SIZE + length + (-length & 3)
            if end > have or self.header_digest or (length and self.data_digest):
                # Not all there, an additional header segment, or a digest.
                if not self._begin(have):
                    break
                continue
            header = view[head : head + BHS_SIZE].tobytes()
            opcode = header[0] & OPCODE_MASK
            data = view[head + BHS_SIZE : head + BHS_SIZE + length] if length else NOTHING
            self._head = head + end
            receiver.received(opcode, header, b"", data, True)
            receiver = self.receiver
            if len(self._out) >= SOON and not self._full:
                self._put()
        receiver.paused()
        self._make_room()

    def _make_room(self) -> None:
        """Put what is left of a header at the buffer's beginning, so that the rest has room behind it."""
        head, tail = self._head, self._tail
        if head == tail:
            self._head = self._tail = 0
        elif head and BUFFER_SIZE - head < BHS_SIZE + MAX_AHS + 2 * DIGEST_SIZE:
            self._buffer[: tail - head] = self._buffer[head:tail]
            self._head, self._tail = 0, tail - head

    def _begin(self, have: int) -> bool:
        """Take a header with all that belongs to it; False where not all of that is there."""
        head = self._head
        (lengths,) = _lengths(self._buffer, head + LENGTHS_OFFSET)
        length = lengths & LENGTH_MASK
        size = BHS_SIZE + (lengths >> 24) * 4
        whole = size + DIGEST_SIZE if self.header_digest else size
        if have < whole:
            return False
        data = bytes(self._buffer[head : head + whole])
        if self.header_digest and digest(data[:size]) != data[size:]:
            raise BrokenConnectionError("the digest of a header is wrong (RFC 7143 §7.8)")
        header, ahs = data[:BHS_SIZE], data[BHS_SIZE:size]
        self._head = head + whole
        opcode = header[0] & OPCODE_MASK
        if not length:
            self.receiver.received(opcode, header, ahs, NOTHING, True)
            return True
        place = self.receiver.place(opcode, header, length)
        if place is None:
            place = memoryview(bytearray(length))
        trailer = -length % 4 + (DIGEST_SIZE if self.data_digest else 0)
        there = min(self._tail - self._head, length)
        place[:there] = self._view[self._head : self._head + there]
        self._head += there
        self._rest = place[there:]
        self._pdu = _Incoming(opcode, header, ahs, place, trailer)
        if self._rest:
            self._head = self._tail = 0
        return True

    def _complete(self, pdu: _Incoming) -> None:
        """All of a PDU with data is there."""
        self._pdu = None
        trailer = self._view[self._head : self._head + pdu.trailer]
        self._head += pdu.trailer
        intact = True
        if self.data_digest:
            at = pdu.trailer - DIGEST_SIZE
            intact = digest_of((pdu.data, trailer[:at])) == trailer[at:]
        self.receiver.received(pdu.opcode, pdu.header, pdu.ahs, pdu.data, intact)


class _Incoming(NamedTuple):
    """A PDU whose data is on its way; `trailer` bytes of padding and digest follow it."""

    opcode: int
    header: bytes
    ahs: bytes
    data: memoryview
    trailer: int


def _nothing() -> None:
    pass


def _drop(out: list[bytes | memoryview], count: int) -> None:
    """Take the first `count` bytes off `out`."""
    done = 0
    for part in out:
        if count < len(part):
            break
        count -= len(part)
        done += 1
    del out[:done]
    if count:
        out[0] = memoryview(out[0])[count:]
