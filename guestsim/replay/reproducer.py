"""Reproducers as bug reports print them, done on the stand-in's machine, in this process (`report` reads them)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from devmodels.options import OptionError
from devmodels.qtest.assembling import Assembling
from devmodels.qtest.commandline import parse
from guestsim.replay.reached import Reached
from guestsim.replay.report import MAX_SIZE, read_reproducer

MAX_ANSWER = 1024
"""So many characters of an answer are kept."""


@dataclass(slots=True)
class Reproduced:
    """What came of it: answers, those that are no OK apart, by line, and what the guest did wrong, by clause."""

    machine: str
    command_line: int | None
    requests: int = 0
    left: int = 0
    """Requests of the text that are not this reproducer's: its log, or what is behind its end."""
    moved: int = 0
    """Requests that a fuzzer's log has behind the access within which they were made, and that were made before it."""
    fetched_again: int = 0
    """How many of them are of memory that the device had read already within that access."""
    reached: dict[str, int] = field(default_factory=dict)
    """How many requests went to a device, by its model and place; none says that of the others."""
    in_reach: int = 0
    """How many requests went to any of them."""
    interrupts: int = 0
    answers: list[tuple[int, str]] = field(default_factory=list)
    """What requests were answered that asked for something."""
    refused: list[tuple[int, str, str]] = field(default_factory=list)
    others: list[tuple[int, str]] = field(default_factory=list)
    """Lines that are no requests, and were left out."""
    not_modelled: list[str] = field(default_factory=list)
    """Models of the command line that there are not: of a controller only its place and its header are there."""
    violations: list[tuple[str, int, str]] = field(default_factory=list)
    """Clause, how often, and the newest of them."""


def reproduce(path: Path) -> Reproduced:
    """Do the requests of a file on a machine as it asks for.  OSError; OptionError where there can be no such machine.

    What a device raises is raised: there is a defect in it.
    """
    if path.stat().st_size > MAX_SIZE:
        raise OptionError(f"{path}: more than {MAX_SIZE} bytes")
    try:
        found = read_reproducer(path.read_text(errors="replace"))
        launch = parse(found.arguments)
        assembling = Assembling(launch, without_unmodelled=True)
        try:
            board = assembling.build()
        except BaseException:
            assembling.board.close()
            raise
    except OptionError as error:
        raise OptionError(f"{path}: {error}") from None
    result = Reproduced(launch.machine, found.command_line, others=found.others, left=found.left)
    result.moved, result.fetched_again = found.moved, found.fetched_again
    result.not_modelled = assembling.left_out
    reached = Reached(board)
    try:
        for number, request in found.requests:
            names = reached.names(request)
            result.in_reach += bool(names)
            for name in names:
                result.reached[name] = result.reached.get(name, 0) + 1
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
