"""Comparing two machines that are alike, or not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from guestsim.diff import known
from guestsim.diff.access import Read, Rest, Step, parse
from guestsim.diff.devices import DEVICES
from guestsim.diff.entries import Known, Shown
from guestsim.diff.grammar.registers import Registers
from guestsim.diff.play import Difference, Player
from guestsim.diff.run import compare_random, compare_steps
from guestsim.diff.shrink import shrink
from guestsim.diff.virtio_devices import VIRTIO_BLK

from .machines import FEW, with_twin


def test_machines_that_are_alike_do_the_same(tmp_path: Path) -> None:
    report = compare_random(VIRTIO_BLK, seed=1, steps=60, open_player=with_twin(tmp_path))
    assert not report.unexplained
    assert (report.counts.steps, report.sequences) == (60, 2)


@pytest.mark.long
@pytest.mark.parametrize("name", ["ahci-disk", "ahci-cd", "ide-disk", "ide-cd", "ide-pair"])
def test_ata_machines_that_are_alike_do_the_same(tmp_path: Path, name: str) -> None:
    report = compare_random(DEVICES[name], seed=1, steps=30, open_player=with_twin(tmp_path, DEVICES[name]))
    assert [str(one.difference) for one in report.unexplained] == []
    assert report.sequences == 1
    assert report.counts.waits > 30


def test_what_is_not_seen_again_is_unexplained_and_saved_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = Difference("register", "PxCI", "0x0", "0x1", 2, "flush", frozenset(), frozenset())
    shown = iter([None, once])

    def play(player: Player, steps: Sequence[Step]) -> Difference | None:
        player.counts.steps += len(steps)
        return next(shown, None)

    monkeypatch.setattr(Player, "play", play)
    report = compare_random(FEW, seed=1, steps=10, open_player=with_twin(tmp_path), folder=tmp_path)
    (found,) = report.unexplained
    assert (found.again, found.sequence, len(found.steps)) == (False, 1, 5)
    assert found.path is not None
    assert found.path.name == "virtio-blk-register-pxci-1-1.accesses"
    assert found.path.read_text().splitlines()[1] == "# Not seen again."


def test_where_no_sequence_can_begin_there_is_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    never = Difference("gone", "qemu", "goes on", "QEMU has ended", -1, "begin", frozenset(), frozenset())
    monkeypatch.setattr(Player, "play", lambda *_: never)
    report = compare_random(FEW, seed=1, steps=10, open_player=with_twin(tmp_path))
    assert [(one.difference, one.count) for one in report.unexplained] == [(never, 1)]
    assert report.counts.steps == 0


def test_rest_that_never_comes_is_a_difference(tmp_path: Path) -> None:
    twin = with_twin(tmp_path, num_queues=1)
    until = Rest(Read("device", 0x22, 2))
    report = compare_steps(VIRTIO_BLK, [Step("wait for it", (until,))], open_player=twin)
    (found,) = report.unexplained
    assert str(found.difference) == "register device+0x22: ours 0x2, 0x1 there (step 0: wait for it)"


def test_a_sequence_follows_from_its_seed() -> None:
    grammar = VIRTIO_BLK.grammar
    assert grammar.sequence(Random(7), 30) == grammar.sequence(Random(7), 30)
    assert grammar.sequence(Random(7), 30) != grammar.sequence(Random(8), 30)


@pytest.mark.long
def test_a_difference_is_shrunk_and_saved_and_shows_again(tmp_path: Path) -> None:
    twin = with_twin(tmp_path, serial="of-another-device")
    report = compare_random(FEW, seed=1, steps=10, open_player=twin, folder=tmp_path)
    (found,) = report.unexplained
    assert (found.difference.kind, found.difference.place) == ("memory", "buffers")
    assert [step.tags for step in found.steps] == [frozenset(), frozenset({"get-id"})]
    assert found.path is not None
    name, steps = parse(found.path.read_text(), found.path.name)
    assert name == "virtio-blk"
    again = compare_steps(VIRTIO_BLK, steps, open_player=twin)
    assert [one.difference for one in again.unexplained] == [found.difference]


def test_a_difference_that_is_known_is_counted_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = Known(
        "serial",
        "It has another one.",
        "§5.2.6",
        "both",
        ("virtio-blk",),
        (Shown("memory", "buffers", "73 65 *", "6f 66 *"),),
        tags=frozenset({"get-id"}),
    )
    monkeypatch.setattr(known, "KNOWN", (entry,))
    twin = with_twin(tmp_path, serial="of-another-device")
    report = compare_random(FEW, seed=1, steps=10, open_player=twin)
    assert not report.unexplained
    assert report.known["serial"] > 0


def test_what_is_masked_is_counted(tmp_path: Path) -> None:
    twin = with_twin(tmp_path, flush=False)
    report = compare_random(FEW, seed=1, steps=10, open_player=twin)
    assert report.unexplained[0].difference.place == "common.device_feature"
    assert {name for name, _, count in report.masked if count} <= {mask.name for mask in VIRTIO_BLK.masks}


def test_shrinking_leaves_what_is_needed() -> None:
    many = [Registers(str(number), ()) for number in range(40)]
    shortest = shrink(many, lambda some: many[5] in some and many[30] in some)
    assert shortest == [many[5], many[30]]


def difference(place: str, ours: str, theirs: str, *now: str, kind: str = "memory") -> Difference:
    return Difference(kind, place, ours, theirs, 3, "a step", frozenset(now), frozenset(now))


OVERRUN = difference("buffers", "00 00 00 00 at 0x1020400", "01 00 00 00 at 0x1020400", "scsi:log-sense")


@pytest.mark.parametrize(
    ("found", "other", "same"),
    [
        pytest.param(
            difference("buffers", "4a 00 at 0x1020010", "00 00 at 0x1020010"), OVERRUN, False, id="bytes"
        ),
        pytest.param(
            OVERRUN, difference("buffers", "00 05 at 0x1020010", "01 07 at 0x1020010"), True, id="moved"
        ),
        pytest.param(
            difference("queue 0 used index", "05 00", "06 00", "in-flight", "out"),
            difference("queue 0 used index", "01 00", "02 00", "out"),
            True,
            id="earlier",
        ),
        pytest.param(
            difference("queue 0 used index", "05 00", "06 00", "out"),
            difference("queue 0 used index", "01 00", "02 00", "queue-reset"),
            False,
            id="another step",
        ),
        pytest.param(
            difference("PxCI", "0x0", "0x1", "stop", kind="register"),
            difference("PxCI", "0x0", "0x2", "stop", kind="register"),
            False,
            id="values",
        ),
    ],
)
def test_a_shorter_sequence_shows_the_same_difference(
    found: Difference, other: Difference, *, same: bool
) -> None:
    assert other.like(found) is same


def test_shrinking_keeps_to_its_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = difference("buffers", "4a 00 at 0x1020010", "00 00 at 0x1020010", "one")

    def play(player: Player, steps: Sequence[Step]) -> Difference:
        player.counts.steps += len(steps)
        return first if len(steps) > 3 else OVERRUN

    monkeypatch.setattr(Player, "play", play)
    report = compare_random(FEW, seed=1, steps=1, open_player=with_twin(tmp_path))
    assert [one.difference for one in report.unexplained] == [first]
    assert len(report.unexplained[0].steps) == 4
