"""What a client says: requests of the qtest protocol to places where something is, and lines that are none.

Bases of BARs are given to functions at the beginning, as firmware would, so that requests find registers.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable

from devmodels.qtest.board import Board
from fuzz.choices import Choices

MEMORY_BAR, MEMORY_ROOM = 0xE000_0000, 0x10_0000
PORT_BAR, PORT_ROOM = 0xC000, 0x100
BARS = range(0x10, 0x28, 4)
PORTS = (
    *(0xCF8, 0xCFC, 0xCFD, 0xCFE, 0x70, 0x71, 0x510, 0x511, 0xAE00, 0xAE04, 0xAE08, 0xAE0C, 0xAE10),
    *range(0x1F0, 0x1F8),
    *(0x3F6, 0x170, 0x171, 0x172, 0x173, 0x174, 0x175, 0x176, 0x177, 0x376, 0, 0xFFFF, 0x10000),
)
MEMORY = (
    0,
    1,
    0x1000,
    0x1FFF,
    0x2000,
    0xF_FFFF,
    0x10_0000,
    0xFEC0_0000,
    1 << 32,
    (1 << 64) - 4,
    (1 << 64) - 1,
)
LENGTHS = (0, 1, 2, 3, 4, 7, 8, 16, 64, 512, 4096, 1 << 20, 1 << 30, (1 << 30) + 1, (1 << 64) - 1)
VALUES = (0, 1, 2, 6, 7, 0x14, 0x20, 0x21, 0x25, 0x35, 0xA0, 0xA1, 0xC6, 0xEC, 0xEF, 0xFF, 0x8000_0001)
PATHS = (b"ioapic", b"/machine/unattached/ioapic", b"hd", b"", b"nobody", b"\xff", b"/machine/q35/ioapic")
NAMES = (b"unnamed-gpio-in", b"unnamed-gpio-out", b"x")
SPOILT = (
    b"",
    b"0x",
    b"-1",
    b"08",
    b"1_0",
    b"\0",
    b"\xff\xfe",
    b"0x1",
    b" ",
    b"\t",
    b"\r",
    b"9" * 5000,
    b"=",
    b"read",
)
LARGE = 1 << 12
"""More bytes than so many are asked for no more than once in a session."""


def place_bars(board: Board) -> list[tuple[bool, int]]:
    """Give each BAR a base and switch it on; the bases, and whether each is of ports."""
    placed: list[tuple[bool, int]] = []
    write, read = board.machine.io_write, board.machine.io_read
    for slot, number, _ in board.machine.bus.functions():
        at = 0x8000_0000 | slot << 11 | number << 8
        for bar in BARS:
            write(0xCF8, 4, at | bar)
            write(0xCFC, 4, 0xFFFF_FFFF)
            found = read(0xCFC, 4)
            if found and found != 0xFFFF_FFFF:
                ports = bool(found & 1)
                first, room = (PORT_BAR, PORT_ROOM) if ports else (MEMORY_BAR, MEMORY_ROOM)
                base = first + room * len(placed)
                write(0xCFC, 4, base)
                placed.append((ports, base))
        write(0xCF8, 4, at | 4)
        write(0xCFC, 4, 7)
    return placed


class Session:
    """Writes the lines of a session; `bars` are where registers are."""

    def __init__(self, choices: Choices, bars: list[tuple[bool, int]]) -> None:
        self._choices = choices
        self._memory = [base for ports, base in bars if not ports] or [0xE000_0000]
        self._ports = [base for ports, base in bars if ports] or [0xC000]
        self._room = LARGE
        self._forms: tuple[Callable[[], bytes], ...] = (
            self._port_in,
            self._port_out,
            self._port_out,
            self._configure,
            self._read,
            self._write,
            self._write,
            self._load,
            self._store,
            self._store64,
            self._memset,
            self._clock,
            self._clock,
            self._interrupt,
            self._small,
        )

    def line(self) -> bytes:
        """One or two requests, without the last end of line; one of eight is spoilt."""
        choices = self._choices
        spoilt = choices.randrange(8) == 7
        line = choices.choice(self._forms)()
        return self._spoil(line) if spoilt else line

    def _spoil(self, line: bytes) -> bytes:
        choices = self._choices
        words = line.split(b" ")
        at = choices.randrange(len(words))
        match choices.randrange(5):
            case 0:
                del words[at]
            case 1:
                words[at] = choices.choice(SPOILT)
            case 2:
                words.insert(at, choices.choice(SPOILT))
            case 3:
                words[at] += choices.take(1 + choices.randrange(3)).replace(b"\n", b"")
            case _:
                words[at] = words[at][: choices.randrange(len(words[at]) + 1)]
        return b" ".join(words)

    # --- words

    def _number(self, value: int) -> bytes:
        form = self._choices.randrange(8)
        if form == 6:
            return b"0%o" % value
        return b"%d" % value if form == 7 else b"0x%x" % value

    def _value(self) -> bytes:
        choices = self._choices
        if choices.randrange(2):
            return self._number(choices.choice(VALUES))
        return self._number(choices.getrandbits(8 * choices.choice((1, 2, 4, 8))))

    def _length(self) -> int:
        choices = self._choices
        length = choices.choice(LENGTHS) if choices.randrange(2) else choices.getrandbits(8)
        if LARGE < length <= 1 << 30:
            length, self._room = min(length, self._room), 0
        return length

    def _address(self) -> bytes:
        choices = self._choices
        match choices.randrange(4):
            case 0:
                return self._number(choices.choice(MEMORY))
            case 1:
                return self._number(choices.getrandbits(16))
            case _:
                return self._number(choices.choice(self._memory) + choices.getrandbits(12))

    def _port(self) -> bytes:
        choices = self._choices
        if choices.randrange(2):
            return self._number(choices.choice(PORTS))
        return self._number(choices.choice(self._ports) + choices.getrandbits(6))

    # --- requests

    def _port_in(self) -> bytes:
        return b"in%c %b" % (self._choices.choice(b"bwl"), self._port())

    def _port_out(self) -> bytes:
        return b"out%c %b %b" % (self._choices.choice(b"bwl"), self._port(), self._value())

    def _configure(self) -> bytes:
        choices = self._choices
        slot = choices.choice((0, 1, 2, 4, 31, 30, 3))
        at = 0x8000_0000 | slot << 11 | choices.randrange(4) << 8 | choices.getrandbits(8)
        return b"outl 0xcf8 0x%x\nout%c 0xcfc %b" % (at, choices.choice(b"lwb"), self._value())

    def _read(self) -> bytes:
        return b"read%c %b" % (self._choices.choice(b"bwlq"), self._address())

    def _write(self) -> bytes:
        return b"write%c %b %b" % (self._choices.choice(b"bwlq"), self._address(), self._value())

    def _load(self) -> bytes:
        return b"%b %b %b" % (
            self._choices.choice((b"read", b"b64read")),
            self._address(),
            self._number(self._length()),
        )

    def _data(self) -> tuple[bytes, bytes]:
        data = self._choices.take(self._choices.randrange(40))
        length = len(data) if self._choices.randrange(4) else self._length()
        return data, self._number(length)

    def _store(self) -> bytes:
        address = self._address()
        data, length = self._data()
        return b"write %b %b 0x%b" % (address, length, data.hex().encode())

    def _store64(self) -> bytes:
        address = self._address()
        data, length = self._data()
        return b"b64write %b %b %b" % (address, length, b64encode(data))

    def _memset(self) -> bytes:
        return b"memset %b %b %b" % (self._address(), self._number(self._length()), self._value())

    def _clock(self) -> bytes:
        choices = self._choices
        match choices.randrange(3):
            case 0:
                return b"clock_step"
            case 1:
                return b"clock_step " + self._number(
                    choices.choice((0, 1, 10**6, 10**9, 10**12, 1 << 62, 1 << 63))
                )
            case _:
                return b"clock_set " + self._number(
                    choices.choice((0, 10**9, 10**12, 1 << 62, (1 << 64) - 1))
                )

    def _interrupt(self) -> bytes:
        choices = self._choices
        if choices.randrange(2):
            name = b" " + choices.choice(NAMES) if choices.randrange(4) == 3 else b""
            return b"irq_intercept_%b %b%b" % (choices.choice((b"in", b"out")), choices.choice(PATHS), name)
        number = self._number(choices.choice((0, 14, 15, 16, 23, 24, (1 << 64) - 1)))
        words = choices.choice(PATHS), choices.choice(NAMES), number, self._value()
        return b"set_irq_in %b %b %b %b" % words

    def _small(self) -> bytes:
        return self._choices.choice((b"endianness", b"", b" ", b"readb", b"no_such_request", b"\xff"))
