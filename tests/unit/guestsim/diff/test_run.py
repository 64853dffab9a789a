"""Comparing two machines that are alike, or not."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from guestsim.diff import known
from guestsim.diff.access import parse
from guestsim.diff.grammar.registers import Registers
from guestsim.diff.known import Known
from guestsim.diff.run import compare_random, compare_steps
from guestsim.diff.shrink import shrink
from guestsim.diff.virtio_devices import VIRTIO_BLK

from .machines import FEW, with_twin


def test_machines_that_are_alike_do_the_same(tmp_path: Path) -> None:
    report = compare_random(VIRTIO_BLK, seed=1, steps=60, open_player=with_twin(tmp_path))
    assert not report.unexplained
    assert (report.counts.steps, report.sequences) == (60, 2)


def test_a_sequence_follows_from_its_seed() -> None:
    grammar = VIRTIO_BLK.grammar
    assert grammar.sequence(Random(7), 30) == grammar.sequence(Random(7), 30)
    assert grammar.sequence(Random(7), 30) != grammar.sequence(Random(8), 30)


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
        "serial", "It has another one.", "§5.2.6", "both", ("virtio-blk",), tags=frozenset({"get-id"})
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
