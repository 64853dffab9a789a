"""A bug report's text: the command line of QEMU's that is in it, and the lines that are fed to `-qtest stdio`.

What a shell does with them (`cat << EOF |`, a prompt, line continuations, redirections, `export QEMU_ARGS=…`) is seen
through, and so is the log that QEMU writes of them (`[R +0.019001] outl …`).  A fuzzer of QEMU's fills memory at the
moment at which the device reads it, and logs that behind the access that made it do so (`[DMA] [R +0.034] write …`):
such requests go before that access.  A message of QEMU's own begins with the program's name as well; a command line has
options behind it.  What is neither is counted, and left out.  A test in C, as QEMU's own are, is another form of the
same (`ctest`).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from devmodels.options import OptionError
from devmodels.tracefile import MAGIC
from guestsim.replay import ctest

MAX_SIZE = 64 << 20
ARGUMENTS = ("QEMU_ARGS", "QEMU_FUZZ_ARGS")
"""The variables in which reports have the command line."""
_PROGRAM = re.compile(
    r"(?:[^\s:=]*/)?(?:qemu(?:-system-[\w.-]+|-fuzz-[\w.-]+|-kvm)?|kvm|devmodels-system-[\w.-]+)|\$QEMU|\$\{QEMU\}"
)
_NUMBERS = r"(?: +[+-]?[0-9].*)?"
_REQUEST = re.compile(
    rf"(?:(?:in|out)[bwl]|(?:read|write)[bwlq]?|b64(?:read|write)|memset|clock_(?:step|set)){_NUMBERS}"
    r"|endianness|(?:set_irq_in|irq_intercept_(?:in|out))(?: .*)?"
)
"""Prose has some of these words, too, but no number behind them."""
_LOGGED = re.compile(
    r"(?P<nested>\[DMA\] ?(?P<again>\[DOUBLE-FETCH\] ?)?)?\[(?P<kind>[A-Z]) [+-]?[0-9.]+\] ?"
)
"""How a line of QEMU's log begins: R, a request; S, what was sent for it; I, the client came or went."""
_ANSWER = re.compile(r"(?:OK|FAIL|ERR|IRQ (?:raise|lower))\b.*")
_ASSIGNMENT = re.compile(
    r"""(?:(?:export|env) +)?(?P<name>[A-Za-z_]\w*)="""
    r"""(?P<value>(?:"(?:\\.|[^"\\])*"|'[^']*'|\\.|[^\s"'\\;&|<>])*)(?=$|[\s;&])[\s;&]*"""
)
"""What a shell assigns: one word of its."""
_BARE = re.compile(r"(?:export +)?(?P<name>[A-Za-z_]\w*)=(?P<value>['\"]?-.*)")
"""Arguments without the quotes that a shell wants, or with one of them."""
_HEREDOC = re.compile(r"<<-? *['\"]?(?P<end>\w+)")
_MAILED = re.compile(r"^Content-Transfer-Encoding: quoted-printable\s*$", re.IGNORECASE | re.MULTILINE)
_ENCODED = re.compile(r"=([0-9A-F]{2})")
_QUOTE = re.compile(r"(?:> ?)*")
"""What a mail has before what it quotes; a shell's second prompt is the same."""
_PROMPT = re.compile(r"(?:>\s*)*(?:\$ )?\s*")
"""Of a shell, or what a mail has before what it quotes, and how far that is indented."""
_SPAN = re.compile(r"`+([^`]+)`+")
"""A piece of code in a sentence."""
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_SHELL = ("<", ">", "|", ";", "&")
_OF_THE_SHELL = re.compile(r"^[0-9]?[<>|;&]")
_ASIDE = ("#", "```", "~~~")
"""How lines begin that say something to the reader, or to what draws the text."""


@dataclass(slots=True)
class Reproducer:
    """`arguments` of the machine, and the `requests`, each with the number of its line.

    `command_line` is the number of the line that has the arguments, None where there is none; `others` are lines that
    are neither requests nor anything of a shell's.  `left` counts requests that are not this reproducer's: its own
    ones in a log, or what is behind the end of it.  `moved` are those that go before the access behind which a fuzzer's
    log has them, `fetched_again` such of memory that the device had read already in the same access.
    """

    arguments: list[str] = field(default_factory=list)
    command_line: int | None = None
    requests: list[tuple[int, str]] = field(default_factory=list)
    others: list[tuple[int, str]] = field(default_factory=list)
    left: int = 0
    moved: int = 0
    fetched_again: int = 0


@dataclass(slots=True)
class _Block:
    """Requests that go to one command: those of a `<< EOF`, of a log, or all else."""

    requests: list[tuple[int, str]] = field(default_factory=list)
    command: tuple[int, list[str]] | None = None
    moved: int = 0
    fetched_again: int = 0
    _access: int | None = None
    """Where the newest request is that was not made within another one."""

    def add(self, number: int, line: str) -> None:
        """The next request."""
        self._access = len(self.requests)
        self.requests.append((number, line))

    def fill(self, number: int, line: str, *, again: bool) -> None:
        """A request that was made within the newest one goes before that, and behind others of its kind."""
        if self._access is None:
            self.requests.append((number, line))
            return
        self.requests.insert(self._access, (number, line))
        self._access += 1
        self.moved += 1
        self.fetched_again += again


@dataclass(slots=True)
class _Text:
    """What was found up to a line."""

    outside: _Block = field(default_factory=_Block)
    log: _Block = field(default_factory=_Block)
    heredocs: list[_Block] = field(default_factory=list)
    end: str | None = None
    """The line that ends the newest of the heredocs; None where it has ended."""
    commands: list[tuple[int, list[str]]] = field(default_factory=list)
    mentioned: list[tuple[int, list[str]]] = field(default_factory=list)
    """Commands in backticks, within a sentence."""
    variables: dict[str, tuple[int, str]] = field(default_factory=dict)
    others: list[tuple[int, str]] = field(default_factory=list)
    tests: list[_Block] = field(default_factory=list)
    """The machines of a test in C."""

    def blocks(self) -> list[_Block]:
        """All of them; the first one with requests is done: a shell's, then C's, and a log where there is no other."""
        return [*self.heredocs, self.outside, *self.tests, self.log]

    def take(self, number: int, full: str) -> None:
        """One more line."""
        logged = _LOGGED.match(full)
        line = full[logged.end() :] if logged else full
        if _REQUEST.fullmatch(line) and (logged is None or logged["kind"] == "R"):
            block = self._block(in_log=logged is not None)
            if logged and logged["nested"]:
                block.fill(number, line, again=logged["again"] is not None)
            else:
                block.add(number, line)
        elif line == self.end:
            self.end = None
        elif line and not logged and not _ANSWER.fullmatch(line):
            self._shell(number, line)

    def _shell(self, number: int, full: str) -> None:
        """A line that is no request: what is assigned at its beginning, and what is called behind that."""
        line = self._assign(number, full)
        if command := self._in_backticks(line):
            self.mentioned.append((number, command))
        elif command := _command(line, self.variables):
            self.commands.append((number, command))
            self._open(line, (number, command))
        elif "<<" in line and line.startswith("cat"):
            self._open(line, None)
        elif line == full and not line.startswith(_ASIDE):
            self.others.append((number, line))

    def _in_backticks(self, line: str) -> list[str]:
        return next(filter(None, (_command(each, self.variables) for each in _SPAN.findall(line))), [])

    def _assign(self, number: int, line: str) -> str:
        """The line without the variables that it gives values at its beginning: those are known from now on."""
        rest = line
        while found := _ASSIGNMENT.match(rest):
            self.variables[found["name"]] = number, _value(found["value"])
            rest = rest[found.end() :]
        if (bare := _BARE.fullmatch(line)) and (rest == line or bare["value"].startswith("-")):
            self.variables[bare["name"]] = number, bare["value"].strip("'\"")
            return ""
        return rest

    def _block(self, *, in_log: bool) -> _Block:
        if in_log:
            return self.log
        return self.outside if self.end is None else self.heredocs[-1]

    def _open(self, line: str, command: tuple[int, list[str]] | None) -> None:
        if heredoc := _HEREDOC.search(line):
            self.end = heredoc["end"]
            self.heredocs.append(_Block(command=command))

    def chosen(self) -> _Block:
        """The requests that are done."""
        found = next((block for block in self.blocks() if block.requests), None)
        if found is None:
            raise OptionError("no request is in it; expected lines such as outl 0xcf8 0x80000810")
        return found

    def command(self) -> tuple[int, list[str]] | None:
        """Where nothing else says which command is meant: one with a socket for requests, else any."""
        with_qtest = (each for each in self.commands if "-qtest" in each[1])
        found = next(with_qtest, None) or next(iter(self.commands), None)
        if found is not None:
            return found
        for name in ARGUMENTS:
            if name in self.variables:
                number, text = self.variables[name]
                return number, _before_the_shell(_words(text))
        return next(iter(self.mentioned), None)


def is_report(path: Path) -> bool:
    """Whether a file is such a text, and no trace.  OSError; OptionError where it is text with no request in it."""
    with path.open("rb") as file:
        beginning = file.read(1 << 16)
    if beginning.startswith(MAGIC) or b"\0" in beginning or path.stat().st_size > MAX_SIZE:
        return False
    read_reproducer(path.read_text(errors="replace"))
    return True


def read_reproducer(text: str) -> Reproducer:
    """What is in a bug report's text; OptionError where there is no request."""
    lines = _decoded(text) if _MAILED.search(text) else [*enumerate(text.splitlines(), 1)]
    found = _Text()
    for number, line in _joined(lines):
        found.take(number, line)
    machines, unclear = ctest.machines(_text(lines))
    found.tests = [_Block(each.requests, each.command) for each in machines]
    block = found.chosen()
    in_c = any(block is each for each in found.tests)
    result = Reproducer(requests=block.requests, others=unclear if in_c else found.others)
    result.moved, result.fetched_again = block.moved, block.fetched_again
    result.left = sum(len(each.requests) for each in found.blocks() if each is not block)
    if command := block.command or found.command():
        result.command_line, result.arguments = command
    return result


def _decoded(text: str) -> list[tuple[int, str]]:
    """The lines that a mail of the encoding quoted-printable was written in, each with the number at which it begins.

    One that ends with `=` has been broken there (RFC 2045 §6.7).
    """
    lines: list[tuple[int, str]] = []
    goes_on = False
    for number, line in enumerate(text.splitlines(), 1):
        piece = line.rstrip()
        if goes_on:
            lines[-1] = lines[-1][0], lines[-1][1] + piece.removesuffix("=")
        else:
            lines.append((number, piece.removesuffix("=")))
        goes_on = piece.endswith("=")
    return [(number, _ENCODED.sub(lambda code: chr(int(code[1], 16)), line)) for number, line in lines]


def _text(lines: list[tuple[int, str]]) -> str:
    """The lines as one text, in which each has its number."""
    out, last = [], 0
    for number, line in lines:
        out.append("\n" * (number - last) + line)
        last = number
    return "".join(out)[1:]


def _joined(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """The lines with their numbers, those that go on in the next one as one, without prompts and quoting."""
    numbered = iter(lines)
    for number, full in numbered:
        line = _without(_PROMPT, full.strip())
        while line.endswith("\\"):
            following = next(numbered, (0, ""))[1].rstrip()
            if following.lstrip().startswith(">"):
                following = _without(_QUOTE, following.lstrip())
            # Where mails have lost the space that began the line, an option does not go on with the word before.
            space = " " if following[:1].isspace() or following.startswith("-") else ""
            line = line[:-1] + space + following.strip()
        yield number, line


def _without(what: re.Pattern[str], line: str) -> str:
    found = what.match(line)
    return line if found is None else line[found.end() :]


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return line.split()


def _value(text: str) -> str:
    """What a shell assigns: a word of its without the quotes."""
    return "".join(shlex.split(text))


def _expanded(line: str, variables: dict[str, tuple[int, str]]) -> str:
    """`line` with the values of the variables that are known."""

    def value(found: re.Match[str]) -> str:
        known = variables.get(found[1] or found[2])
        # The program's own name need not be known.
        return found[0] if known is None or (found[1] or found[2]) == "QEMU" else known[1]

    return _VARIABLE.sub(value, line)


def _command(line: str, variables: dict[str, tuple[int, str]]) -> list[str]:
    """The arguments of QEMU in a line; none where it is not called there.

    Called it is where an option follows it.  A fuzzer built of it is another program, if it is not given `-qtest`.
    """
    words = _words(_expanded(line.replace("<<", " <<"), variables))
    for at, word in enumerate(words):
        if not _PROGRAM.fullmatch(word):
            continue
        own = _before_the_shell(words[at + 1 :])
        if own and own[0].startswith("-") and ("-fuzz-" not in word or "-qtest" in own):
            return [each for each in own if not _VARIABLE.fullmatch(each)]
    return []


def _before_the_shell(words: list[str]) -> list[str]:
    own = []
    for word in words:
        if word in _SHELL or _OF_THE_SHELL.match(word):
            break
        own.append(word)
    return own
