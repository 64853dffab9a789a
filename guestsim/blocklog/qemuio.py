"""qemu-io's commands, one a line (`qemu-io -c help`; QEMU's qemu-io-cmds.c).

    write -P 0x11 0 64k
    aio_write -z -u 1M 64k
    aio_read 64k 4k
    aio_flush
    sleep 20

Words lie between spaces, without quotes.  A command has ended before the next one begins, but for `aio_…`: those have
when `aio_flush` has.  Lines that begin with # are passed over here (qemu-io says that it knows no such command).
Numbers have the suffixes of powers of 1024; `sleep` is in milliseconds.
"""

from __future__ import annotations

import getopt
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from devmodels.blockbackend.request import Flags, Op
from guestsim.blocklog.events import Begin, Data, End, Event, Lines, Losses, payload, split, uniform

FILLED = 0xCD
"""What is written where no pattern is given."""
_MOST = (1 << 31) - 512
"""The longest request with a buffer."""
_MS = 1_000_000

_NUMBER = re.compile(r"(0x[0-9a-fA-F]+|[0-9]+)|([0-9]+)(\.[0-9]+)?([bBkKmMgGtTpPeE])")
_UNITS = "bkmgtpe"


@dataclass(frozen=True, slots=True)
class _Command:
    op: Op
    options: str
    later: bool = False
    many: bool = False
    """Whether several lengths may be given."""


_COMMANDS = {
    "read": _Command(Op.READ, "bCl:pP:qs:v"),
    "readv": _Command(Op.READ, "CP:qv", many=True),
    "write": _Command(Op.WRITE, "bcCfnpP:qs:uz"),
    "writev": _Command(Op.WRITE, "CfqP:", many=True),
    "aio_read": _Command(Op.READ, "CP:iqv", later=True, many=True),
    "aio_write": _Command(Op.WRITE, "CfiP:quz", later=True, many=True),
    "discard": _Command(Op.DISCARD, "Cq"),
    "flush": _Command(Op.FLUSH, ""),
}
_SHORT = {"r": "read", "w": "write", "d": "discard", "f": "flush", "l": "length", "i": "info", "q": "quit"}
_LOOKING = frozenset({"length", "info", "map", "alloc", "help"})
_EXPECTED = f"one of {', '.join((*_COMMANDS, 'aio_flush', 'sleep', 'quit'))}"


class _Reader:
    def __init__(self, lines: Lines, losses: Losses) -> None:
        self._lines = lines
        self._losses = losses
        self._clock = 0
        self._number = 0
        self._later: list[int] = []

    def events(self) -> Iterator[Event]:
        for line in self._lines:
            words = [word for word in line.split(" ") if word]
            if not words or words[0].startswith("#"):
                continue
            name, *given = words
            name = _SHORT.get(name, name)
            if name == "quit":
                break
            if name == "aio_flush":
                yield from self._flushed()
            elif name == "sleep":
                self._clock += self._integer(self._only(given), "milliseconds") * _MS
            elif name in _LOOKING:
                self._losses[f"{name}: makes no request"] += 1
            elif name in _COMMANDS:
                yield from self._command(name, given)
            else:
                raise self._lines.error(f"{_EXPECTED}, {name} is given")
        yield from self._flushed()

    def _flushed(self) -> Iterator[Event]:
        for number in self._later:
            yield End(number, self._clock)
        self._later.clear()

    def _command(self, name: str, given: list[str]) -> Iterator[Event]:
        command = _COMMANDS[name]
        flags, arguments = self._parsed(name, command, given)
        if command.op is Op.FLUSH:
            begin = Begin(self._number, self._clock, Op.FLUSH, 0, 0)
        else:
            offset, *lengths = (self.number(word) for word in arguments)
            begin = self._request(command, flags, offset, sum(lengths))
        if "-i" in flags:
            self._losses["-i: accounted for as invalid, without a request"] += 1
            return
        yield begin
        self._number += 1
        if command.later:
            self._later.append(begin.number)
        else:
            yield End(begin.number, self._clock)

    def _parsed(self, name: str, command: _Command, given: list[str]) -> tuple[dict[str, str], list[str]]:
        try:
            found, arguments = getopt.gnu_getopt(given, command.options)
        except getopt.GetoptError as error:
            raise self._lines.error(f"options of {name}: {error}") from None
        if command.op is Op.FLUSH:
            fewest = most = 0
        else:
            fewest, most = 2, 1 << 20 if command.many else 2
        if not fewest <= len(arguments) <= most:
            what = "an offset and a length" if fewest else "nothing"
            raise self._lines.error(
                f"{what}{' or more' if command.many else ''} after {name} and its options"
            )
        return dict(found), arguments

    def _request(self, command: _Command, given: dict[str, str], offset: int, length: int) -> Begin:
        if "-b" in given:
            raise self._lines.error("no -b: the VM state is not on the disk")
        op = command.op
        flags = Flags.NONE
        data: Data = None
        if "-P" in given:
            data = self._integer(given["-P"], "a byte as pattern")
            if data > 0xFF:
                raise self._lines.error(f"a byte as pattern, {given['-P']} is given")
        if op is Op.WRITE:
            flags |= Flags.FUA if "-f" in given else Flags.NONE
            if "-z" in given:
                op = Op.WRITE_ZEROES
                flags |= Flags.MAY_UNMAP if "-u" in given else Flags.NONE
                flags |= Flags.NO_FALLBACK if "-n" in given else Flags.NONE
            elif "-u" in given or "-n" in given:
                raise self._lines.error("-z with -u or -n")
            if ("-P" in given) + ("-z" in given) + ("-s" in given) > 1:
                raise self._lines.error("only one of -z, -P and -s")
            if "-c" in given:
                self._losses["-c: written without compression"] += 1
            data = self._data(given, data) if op is Op.WRITE else None
        elif "-s" in given or "-l" in given:
            self._losses["-s, -l: what a read finds is not checked in parts"] += 1
            data = None
        if length > _MOST and op in (Op.READ, Op.WRITE):
            raise self._lines.error(f"a length of at most {_MOST}, {length} is given")
        return Begin(self._number, self._clock, op, offset, length, "", flags, data)

    def _data(self, given: dict[str, str], pattern: Data) -> Data:
        """What is written: a pattern, or a file's content again and again."""
        if "-s" not in given:
            return FILLED if pattern is None else pattern
        try:
            with Path(given["-s"]).open("rb") as file:
                content = file.read(_MOST)
        except OSError as error:
            raise self._lines.error(f"a file after -s, {given['-s']}: {error.strerror}") from None
        if not content:
            raise self._lines.error(f"a file with something in it after -s, {given['-s']} is empty")
        return content

    def number(self, word: str) -> int:
        """An offset or a length: `512`, `0x200`, `1.5k`."""
        found = _NUMBER.fullmatch(word)
        if found is None:
            raise self._lines.error(f"a number such as 512, 0x200 or 64k, {word} is given")
        if found[1]:
            value = int(found[1], 0) if found[1].startswith("0x") else int(found[1])
        else:
            shift = 10 * _UNITS.index(found[4].lower())
            whole, part = int(found[2]), found[3] or ".0"
            value = (whole << shift) + int(float(part) * (1 << shift))
        if value >= 1 << 63:
            raise self._lines.error(f"a number below 8 EiB, {word} is given")
        return value

    def _integer(self, word: str, what: str) -> int:
        """A number as strtol takes it: decimal, 0x…, or octal with a leading 0."""
        if not re.fullmatch(r"0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*", word):
            raise self._lines.error(f"{what}, {word} is given")
        return int(word, 8 if word.startswith("0") and not word.lower().startswith("0x") else 0)

    def _only(self, given: list[str]) -> str:
        if len(given) != 1:
            raise self._lines.error("milliseconds after sleep")
        return given[0]


def read_qemu_io(lines: Lines, losses: Losses) -> Iterator[Event]:
    """The requests of a file of commands; LogError where a line is wrong."""
    return _Reader(lines, losses).events()


# --- writing

_ALONE = frozenset({"-s", "-n"})
"""Options that `aio_write` has not."""

KeepData = Callable[[bytes], str]
"""Keeps bytes in a file and says its name."""


class _Writer:
    """Puts requests into commands: as `aio_…` where something else began before they had ended."""

    def __init__(self, losses: Losses, keep: KeepData | None) -> None:
        self._losses = losses
        self._keep = keep
        self._running: set[int] = set()
        self._must_wait = False
        self._clock: int | None = None
        self._idle_ns = 0
        """Time in which the log did nothing, and no `sleep` has been written for."""

    def lines(self, events: Iterable[Event], *, ends: bool) -> Iterator[str]:
        stream = iter(events)
        event = next(stream, None)
        while event is not None:
            following = next(stream, None)
            now = event.time_ns
            if isinstance(event, End):
                self._ended(event)
            else:
                self._idle_ns += max(0, now - self._clock) if self._clock is not None else 0
                alone = not ends or (isinstance(following, End) and following.number == event.number)
                yield from self._begin(event, alone)
            self._clock = now if self._clock is None else max(self._clock, now)
            event = following
        if self._running:
            yield "aio_flush"

    def _ended(self, end: End) -> None:
        if end.error:
            self._losses["error of a request"] += 1
        if end.data is not None:
            self._losses["read whose data is not kept"] += 1
        if end.number in self._running:
            self._running.discard(end.number)
            self._must_wait = True

    def _begin(self, begin: Begin, alone: bool) -> Iterator[str]:
        if self._must_wait:
            if self._running:
                kind = "request that went on while others came: aio_flush waits for all"
                self._losses[kind] += len(self._running)
                self._running.clear()
            self._must_wait = False
            yield "aio_flush"
        wait, self._idle_ns = divmod(self._idle_ns, _MS)
        if wait:
            yield f"sleep {wait}"
        for piece in split(begin, _MOST, self._losses):
            yield self._command(piece, alone)

    def _command(self, begin: Begin, alone: bool) -> str:
        op = begin.op
        if op is Op.FLUSH:
            words = ["flush"]
        elif op in (Op.DISCARD, Op.SECURE_ERASE):
            if op is Op.SECURE_ERASE:
                self._losses["secure erase: a discard"] += 1
            words = ["discard"]
        elif op is Op.READ:
            words = ["read", *self._expected(begin.data)]
        else:
            words = ["write", *self._options(begin)]
        if not alone:
            if op in (Op.READ, Op.WRITE, Op.WRITE_ZEROES) and not _ALONE.intersection(words):
                words[0] = f"aio_{words[0]}"
                self._running.add(begin.number)
            else:
                self._losses["request that ran beside others: its command ends before the next"] += 1
        if op is not Op.FLUSH:
            words += [_size(begin.offset), _size(begin.length)]
        return " ".join(words)

    def _expected(self, data: Data) -> list[str]:
        pattern = uniform(data)
        if pattern is None:
            if data is not None:
                self._losses["read whose expected data is not kept"] += 1
            return []
        return ["-P", hex(pattern)]

    def _options(self, begin: Begin) -> list[str]:
        """The options of a `write`."""
        flags = begin.flags
        words = ["-f"] if flags & Flags.FUA else []
        if begin.op is Op.WRITE_ZEROES:
            words.append("-z")
            words += ["-u"] if flags & Flags.MAY_UNMAP else []
            words += ["-n"] if flags & Flags.NO_FALLBACK else []
            return words
        pattern = uniform(begin.data)
        if pattern is None and isinstance(begin.data, bytes):
            if self._keep is not None:
                return [*words, "-s", self._keep(payload(begin))]
            self._losses["write whose data is not kept: 0xcd instead (--data keeps it in files)"] += 1
        elif pattern is None:
            self._losses["write whose data is not known: 0xcd"] += 1
        return words if pattern in (None, FILLED) else [*words, "-P", hex(pattern)]


def _size(value: int) -> str:
    """`64k` where the value is a whole number of those."""
    for unit, shift in (("G", 30), ("M", 20), ("k", 10)):
        if value and not value & ((1 << shift) - 1):
            return f"{value >> shift}{unit}"
    return str(value)


def write_qemu_io(
    events: Iterable[Event], losses: Losses, *, ends: bool, keep: KeepData | None = None
) -> Iterator[str]:
    """The commands for the requests of one disk; what they cannot say is counted in `losses`.

    `ends`: whether the log tells of ends; where not, each request has ended before the next one begins.
    """
    return _Writer(losses, keep).lines(events, ends=ends)
