"""The qtest protocol, the server's side, without a socket: lines in, lines out (QEMU 7.2: docs/devel/qtest).

One request is one line of words, answered by one line that begins with `OK`, `FAIL` or `ERR`.  Changes of intercepted
interrupt lines (`IRQ raise N`, `IRQ lower N`) are told as they happen, those that an access causes before its answer.
Numbers are as C's strtoul takes them with base 0.  Where QEMU ends itself because of a malformed request, this answers
FAIL and goes on.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Sequence
from typing import Protocol

from devmodels.qtest.numbers import TOP, NumberError, number
from devmodels.qtest.space import MAX_LENGTH, RangeError, Space

MAX_PORT = 0xFFFF
MAX_LINE = 1 << 28
"""A longer line ends the conversation."""

Words = Sequence[bytes]


class ClientClock(Protocol):
    """The time of a machine whose client owns the clock."""

    def now_ns(self) -> int:
        """What it is."""
        ...

    def deadline(self) -> int | None:
        """When something is due next."""
        ...

    def step(self, duration: int, /) -> None:
        """Go on by `duration` ns, and do what becomes due."""
        ...


class Interrupts(Protocol):
    """The board's interrupt lines, as far as clients may listen to them."""

    def intercept(self, path: str, *, outputs: bool) -> str | None:
        """Tell of a device's lines from now on; returns why not."""
        ...

    def set(self, path: str, name: str, number: int, level: int) -> str | None:
        """Force the level of a device's input; returns why not."""
        ...


class Log(Protocol):
    """Who is told of a conversation."""

    def request(self, line: bytes, /) -> None:
        """A request is about to be done."""
        ...

    def sent(self, text: bytes, /) -> None:
        """Lines that go to the client, each with its end."""
        ...


class RequestError(Exception):
    """A request is malformed; the text is one line."""


class Qtest:
    """One conversation: `feed` takes what has come in, `out` is what is to be sent.

    `clock` is None where time goes on by itself; `clock_step` and `clock_set` are unknown then, as in QEMU.
    """

    def __init__(self, space: Space, interrupts: Interrupts, clock: ClientClock | None) -> None:
        self._space = space
        self._interrupts = interrupts
        self._clock = clock
        self._partial: list[bytes] = []
        self._partial_size = 0
        self.out = bytearray()
        self.log: Log | None = None
        self._commands = self._table()

    def _table(self) -> dict[bytes, tuple[int, Callable[[Words], bytes]]]:
        """The commands: of how many words at least, and what does them."""
        table: dict[bytes, tuple[int, Callable[[Words], bytes]]] = {
            b"read": (3, self._read),
            b"write": (4, self._write),
            b"b64read": (3, self._b64read),
            b"b64write": (4, self._b64write),
            b"memset": (4, self._memset),
            b"endianness": (1, lambda _: b"OK little\n"),
            b"irq_intercept_in": (2, self._intercept),
            b"irq_intercept_out": (2, self._intercept),
            b"set_irq_in": (5, self._set_irq_in),
        }
        for size, letter in ((1, b"b"), (2, b"w"), (4, b"l"), (8, b"q")):
            table[b"read" + letter] = (2, self._reader(size))
            table[b"write" + letter] = (3, self._writer(size))
            if size < 8:
                table[b"in" + letter] = (2, self._port_reader(size))
                table[b"out" + letter] = (3, self._port_writer(size))
        if self._clock is not None:
            table[b"clock_step"] = (1, self._clock_step)
            table[b"clock_set"] = (2, self._clock_set)
        return table

    def feed(self, data: bytes) -> bool:
        """Do every request that is whole; False where a line has no end."""
        *lines, rest = data.split(b"\n")
        if lines and self._partial:
            lines[0] = b"".join((*self._partial, lines[0]))
            self._partial.clear()
            self._partial_size = 0
        if rest:
            self._partial.append(rest)
            self._partial_size += len(rest)
        do = self.answer if self.log is None else self._logged
        for line in lines:
            answer = do(line)
            self.out += answer
        return self._partial_size <= MAX_LINE

    def _logged(self, line: bytes) -> bytes:
        log = self.log
        assert log is not None
        log.request(line)
        answer = self.answer(line)
        log.sent(answer)
        return answer

    def answer(self, line: bytes) -> bytes:
        """Do one request; its answer, while what it has caused goes to `out`.

        What a device raises is a defect of ours, and no answer.
        """
        words = line.split()
        least, command = self._commands.get(words[0], (0, None)) if words else (0, None)
        if command is None:
            shown = words[0].decode(errors="replace") if words else ""
            return f"FAIL Unknown command '{shown}'\n".encode()
        if len(words) < least:
            return b"FAIL Missing argument\n"
        try:
            return command(words)
        except (RequestError, NumberError, RangeError) as error:
            return f"FAIL {error}\n".encode()

    def tell(self, line: str) -> None:
        """Something has happened that a client listens to."""
        text = line.encode()
        if self.log is not None:
            self.log.sent(text)
        self.out += text

    # --- commands

    def _reader(self, size: int) -> Callable[[Words], bytes]:
        read = self._space.read
        return lambda words: b"OK 0x%016x\n" % read(number(words[1]), size)

    def _writer(self, size: int) -> Callable[[Words], bytes]:
        def write(words: Words) -> bytes:
            self._space.write(number(words[1]), size, number(words[2]))
            return b"OK\n"

        return write

    def _port_reader(self, size: int) -> Callable[[Words], bytes]:
        read = self._space.io_read
        return lambda words: b"OK 0x%04x\n" % read(_port(words[1]), size)

    def _port_writer(self, size: int) -> Callable[[Words], bytes]:
        def write(words: Words) -> bytes:
            self._space.io_write(_port(words[1]), size, number(words[2]) & (1 << 8 * size) - 1)
            return b"OK\n"

        return write

    def _read(self, words: Words) -> bytes:
        address, length = number(words[1]), number(words[2])
        if not length:
            raise RequestError("expected a length of 1 at least")
        return b"OK 0x%b\n" % self._space.load(address, length).hex().encode()

    def _write(self, words: Words) -> bytes:
        address, length, text = number(words[1]), number(words[2]), words[3]
        if len(text) < 3:
            return b"ERR invalid argument size\n"
        _check_length(length)
        digits = text[2 : 2 + 2 * length]
        try:
            data = bytes.fromhex(digits[: len(digits) & ~1].decode("ascii"))
        except ValueError:
            raise RequestError("expected data as 0x and hexadecimal digits") from None
        self._space.store(address, data.ljust(length, b"\0"))
        return b"OK\n"

    def _b64read(self, words: Words) -> bytes:
        return b"OK %b" % b2a_base64(self._space.load(number(words[1]), number(words[2])))

    def _b64write(self, words: Words) -> bytes:
        address, length, text = number(words[1]), number(words[2]), words[3]
        if len(text) < 3:
            return b"ERR invalid argument size\n"
        try:
            data = a2b_base64(text)
        except Base64Error:
            raise RequestError("expected data in base64") from None
        self._space.store(address, data[:length])
        return b"OK\n"

    def _memset(self, words: Words) -> bytes:
        address, length, value = number(words[1]), number(words[2]), number(words[3])
        _check_length(length)
        self._space.store(address, bytes([value & 0xFF]) * length)
        return b"OK\n"

    def _clock_step(self, words: Words) -> bytes:
        clock = self._clock
        assert clock is not None
        if len(words) > 1:
            duration = number(words[1])
        else:
            deadline = clock.deadline()
            duration = 0 if deadline is None else max(0, deadline - clock.now_ns())
        if duration >= TOP >> 1:
            raise RequestError("time goes forwards only")
        if clock.now_ns() + duration >= TOP >> 1:
            raise RequestError("time ends there")
        clock.step(duration)
        return b"OK %d\n" % clock.now_ns()

    def _clock_set(self, words: Words) -> bytes:
        clock = self._clock
        assert clock is not None
        wanted = number(words[1])
        if wanted < TOP >> 1:
            clock.step(max(0, wanted - clock.now_ns()))
        return b"%b %d\n" % (b"OK" if clock.now_ns() == wanted else b"FAIL", clock.now_ns())

    def _intercept(self, words: Words) -> bytes:
        path, outputs = words[1].decode(errors="replace"), words[0].endswith(b"out")
        problem = self._interrupts.intercept(path, outputs=outputs)
        return b"OK\n" if problem is None else f"FAIL {problem}\n".encode()

    def _set_irq_in(self, words: Words) -> bytes:
        path, name = (word.decode(errors="replace") for word in words[1:3])
        level = words[4]
        problem = self._interrupts.set(path, name, number(words[3]), number(level))
        return b"OK\n" if problem is None else f"FAIL {problem}\n".encode()


def _port(word: bytes) -> int:
    port = number(word)
    if port > MAX_PORT:
        raise RequestError(f"there is no port {port:#x}")
    return port


def _check_length(length: int) -> None:
    if length > MAX_LENGTH:
        raise RequestError(f"{length} bytes: expected at most {MAX_LENGTH}")
