"""Commands that are stopped while they run, on two machines of ours: nothing of them is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import pytest

from guestsim.diff.access import Step, Wait
from guestsim.diff.devices import DEVICES
from guestsim.diff.grammar import Action, Grammar, ahci, ahci_driver, ide
from guestsim.diff.grammar.ata_disk import DISK
from guestsim.diff.grammar.packets import CD
from guestsim.diff.run import compare_random

from .machines import with_twin

HOW = {
    "ahci": {*ahci_driver.STOPS, ahci_driver.SOFTWARE_RESET},
    "ide": {*ide.STOPS},
}


@dataclass(frozen=True, slots=True)
class Stopped:
    """Commands of a device that are all stopped."""

    grammar: Grammar
    name: str

    def sequence(self, random: Random, length: int) -> list[Action]:
        make = ahci.interrupted if self.name.startswith("ahci") else ide.interrupted
        return [make(random, CD if self.name.endswith("cd") else DISK) for _ in range(length)]

    def lower(self, actions: Sequence[Action]) -> list[Step]:
        return self.grammar.lower(actions)


@pytest.mark.long
@pytest.mark.parametrize("name", ["ahci-disk", "ahci-cd", "ide-disk", "ide-cd"])
def test_after_a_command_was_stopped_both_do_the_same(tmp_path: Path, name: str) -> None:
    device = replace(DEVICES[name], grammar=Stopped(DEVICES[name].grammar, name))
    report = compare_random(device, seed=2, steps=30, open_player=with_twin(tmp_path, device))
    assert [str(one.difference) for one in report.unexplained] == []


@pytest.mark.long
@pytest.mark.parametrize("name", ["ahci-disk", "ahci-cd", "ide-disk", "ide-cd"])
def test_they_are_stopped_in_every_way_that_qemu_survives(name: str) -> None:
    grammar = Stopped(DEVICES[name].grammar, name)
    steps = grammar.lower(grammar.sequence(Random(3), 200))
    ways = HOW[name.partition("-")[0]]
    assert {way for step in steps for way in step.tags & ways} == ways
    if name == "ahci-disk":
        assert not any({"pio-in", "pio-out"} & step.tags for step in steps), "QEMU ends of it"
    assert all(isinstance(step.accesses[-1], Wait) for step in steps)
