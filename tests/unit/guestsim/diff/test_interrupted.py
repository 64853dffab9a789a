"""Commands that are stopped while they run, on two machines of ours: nothing of them is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import pytest

from guestsim.diff.access import Access, Break, Held, Late, Read, Resume, Step, Wait, Write, lines, parse
from guestsim.diff.devices import DEVICES
from guestsim.diff.grammar import Action, Grammar, ahci, ahci_driver, ide
from guestsim.diff.grammar.ata import Task
from guestsim.diff.grammar.ata_disk import DISK
from guestsim.diff.grammar.packets import CD
from guestsim.diff.run import compare_random
from guestsim.diff.sides import OurSide, Overtaken

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


@pytest.mark.long
@pytest.mark.parametrize("name", ["ahci-disk", "ahci-cd", "ide-disk", "ide-cd"])
def test_some_are_held_when_they_are_stopped(tmp_path: Path, name: str) -> None:
    device = replace(DEVICES[name], grammar=Stopped(DEVICES[name].grammar, name))
    report = compare_random(device, seed=3, steps=60, open_player=with_twin(tmp_path, device))
    assert [str(one.difference) for one in report.unexplained] == []
    assert report.counts.held > 1


def held_when_stopped(name: str, how: str) -> Step:
    """A read that is stopped while it is held."""
    one = Task("read-dma", 0xC8, "dma-in", lba=3, count=1, room=512)
    stopped: Action = ide.Interrupted(ide.Issue(one, held="read_aio"), how, 0)
    if name.startswith("ahci"):
        stopped = ahci_driver.Interrupted(ahci_driver.Issue((one,), held="read_aio"), how)
    (step,) = DEVICES[name].grammar.lower([stopped])
    return step


@pytest.mark.parametrize(
    ("name", "how"),
    [*(("ahci-disk", how) for how in ahci_driver.STOPS), *(("ide-disk", how) for how in ide.STOPS)],
)
def test_what_is_held_is_stopped_before_it_goes_on(tmp_path: Path, name: str, how: str) -> None:
    step = held_when_stopped(name, how)
    order = [one for one in step.accesses if isinstance(one, Break | Held | Late | Resume)]
    assert [type(one) for one in order] == [Break, Held, Late, Resume]
    between = step.accesses[step.accesses.index(order[2]) : step.accesses.index(order[3])]
    assert any(isinstance(one, Write) for one in between)
    with with_twin(tmp_path, DEVICES[name])() as player:
        assert player.play(parse("\n".join(lines(name, [step])), "file")[1]) is None
        assert player.counts.held == 1


def _overtake(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first accesses of theirs after `late` come too late."""
    late, do = OurSide.late, OurSide.do
    overtaken = False

    def comes_late(side: OurSide, tag: str) -> None:
        nonlocal overtaken
        overtaken = True
        late(side, tag)

    def does(side: OurSide, accesses: Sequence[Access]) -> list[int]:
        nonlocal overtaken
        if side.name != "ours" and overtaken:
            overtaken = False
            raise Overtaken
        return do(side, accesses)

    monkeypatch.setattr(OurSide, "late", comes_late)
    monkeypatch.setattr(OurSide, "do", does)


def test_a_sequence_ends_where_theirs_may_have_gone_on_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which of the two came first is not known, so nothing that comes after it says anything."""
    step = held_when_stopped("ahci-disk", "COMRESET")
    with monkeypatch.context() as patch, with_twin(tmp_path, DEVICES["ahci-disk"])() as player:
        _overtake(patch)
        assert player.play([step]) is None
        assert player.counts.overtaken == 1
        assert not player.ours.holds("A")
        patch.undo()
        assert player.play([step]) is None
        assert player.counts.overtaken == 1


def test_what_theirs_was_too_late_for_ours_has_not_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else ours alone would go on without bus mastering, which no reset of the device brings back."""
    command = Read("pci", 4, 2)
    with with_twin(tmp_path, DEVICES["ide-disk"])() as player:
        player.play([])
        before = player.ours.do([command])
        _overtake(monkeypatch)
        assert player.play([held_when_stopped("ide-disk", "no bus master")]) is None
        assert player.counts.overtaken == 1
        assert player.ours.do([command]) == player.theirs.do([command]) == before


def test_what_a_stopped_command_leaves_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resume = OurSide.resume

    def left(side: OurSide, tag: str) -> None:
        resume(side, tag)
        if side.name == "twin":
            side.memory[0x3_0000] = 1

    monkeypatch.setattr(OurSide, "resume", left)
    with with_twin(tmp_path, DEVICES["ahci-disk"])() as player:
        found = player.play([held_when_stopped("ahci-disk", "COMRESET")])
        assert found is not None
        assert (found.kind, found.place) == ("memory", "buffers")


def test_queued_commands_are_held_together_and_go_on_in_another_order(tmp_path: Path) -> None:
    action = ahci.held_together(Random(4), DISK)
    assert isinstance(action, ahci_driver.HeldTogether)
    assert list(action.order) != sorted(action.order)
    (step,) = DEVICES["ahci-disk"].grammar.lower([action])
    tags = [one.tag for one in step.accesses if isinstance(one, Held | Resume)]
    count = len(action.tasks)
    assert tags[:count] == list("ABCD"[:count])
    assert tags[count:] == ["ABCD"[at] for at in action.order]
    with with_twin(tmp_path, DEVICES["ahci-disk"])() as player:
        assert player.play(parse("\n".join(lines("ahci-disk", [step])), "file")[1]) is None
        assert player.counts.held == count
    for one in action.simpler():
        assert isinstance(one, ahci_driver.HeldTogether)
        assert sorted(one.order) == list(range(len(one.tasks)))


@pytest.mark.parametrize("name", ["ahci-cd", "ide-cd"])
def test_packets_by_pio_are_held_too_and_no_reset_waits_for_them(tmp_path: Path, name: str) -> None:
    make = ahci.interrupted if name.startswith("ahci") else ide.interrupted
    grammar = DEVICES[name].grammar
    for seed in range(400):
        action = make(Random(seed), CD)
        one = action.issue.tasks[0] if isinstance(action, ahci_driver.Interrupted) else action.issue.task
        if one.packet and not one.features and action.issue.held:
            break
    (step,) = grammar.lower([action])
    assert not any(isinstance(each, Late) for each in step.accesses)
    with with_twin(tmp_path, DEVICES[name])() as player:
        assert player.play([step]) is None
        assert player.counts.held == 1
