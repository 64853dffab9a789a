"""Reproducers as bug reports print them: a command line of QEMU's, and the lines that were fed to `-qtest stdio`.

What a shell does with them (`cat << EOF |`, a prompt, line continuations, redirections) is seen through; what is
neither is left out.  They run on the stand-in's machine, in this process.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from devmodels.options import OptionError
from devmodels.qtest.assembling import Assembling
from devmodels.qtest.commandline import parse

MAX_SIZE = 64 << 20
_PROGRAM = re.compile(r"qemu-(system|fuzz)-|devmodels-system-")
_REQUEST = re.compile(
    r"(?:(?:in|out)[bwl]|(?:read|write)[bwlq]?|b64(?:read|write)|memset|clock_(?:step|set)|endianness|set_irq_in"
    r"|irq_intercept_(?:in|out))(?: .*)?"
)
_SHELL = ("<", ">", "|", ";", "&")
_OF_THE_SHELL = re.compile(r"^[0-9]?[<>|;&]")


@dataclass(slots=True)
class Reproducer:
    """`arguments` of the machine, and the `requests`, each with the number of its line."""

    arguments: list[str]
    requests: list[tuple[int, str]]


@dataclass(slots=True)
class Reproduced:
    """What came of it: answers that are no OK, by line, and what the guest did wrong, by clause."""

    requests: int = 0
    interrupts: int = 0
    refused: list[tuple[int, str, str]] = field(default_factory=list)
    violations: list[tuple[str, int, str]] = field(default_factory=list)
    """Clause, how often, and the newest of them."""


def read_reproducer(text: str) -> Reproducer:
    """What is in a bug report's text; OptionError where there is no request."""
    arguments: list[str] = []
    requests = []
    numbered = iter(enumerate(text.splitlines(), 1))
    for number, full in numbered:
        line = full.strip().removeprefix("> ")
        if _PROGRAM.search(line):
            while line.endswith("\\"):
                line = line[:-1] + next(numbered, (0, ""))[1].strip()
            arguments = arguments or _arguments(line)
        elif _REQUEST.fullmatch(line):
            requests.append((number, line))
    if not requests:
        raise OptionError("no request is in it; expected lines such as outl 0xcf8 0x80000810")
    return Reproducer(arguments, requests)


def _arguments(line: str) -> list[str]:
    """Those of the program, up to where the shell's begin."""
    try:
        words = shlex.split(line)
    except ValueError:
        words = line.split()
    at = next(number for number, word in enumerate(words) if _PROGRAM.search(word))
    own = []
    for word in words[at + 1 :]:
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
    result = Reproduced()
    try:
        for number, request in found.requests:
            answer = board.qtest.answer(request.encode()).decode(errors="replace").rstrip()
            board.context.run_until_idle()
            result.requests += 1
            if not answer.startswith("OK"):
                result.refused.append((number, request, answer))
        result.interrupts = bytes(board.qtest.out).count(b"IRQ raise")
        log = board.assembly.violations
        newest = {each.clause: str(each) for each in log.recent}
        result.violations = [(clause, count, newest.get(clause, "")) for clause, count in log.counts.items()]
    finally:
        board.close()
    return result
