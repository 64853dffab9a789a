"""The client side of qtest, the line protocol by which a test drives a QEMU machine in place of its CPU.

One request is one line, answered by one line that begins with `OK` or `FAIL`; lines `IRQ raise N` and
`IRQ lower N` about intercepted interrupt inputs may come at any moment, always before the answer to the access
that caused them.  Follows QEMU 7.2, docs/devel/qtest and the protocol's description in softmmu/qtest.c.
"""

from __future__ import annotations

import math
import select
import socket
import struct
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, NoReturn

from guestsim.targets import TargetError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import BinaryIO

_READ = {1: b"readb", 2: b"readw", 4: b"readl", 8: b"readq"}
_WRITE = {1: b"writeb", 2: b"writew", 4: b"writel", 8: b"writeq"}
_IN = {1: b"inb", 2: b"inw", 4: b"inl"}
_OUT = {1: b"outb", 2: b"outw", 4: b"outl"}

_PORT_END = 1 << 16
_ADDRESS_END = 1 << 64

# QEMU takes requests in pieces of 4 KiB and searches all it has for the end of the line after each, so the
# cost of a line grows with the square of its length: bulk data goes in lines of moderate length.
_WRITE_CHUNK = 96 * 1024
_READ_CHUNK = 128 * 1024
_RECEIVE = 256 * 1024

_SELECT_LIMIT = 1024
"""select() takes descriptors below this only (FD_SETSIZE)."""


class QtestClient:
    """One conversation with a qtest server over a connected stream socket, which it owns.

    `why_lost` is asked, once, for one line on what became of the server when the socket fails.  `timeout` in seconds
    is how long one answer may take.  Every method raises `TargetError` when the server is gone, takes too long or
    refuses the request, and `ValueError` for what the protocol can't carry: QEMU aborts on such requests.
    """

    __slots__ = ("_lost", "_partial", "_poll", "_socket", "_timeout", "_why_lost", "irq_high", "log")

    def __init__(
        self, connection: socket.socket, why_lost: Callable[[], str], *, timeout: float = 60.0
    ) -> None:
        self._socket = connection
        self._why_lost = why_lost
        self._timeout = timeout
        self._lost: str | None = None
        self._partial = b""
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        self.irq_high: set[int] = set()
        """The intercepted interrupt inputs that are high, as far as the server's lines have been read."""
        self.log: BinaryIO | None = None
        """What is sent goes here, too."""
        # The kernel's own time limits cost nothing per call; Python's settimeout() would poll before each.
        limit = struct.pack("@ll", int(timeout), int(timeout % 1 * 1_000_000))
        connection.setblocking(True)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    def read(self, address: int, size: int) -> int:
        """Read 1, 2, 4 or 8 bytes of memory space as a little-endian integer."""
        _check(address, size, _READ, _ADDRESS_END)
        return self._number(b"%b 0x%x\n" % (_READ[size], address))

    def write(self, address: int, size: int, value: int) -> None:
        """Write 1, 2, 4 or 8 bytes of memory space as a little-endian integer."""
        _check(address, size, _WRITE, _ADDRESS_END, value)
        self._request(b"%b 0x%x 0x%x\n" % (_WRITE[size], address, value))

    def io_read(self, port: int, size: int) -> int:
        """Read an I/O port of 1, 2 or 4 bytes."""
        _check(port, size, _IN, _PORT_END)
        return self._number(b"%b 0x%x\n" % (_IN[size], port))

    def io_write(self, port: int, size: int, value: int) -> None:
        """Write an I/O port of 1, 2 or 4 bytes."""
        _check(port, size, _OUT, _PORT_END, value)
        self._request(b"%b 0x%x 0x%x\n" % (_OUT[size], port, value))

    def memory_read(self, address: int, length: int) -> bytes:
        """Read `length` bytes of guest memory."""
        _check_range(address, length)
        pieces = []
        for start in range(address, address + length, _READ_CHUNK):
            size = min(_READ_CHUNK, address + length - start)
            line = b"b64read 0x%x 0x%x\n" % (start, size)
            try:
                piece = b64decode(self._request(line), validate=True)
            except ValueError:
                piece = b""
            if len(piece) != size:
                raise TargetError(f"qtest didn't answer {_shown(line)} with {size} bytes in base64")
            pieces.append(piece)
        return b"".join(pieces)

    def memory_write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Write guest memory."""
        _check_range(address, memoryview(data).nbytes)
        view = memoryview(data).cast("B")
        for start in range(0, len(view), _WRITE_CHUNK):
            piece = view[start : start + _WRITE_CHUNK]
            self._request(b"b64write 0x%x 0x%x %b\n" % (address + start, len(piece), b64encode(piece)))

    def requests(self, lines: Sequence[bytes]) -> list[int]:
        """Send requests together, then take all their answers; the numbers among these."""
        if self._lost is not None:
            raise TargetError(self._lost)
        try:
            self._socket.sendall(b"".join(lines))
        except OSError as error:
            self._give_up(error)
        answers: list[bytes] = []
        while len(answers) < len(lines):
            answers += self._receive_all()
        for line, answer in zip(lines, answers, strict=True):
            if not answer.startswith(b"OK"):
                raise TargetError(f"qtest answered {_shown(answer)} to {_shown(line)}")
        return [int(answer[3:], 16) for answer in answers if len(answer) > 2]

    def intercept_irq_in(self, device: str) -> None:
        """Have changes of the interrupt inputs of `device` (a QOM path: `ioapic`) reported into `irq_high`.

        A server intercepts one device in its life; levels from before count as low.
        """
        self._request(b"irq_intercept_in %b\n" % device.encode())

    def clock_step(self, duration_ns: int) -> int:
        """Let time go on, and do what becomes due; what it is now.  Refused where it goes on by itself."""
        return int(self._request(b"clock_step %d\n" % duration_ns))

    def wait(self, seconds: float) -> None:
        """Wait until the server reports an interrupt, or for `seconds` (0: only take what is there)."""
        if self._lost is not None:
            raise TargetError(self._lost)
        while self._readable(seconds):
            if (answer := self._receive()) is not None:
                raise TargetError(f"qtest said {_shown(answer)} although nothing was asked")
            seconds = 0

    def close(self) -> None:
        """Close the socket; every later call raises `TargetError`. Idempotent."""
        if self._lost is None:
            self._lost = "the machine has been closed"
        self._socket.close()

    def _readable(self, seconds: float) -> bool:
        """Whether the socket can be read within `seconds`."""
        if seconds > 0 and self._socket.fileno() < _SELECT_LIMIT:
            return bool(select.select([self._socket], [], [], seconds)[0])
        # poll() knows whole milliseconds only.
        return bool(self._poll.poll(math.ceil(seconds * 1000)))

    def _request(self, line: bytes) -> bytes:
        """Send one request and return what its answer says after `OK`."""
        if self._lost is not None:
            raise TargetError(self._lost)
        if self.log is not None:
            self.log.write(line)
        try:
            try:
                self._socket.sendall(line)
            except OSError as error:
                self._give_up(error)
            while (answer := self._receive()) is None:
                pass
        except KeyboardInterrupt:
            self._lost = (
                "an exchange with qtest was interrupted"  # its answer would be taken for the next one's
            )
            raise
        if not answer.startswith(b"OK"):
            raise TargetError(f"qtest answered {_shown(answer)} to {_shown(line)}")
        return answer[3:]

    def _number(self, line: bytes) -> int:
        """Send one request and return the number it is answered with."""
        answer = self._request(line)
        try:
            return int(answer, 16)
        except ValueError:
            raise TargetError(f"qtest answered {_shown(answer)} to {_shown(line)}, not a number") from None

    def _receive(self) -> bytes | None:
        """Wait for bytes, take note of the interrupts among them and return the answer, if it has come."""
        answers = self._receive_all()
        return answers[-1] if answers else None

    def _receive_all(self) -> list[bytes]:
        """Wait for bytes, take note of the interrupts among them and return the answers."""
        try:
            data = self._socket.recv(_RECEIVE)
        except OSError as error:
            self._give_up(error)
        if not data:
            self._give_up(None)
        *lines, self._partial = (self._partial + data).split(b"\n")
        answers = []
        for line in lines:
            match line.split():
                case [b"IRQ", b"raise", number]:
                    self.irq_high.add(int(number))
                case [b"IRQ", b"lower", number]:
                    self.irq_high.discard(int(number))
                case _:
                    answers.append(line)
        return answers

    def _give_up(self, error: OSError | None) -> NoReturn:
        """End the conversation: there is no telling which answer would come next."""
        if isinstance(error, BlockingIOError):
            self._lost = f"qtest gave no answer within {self._timeout:g} s"
        else:
            self._lost = self._why_lost()
        self._socket.close()
        raise TargetError(self._lost) from error


def _check(address: int, size: int, sizes: Mapping[int, bytes], end: int, value: int = 0) -> None:
    if size not in sizes:
        raise ValueError(f"size {size}: expected one of {', '.join(map(str, sizes))} bytes")
    if not 0 <= address < end:
        raise ValueError(f"address {address:#x}: expected 0 to {end - 1:#x}")
    if not 0 <= value < 1 << 8 * size:
        raise ValueError(f"value {value:#x}: expected 0 to {(1 << 8 * size) - 1:#x} for {size} bytes")


def _check_range(address: int, length: int) -> None:
    if length < 0 or not 0 <= address <= _ADDRESS_END - length:
        raise ValueError(f"{length} bytes at {address:#x}: expected a range of the 64-bit address space")


def _shown(line: bytes) -> str:
    text = line.decode("ascii", "replace").strip()
    return repr(text if len(text) <= 80 else text[:77] + "…")
