"""Reproducers as bug reports print them: a command line of QEMU's, and the lines that were fed to `-qtest stdio`.

What a shell does with them (`cat << EOF |`, a prompt, line continuations, redirections, `export QEMU_ARGS=…`) is seen
through, and so is the log that QEMU writes of them (`[R +0.019001] outl …`); what is neither is counted, and left out.
They run on the stand-in's machine, in this process.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from devmodels.options import OptionError
from devmodels.qtest.assembling import Assembling
from devmodels.qtest.commandline import parse

MAX_SIZE = 64 << 20
MAX_ANSWER = 1024
"""So many characters of an answer are kept."""
ARGUMENTS = "QEMU_ARGS"
"""The variable in which reports have the command line."""
_PROGRAM = re.compile(r"qemu-(system|fuzz)-|devmodels-system-|\$\{?QEMU\b")
_REQUEST = re.compile(
    r"(?:(?:in|out)[bwl]|(?:read|write)[bwlq]?|b64(?:read|write)|memset|clock_(?:step|set)|endianness|set_irq_in"
    r"|irq_intercept_(?:in|out))(?: .*)?"
)
_LOGGED = re.compile(r"\[(?P<kind>[A-Z]) [+-]?[0-9.]+\] ?")
"""How a line of QEMU's log begins: R, a request; S, what was sent for it; I, the client came or went."""
_ANSWER = re.compile(r"(?:OK|FAIL|ERR|IRQ (?:raise|lower))\b.*")
_ASSIGNMENT = re.compile(r"(?:export +)?(?P<name>[A-Za-z_]\w*)=(?P<value>.*)")
_HEREDOC = re.compile(r"<<-? *['\"]?(?P<end>\w+)")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_SHELL = ("<", ">", "|", ";", "&")
_OF_THE_SHELL = re.compile(r"^[0-9]?[<>|;&]")


@dataclass(slots=True)
class Reproducer:
    """`arguments` of the machine, and the `requests`, each with the number of its line.

    `command_line` is the number of the line that has the arguments, None where there is none; `others` are lines that
    are neither requests nor anything of a shell's.
    """

    arguments: list[str] = field(default_factory=list)
    command_line: int | None = None
    requests: list[tuple[int, str]] = field(default_factory=list)
    others: list[tuple[int, str]] = field(default_factory=list)


@dataclass(slots=True)
class Reproduced:
    """What came of it: answers, those that are no OK apart, by line, and what the guest did wrong, by clause."""

    machine: str
    command_line: int | None
    requests: int = 0
    interrupts: int = 0
    answers: list[tuple[int, str]] = field(default_factory=list)
    """What requests were answered that asked for something."""
    refused: list[tuple[int, str, str]] = field(default_factory=list)
    others: list[tuple[int, str]] = field(default_factory=list)
    """Lines that are no requests, and were left out."""
    violations: list[tuple[str, int, str]] = field(default_factory=list)
    """Clause, how often, and the newest of them."""


def read_reproducer(text: str) -> Reproducer:
    """What is in a bug report's text; OptionError where there is no request."""
    found = Reproducer()
    variables: dict[str, tuple[int, str]] = {}
    end = None
    for number, full in _joined(text):
        logged = _LOGGED.match(full)
        line = full[logged.end() :] if logged else full
        if _REQUEST.fullmatch(line) and (logged is None or logged["kind"] == "R"):
            found.requests.append((number, line))
        elif not line or line == end or logged or line.startswith("#") or _ANSWER.fullmatch(line):
            continue
        elif _PROGRAM.search(line) and (assigned := _ASSIGNMENT.match(line)) is None:
            heredoc = _HEREDOC.search(line)
            end = heredoc["end"] if heredoc else end
            if found.command_line is None and (given := _arguments(_expanded(line, variables))):
                found.arguments, found.command_line = given, number
        elif assigned := _ASSIGNMENT.fullmatch(line):
            variables[assigned["name"]] = number, _value(assigned["value"])
        else:
            found.others.append((number, line))
    if not found.requests:
        raise OptionError("no request is in it; expected lines such as outl 0xcf8 0x80000810")
    if found.command_line is None and ARGUMENTS in variables:
        found.command_line, given_text = variables[ARGUMENTS]
        found.arguments = _before_the_shell(_words(given_text))
    return found


def _joined(text: str) -> Iterator[tuple[int, str]]:
    """The lines with their numbers, those that go on in the next one as one."""
    numbered = iter(enumerate(text.splitlines(), 1))
    for number, full in numbered:
        line = full.strip().removeprefix("> ").removeprefix("$ ")
        while line.endswith("\\"):
            line = line[:-1] + next(numbered, (0, ""))[1].strip()
        yield number, line


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return line.split()


def _value(text: str) -> str:
    """What a shell assigns: the text without its quotes."""
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text


def _expanded(line: str, variables: dict[str, tuple[int, str]]) -> str:
    """`line` with the values of the variables that are known."""

    def value(found: re.Match[str]) -> str:
        known = variables.get(found[1] or found[2])
        # The program's own name need not be known.
        return found[0] if known is None or (found[1] or found[2]) == "QEMU" else known[1]

    return _VARIABLE.sub(value, line)


def _arguments(line: str) -> list[str]:
    """Those of the program, up to where the shell's begin."""
    words = _words(line)
    at = next((number for number, word in enumerate(words) if _PROGRAM.search(word)), len(words))
    return [word for word in _before_the_shell(words[at + 1 :]) if not _VARIABLE.fullmatch(word)]


def _before_the_shell(words: list[str]) -> list[str]:
    own = []
    for word in words:
        if word in _SHELL or _OF_THE_SHELL.match(word):
            break
        own.append(word)
    return own


def reproduce(path: Path) -> Reproduced:
    """Do the requests of a file on a machine as it asks for.  OSError; OptionError where there can be no such machine.

    What a device raises is raised: there is a defect in it.
    """
    if path.stat().st_size > MAX_SIZE:
        raise OptionError(f"{path}: more than {MAX_SIZE} bytes")
    try:
        found = read_reproducer(path.read_text(errors="replace"))
        launch = parse(found.arguments)
        assembling = Assembling(launch)
        try:
            board = assembling.build()
        except BaseException:
            assembling.board.close()
            raise
    except OptionError as error:
        raise OptionError(f"{path}: {error}") from None
    result = Reproduced(launch.machine, found.command_line, others=found.others)
    try:
        for number, request in found.requests:
            answer = board.qtest.answer(request.encode()).decode(errors="replace").rstrip()
            board.context.run_until_idle()
            result.requests += 1
            if not answer.startswith("OK"):
                result.refused.append((number, request, answer))
            elif len(answer) > len("OK"):
                result.answers.append((number, answer[len("OK ") :][:MAX_ANSWER]))
        result.interrupts = bytes(board.qtest.out).count(b"IRQ raise")
        log = board.assembly.violations
        result.violations = [(clause, count, str(log.newest[clause])) for clause, count in log.counts.items()]
    finally:
        board.close()
    return result
