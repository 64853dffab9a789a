"""HBAs and IDE channels with disks and with CD drives: commands, structures in memory, registers, resets, hot plug.

The grammar and what must hold are `tests.unit.ata.hostility`'s: nothing is written beside what the guest gave, each
command ends once, nothing stays mapped, and after a reset a driver that begins anew finds a device that works.
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack

from fuzz.choices import Choices
from fuzz.target import Run
from tests.unit.ata.test_hostility import CONFIGURATIONS, KINDS

EXAMPLES = 4
"""At most, to one machine."""


def _run(kind: str) -> Run:
    make, generate = KINDS[kind]

    def run(data: bytes) -> None:
        choices = Choices(data)
        with ExitStack() as stack:
            bench = make(stack, choices.choice(CONFIGURATIONS), Counter())
            for _ in range(EXAMPLES):
                if choices.left:
                    bench.play(generate(choices))

    return run


def ahci_disk() -> Run:
    """An HBA with a disk."""
    return _run("ahci-disk")


def ahci_drive() -> Run:
    """An HBA with a CD drive."""
    return _run("ahci-drive")


def ide_disk() -> Run:
    """A channel with a disk."""
    return _run("ide-disk")


def ide_drive() -> Run:
    """A channel with a CD drive."""
    return _run("ide-drive")
