"""A test of QEMU's in C, as its sources and the patches in mails have them: what it starts, and what it asks for.

Of C it takes calls whose arguments are literals: `qtest_init("-M q35 " "-m 1G")`, `qtest_outl(s, 0xcf8, 0x8000fa24)`,
`qtest_bufwrite(s, 0x0, "\\x27\\x80", 0x2)`.  Each `qtest_init` begins a machine of its own.  What else a program does
(loops, variables, what it makes of an answer) is not seen; calls with such arguments are told apart.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

MAX_DATA = 1 << 24
"""So many bytes a `bufwrite` may have."""
MAX_WORDS = 256
"""So many of C's words are looked at for a call's end."""
_QUOTED = re.compile(r"^[ \t>]*(?:\+(?!\+))?", re.MULTILINE)
"""What a mail, or a patch, has before a line."""
_HUNK = re.compile(r"^@@ -[0-9]", re.MULTILINE)
_REMOVED = re.compile(r"^-.*$", re.MULTILINE)
"""Of a patch, the lines that it takes away."""
_COMMENT = re.compile(r'"(?:\\.|[^"\\\n])*"|/\*.*?\*/|//[^\n]*', re.DOTALL)
_CALL = re.compile(r"\bqtest_(?P<name>\w+)\s*\(")
_TOKEN = re.compile(r'\s*("(?:\\.|[^"\\\n])*"|[(),;]|[^\s"(),;]+)')
_NUMBER = re.compile(r"(-?)(0[xX][0-9a-fA-F]{1,16}|0[0-7]{1,22}|[1-9][0-9]{0,19}|0)[uUlL]*")
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]+|[0-7]{1,3}|.)|([^\\]+)", re.DOTALL)
_ESCAPED = {"n": 10, "t": 9, "r": 13, "a": 7, "b": 8, "f": 12, "v": 11}
_WIDTHS = {"b": 1, "w": 2, "l": 4, "q": 8}
_ACCESS = re.compile(r"(?:in|out)[bwl]|(?:read|write)[bwlq]")
_MACHINES = ("init", "initf", "start", "startf", "init_without_qmp_handshake")
_DOES = re.compile(
    rf"{_ACCESS.pattern}|memset|(?:buf|mem)(?:read|write)|clock_\w+|irq_intercept_\w+|set_irq_in|\w*[qh]mp\w*"
)
"""What a machine is asked for; other names are the test's own."""

Argument = int | bytes | None
"""A number, a string's bytes, or neither."""


@dataclass(slots=True)
class Machine:
    """One machine of the test: the line that starts it with its number, and its requests with theirs."""

    command: tuple[int, list[str]] | None = None
    requests: list[tuple[int, str]] = field(default_factory=list)


def machines(text: str) -> tuple[list[Machine], list[tuple[int, str]]]:
    """The machines that have requests, and the calls that were not understood, by line."""
    if "qtest_" not in text:
        return [], []
    text = _QUOTED.sub("", text)
    if _HUNK.search(text):
        text = _REMOVED.sub("", text)
    text = _COMMENT.sub(_blank, text)
    found = [Machine()]
    others: list[tuple[int, str]] = []
    number, at = 1, 0
    for call in _CALL.finditer(text):
        number += text.count("\n", at, call.start())
        at = call.start()
        name = call["name"]
        given = list(_arguments(text, call.end()))
        if name in _MACHINES:
            line = given[0]
            found.append(Machine(_command(number, line)))
            if not isinstance(line, bytes):
                others.append((number, _source(text, at)))
        elif (request := _request(name, given[1:])) is not None:
            found[-1].requests.append((number, request))
        elif _DOES.fullmatch(name):
            others.append((number, _source(text, at)))
    return [each for each in found if each.requests], others


def _blank(found: re.Match[str]) -> str:
    """A comment without its text; a string stays."""
    return found[0] if found[0].startswith('"') else "\n" * found[0].count("\n")


def _source(text: str, at: int) -> str:
    return text[at : text.find("\n", at) % (len(text) + 1)].strip()


def _arguments(text: str, at: int) -> Iterator[Argument]:
    """Those of a call, whose parenthesis is before `at`; adjacent strings are one."""
    words: list[str] = []
    depth = 1
    for _ in range(MAX_WORDS):
        if (token := _TOKEN.match(text, at)) is None:
            break
        at, word = token.end(), token[1]
        depth += (word == "(") - (word == ")")
        if word == ";" or depth == 0:
            break
        if word == "," and depth == 1:
            yield _argument(words)
            words = []
        else:
            words.append(word)
    yield _argument(words)


def _argument(words: list[str]) -> Argument:
    if words and all(word.startswith('"') for word in words):
        return b"".join(_bytes(word[1:-1]) for word in words)
    number = _NUMBER.fullmatch("".join(words))
    if number is None:
        return None
    digits = number[2]
    octal = len(digits) > 1 and digits[0] == "0" and digits[1] not in "xX"
    value = int(digits, 8 if octal else 0)
    return -value if number[1] else value


def _bytes(text: str) -> bytes:
    """What a C string's text is in memory."""
    made = bytearray()
    for escaped, plain in _ESCAPE.findall(text):
        if plain:
            made += plain.encode()
        elif escaped[0] == "x" and len(escaped) > 1:
            made.append(int(escaped[1:], 16) & 0xFF)
        elif escaped[0] in "01234567":
            made.append(int(escaped, 8) & 0xFF)
        else:
            made.append(_ESCAPED.get(escaped, ord(escaped[0]) & 0xFF))
    return bytes(made)


def _command(number: int, line: Argument) -> tuple[int, list[str]] | None:
    if not isinstance(line, bytes):
        return None
    text = line.decode(errors="replace")
    try:
        return number, shlex.split(text)
    except ValueError:
        return number, text.split()


def _request(name: str, given: list[Argument]) -> str | None:
    """The line that the call sends; None where it is none, or an argument is no literal."""
    match name, given:
        case "clock_step_next", []:
            return "clock_step"
        case (("clock_step" | "clock_set"), [int(time)]):
            return f"{name} {time}"
        case (("irq_intercept_in" | "irq_intercept_out"), [bytes(path)]):
            return f"{name} {path.decode(errors='replace')}"
        case "memset", [int(address), int(byte), int(size)]:
            return f"memset {_hex(address)} {_hex(size)} {byte & 0xFF:#x}"
        case (("bufwrite" | "memwrite"), [int(address), bytes(data), int(size)]):
            # A C string has a zero behind it; what is behind that nobody knows.
            if not 0 < size <= min(len(data) + 1, MAX_DATA):
                return None
            return f"write {_hex(address)} {size:#x} 0x{(data + bytes(1))[:size].hex()}"
        case (("bufread" | "memread"), [int(address), _, int(size)]):
            return f"read {_hex(address)} {_hex(size)}"
        case _, [int(address)] if _ACCESS.fullmatch(name) and name[0] in "ir":
            return f"{name} {_hex(address)}"
        case _, [int(address), int(value)] if _ACCESS.fullmatch(name) and name[0] in "ow":
            return f"{name} {_hex(address)} {value & (1 << 8 * _WIDTHS[name[-1]]) - 1:#x}"
        case _:
            return None


def _hex(value: int) -> str:
    return f"{value & (1 << 64) - 1:#x}"
