"""Logical units: a disk and a CD drive under two initiators, all of their commands with any fields and data."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack

from fuzz.choices import Choices
from fuzz.target import Run
from tests.unit.scsi.hostility import Initiators, Step
from tests.unit.scsi.kinds import KINDS
from tests.unit.scsi.oracle import Oracle, play

STEPS = 24
"""At most."""


def _run(name: str) -> Run:
    kind = KINDS[name]
    configurations = sorted(kind.configurations)

    def run(data: bytes) -> None:
        choices = Choices(data)
        with ExitStack() as stack:
            bench = kind.configurations[choices.choice(configurations)](stack)
            steps = list[Step]()
            for step in Initiators(kind, choices).steps(STEPS):
                steps.append(step)
                if not choices.left:
                    break
            play(bench, Oracle(bench, Counter(), Counter()), steps)

    return run


def disk() -> Run:
    """A disk, in any of its configurations."""
    return _run("disk")


def drive() -> Run:
    """A CD drive with discs of any kind."""
    return _run("drive")


def nothing() -> Run:
    """What answers where there is no unit."""
    return _run("nothing")
