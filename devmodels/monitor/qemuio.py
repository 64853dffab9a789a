"""qemu-io's commands on a node: `read -P 0xab 0 4k`, `aio_write 64k 512`, `break write_aio A`.

Follows qemu-io's own help: names, flags, numbers and what is printed.  What is there: read, readv, write, writev,
aio_read, aio_write, aio_flush, flush, discard, length, sleep, and the commands of break points.
"""

from __future__ import annotations

import errno
import getopt
import os
import re
from collections.abc import Awaitable, Callable

import msgspec

from devmodels.blockbackend import BlockBackend, BlockNode, Flags, Op, Request
from devmodels.blockbackend.debug import commands as debug
from devmodels.iocontext import Event, Future, IoContext
from devmodels.options import OptionError

FILLED = 0xCD
"""What is written where no pattern is given."""
_NUMBER = re.compile(r"(0x[0-9a-fA-F]+|[0-9]+)([kKmMgGtTpPeE]?)")
_UNITS = "kmgtpe"


MOST = (1 << 31) - 512
"""The longest request with a buffer, in bytes: QEMU's BDRV_REQUEST_MAX_BYTES."""


class UsageError(Exception):
    """A command is wrong; the text is what qemu-io prints."""


class _Request(Request):
    """A device's policy is for its guest: with `stop`, the answer here would wait for a `cont` that waits for it."""

    __slots__ = ()
    POLICY = False


class Place(msgspec.Struct):
    """Where a command works: `node`, and a device's own `backend` where it was named."""

    node: BlockNode
    backend: BlockBackend | None
    running: Running


class Running:
    """What was begun by `aio_…` commands, and what the ended ones have printed."""

    def __init__(self, context: IoContext) -> None:
        self.count = 0
        self.printed: list[str] = []
        self.idle = Event(context)

    def begin(self) -> None:
        """One more."""
        self.count += 1
        self.idle.clear()

    def end(self, text: str) -> None:
        """One is over."""
        self.printed.append(text)
        self.count -= 1
        if not self.count:
            self.idle.set()

    async def flush(self) -> str:
        """When all is over: what was printed."""
        if self.count:
            await self.idle.wait()
        printed, self.printed = self.printed, []
        return "".join(printed)


async def qemu_io(place: Place, words: list[str]) -> str:
    """Do one command; returns what it prints, with line ends."""
    if not words:
        return ""
    name, *given = words
    if name in debug.COMMANDS:
        return await debug.debug_command(place.node, " ".join(words))
    command = _COMMANDS.get(name)
    if command is None:
        return f'command "{name}" not found\n'
    try:
        flags, arguments = _parsed(name, command, given)
        return await command.run(place, flags, arguments)
    except UsageError as error:
        return f"{error}\n"
    except MemoryError:
        return f"{name} failed: {os.strerror(errno.ENOMEM)}\n"


# --- arguments


class _Command(msgspec.Struct, frozen=True):
    run: Callable[[Place, dict[str, str], list[str]], Awaitable[str]]
    options: str
    fewest: int
    most: int | None
    """None: any number."""
    judge: Callable[[dict[str, str], list[str]], None] | None = None
    """Says by UsageError what is wrong with them besides."""


def _parsed(name: str, command: _Command, given: list[str]) -> tuple[dict[str, str], list[str]]:
    try:
        found, arguments = getopt.getopt(given, command.options)
    except getopt.GetoptError as error:
        raise UsageError(f"{name}: invalid option -- '{error.opt}'") from None
    if len(arguments) < command.fewest or (command.most is not None and len(arguments) > command.most):
        least = "at least " if command.most is None else ""
        plural = "" if command.fewest == 1 else "s"
        raise UsageError(
            f"bad argument count {len(arguments)} to {name}, expected {least}{command.fewest} argument{plural}"
        )
    flags = dict(found)
    if command.judge is not None:
        command.judge(flags, arguments)
    return flags, arguments


def number(text: str) -> int:
    """A number, decimal or 0x…, perhaps with k, M, G, T, P, E for powers of 1024."""
    found = _NUMBER.fullmatch(text)
    if found is None:
        raise UsageError(f"Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- {text}")
    shift = 10 * (_UNITS.index(found[2].lower()) + 1) if found[2] else 0
    value = int(found[1], 16 if found[1].startswith("0x") else 10) << shift
    if value >= 1 << 63:
        raise UsageError(f"Parsing error: argument too large -- {text}")
    return value


def _one_length(_flags: dict[str, str], arguments: list[str]) -> None:
    """The second argument is the length of a request that goes in one piece."""
    if number(arguments[1]) > MOST:
        raise UsageError(f"length cannot exceed {MOST}, given {arguments[1]}")


def _one_length_but(flags: dict[str, str], arguments: list[str]) -> None:
    """The same; with -n a range has no buffer."""
    if number(arguments[1]) > MOST and "-n" not in flags:
        raise UsageError(f"length cannot exceed {MOST} without -n, given {arguments[1]}")


def _lengths(flags: dict[str, str], arguments: list[str]) -> None:
    """All but the first are lengths of parts of a buffer; zeroes need none."""
    if "-z" in flags:
        return
    for text in arguments[1:]:
        if number(text) > MOST:
            raise UsageError(f"Argument '{text}' exceeds maximum size {MOST}")
    if sum(map(number, arguments[1:])) > MOST:
        raise UsageError(f"The total number of bytes exceed the maximum size {MOST}")


def _pattern(flags: dict[str, str]) -> int | None:
    if "-P" not in flags:
        return None
    try:
        value = int(flags["-P"], 0)
    except ValueError:
        value = -1
    if not 0 <= value <= 0xFF:
        raise UsageError(f"{flags['-P']} is not a valid pattern byte")
    return value


# --- requests


async def _request(
    place: Place, op: Op, offset: int, data: bytearray | int, flags: Flags = Flags.NONE
) -> int:
    """Do one request and say its errno; `data` is a buffer or, without one, the length."""
    length = data if isinstance(data, int) else len(data)
    vectors = [] if isinstance(data, int) else [memoryview(data)]
    backend, own = place.backend, None
    if backend is None:
        changes = op in (Op.WRITE, Op.WRITE_ZEROES, Op.DISCARD)
        backend = own = BlockBackend(place.node, name="qemu-io", read_only=not changes)
    try:
        if own is not None:
            own.activate()
        over: Future[None] = Future(backend.context)
        request = _Request(op, offset, length, vectors, flags, lambda _request: over.set_result(None))
        backend.submit(request)
        await over
        if own is not None:
            await own.inactivate()
        return request.error
    finally:
        if own is not None:
            own.close()


async def _read(place: Place, flags: dict[str, str], arguments: list[str]) -> str:
    offset, length = number(arguments[0]), sum(map(number, arguments[1:]))
    pattern = _pattern(flags)
    start = number(flags.get("-s", "0"))
    checked = number(flags["-l"]) if "-l" in flags else length - start
    if pattern is None and ("-s" in flags or "-l" in flags):
        raise UsageError("-s and -l require -P to be specified")
    if start + checked > length:
        raise UsageError("pattern verification range exceeds end of read data")
    if offset + length > place.node.size:
        return "read failed: Input/output error\n"
    buffer = bytearray(length)
    began = place.node.context.now_ns()
    error = await _request(place, Op.READ, offset, buffer)
    if error:
        return f"read failed: {os.strerror(error)}\n"
    out = ""
    if pattern is not None and buffer[start : start + checked] != bytes([pattern]) * checked:
        out = f"Pattern verification failed at offset {offset + start}, {checked} bytes\n"
    if "-v" in flags:
        out += _dump(buffer, offset)
    return out + _report(place, flags, "read", offset, length, began)


async def _write(place: Place, flags: dict[str, str], arguments: list[str]) -> str:
    offset, length = number(arguments[0]), sum(map(number, arguments[1:]))
    pattern = _pattern(flags)
    wanted = Flags.NONE
    for option, needs, flag in (
        ("-f", False, Flags.FUA),
        ("-u", True, Flags.MAY_UNMAP),
        ("-n", True, Flags.NO_FALLBACK),
    ):
        if option in flags:
            if needs and "-z" not in flags:
                raise UsageError(f"{option} requires -z to be specified")
            wanted |= flag
    if pattern is not None and "-z" in flags:
        raise UsageError("Only one of -z, -P, and -s can be specified at the same time")
    if offset + length > place.node.size:
        return "write failed: Input/output error\n"
    began = place.node.context.now_ns()
    if "-z" in flags:
        error = await _request(place, Op.WRITE_ZEROES, offset, length, wanted)
    else:
        buffer = bytearray([FILLED if pattern is None else pattern]) * length
        error = await _request(place, Op.WRITE, offset, buffer, wanted)
    if error:
        return f"write failed: {os.strerror(error)}\n"
    return _report(place, flags, "wrote", offset, length, began)


async def _discard(place: Place, flags: dict[str, str], arguments: list[str]) -> str:
    offset, length = number(arguments[0]), number(arguments[1])
    began = place.node.context.now_ns()
    error = await _request(place, Op.DISCARD, offset, length)
    if error:
        return f"discard failed: {os.strerror(error)}\n"
    return _report(place, flags, "discard", offset, length, began)


async def _flush(place: Place, _flags: dict[str, str], _arguments: list[str]) -> str:
    error = await _request(place, Op.FLUSH, 0, 0)
    return f"flush failed: {os.strerror(error)}\n" if error else ""


def _later(
    run: Callable[[Place, dict[str, str], list[str]], Awaitable[str]], name: str
) -> Callable[[Place, dict[str, str], list[str]], Awaitable[str]]:
    """The same, begun only: `aio_flush` says how it ended."""

    async def aio(place: Place, flags: dict[str, str], arguments: list[str]) -> str:
        wrong: list[str] = []

        async def work() -> None:
            text = ""
            try:
                text = (await run(place, flags, arguments)).replace(f"{name} failed", f"aio_{name} failed")
            except (UsageError, OptionError) as error:
                wrong.append(f"{error}\n")
            except OSError as error:
                text = f"aio_{name} failed: {error.strerror or error}\n"
            except MemoryError:
                text = f"aio_{name} failed: {os.strerror(errno.ENOMEM)}\n"
            finally:
                place.running.end(text)

        place.running.begin()
        place.node.context.start(work())
        return "".join(wrong)

    return aio


async def _aio_flush(place: Place, _flags: dict[str, str], _arguments: list[str]) -> str:
    return await place.running.flush()


async def _length(place: Place, _flags: dict[str, str], _arguments: list[str]) -> str:
    return f"{_size(place.node.size)}\n"


async def _sleep(place: Place, _flags: dict[str, str], arguments: list[str]) -> str:
    (text,) = arguments
    if not re.fullmatch("0x[0-9a-fA-F]{1,8}|[0-9]{1,9}", text):
        raise UsageError(f"{text} is not a valid number")
    await place.node.context.sleep(int(text, 0 if "x" in text else 10) * 10**6)
    return ""


# --- what is printed


def _size(value: float) -> str:
    """`1.500 KiB`, `4 KiB`, `32 bytes`."""
    unit, shown = "bytes", value
    for unit_, shift in (("EiB", 60), ("PiB", 50), ("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if value >= 1 << shift:
            unit, shown = unit_, value / (1 << shift)
            break
    return f"{shown:.3f}".removesuffix(".000") + f" {unit}"


def _report(place: Place, flags: dict[str, str], verb: str, offset: int, length: int, began_ns: int) -> str:
    if "-q" in flags:
        return ""
    seconds = (place.node.context.now_ns() - began_ns) / 1e9
    rate, operations = (length / seconds, 1 / seconds) if seconds else (float("inf"), float("inf"))
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    if "-C" in flags:
        return f"{length},1,{hours}:{minutes:02d}:{rest:05.2f},{rate:.3f},{operations:.3f}\n"
    took = f"{hours}:{minutes:02d}:{rest:05.2f}" if hours or minutes else f"{rest:05.2f} sec"
    return (
        f"{verb} {length}/{length} bytes at offset {offset}\n"
        f"{_size(length)}, 1 ops; {took} ({_size(rate)}/sec and {operations:.4f} ops/sec)\n"
    )


def _dump(data: bytearray, offset: int) -> str:
    lines = []
    for at in range(0, len(data), 16):
        part = data[at : at + 16]
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)
        lines.append(f"{offset + at:08x}:  {part.hex(' '):<47}  {text}\n")
    return "".join(lines)


_READ, _WRITE = "bCl:pP:qs:v", "bcCfnpP:qruz"
_COMMANDS = {
    "read": _Command(_read, _READ, 2, 2, _one_length),
    "readv": _Command(_read, "CP:qv", 2, None, _lengths),
    "write": _Command(_write, _WRITE, 2, 2, _one_length_but),
    "writev": _Command(_write, "CfqP:", 2, None, _lengths),
    "aio_read": _Command(_later(_read, "read"), "CP:iqv", 2, None, _lengths),
    "aio_write": _Command(_later(_write, "write"), "CfiP:quz", 2, None, _lengths),
    "aio_flush": _Command(_aio_flush, "", 0, 0),
    "flush": _Command(_flush, "", 0, 0),
    "discard": _Command(_discard, "Cq", 2, 2, _one_length),
    "length": _Command(_length, "", 0, 0),
    "sleep": _Command(_sleep, "", 1, 1),
}
