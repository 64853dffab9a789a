"""What a mask hides, and what it does not."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from guestsim.diff.access import Loose, Read, Step, Wait, Write
from guestsim.diff.ata_devices import AHCI_DISK
from guestsim.diff.masks import Mask, strict
from guestsim.diff.profiles import PROFILES, Profile
from guestsim.diff.run import compare_random, compare_steps

from .machines import FEW, with_twin

STATUS = Read("ide", 7, 1)
DSC = Mask("DSC", "", "ide", 7, 8, 0x10, frozenset({"fails"}), (0x10, 0))
FAILS = frozenset({"fails"})


def test_it_hides_its_bits_where_they_are_what_it_says() -> None:
    assert DSC.hides(STATUS, 0x51, 0x41, FAILS)


def test_it_hides_no_other_values_of_them() -> None:
    assert not DSC.hides(STATUS, 0x41, 0x51, FAILS)


def test_it_hides_no_other_bits() -> None:
    assert not DSC.hides(STATUS, 0x51, 0x40, FAILS)


def test_it_hides_nothing_in_other_steps() -> None:
    assert not DSC.hides(STATUS, 0x51, 0x41, frozenset({"read-dma"}))


OURS, THEIRS = b"serial-number-of-dev", b"serial-number-of-two"


@pytest.mark.long
@pytest.mark.parametrize("profile", PROFILES)
def test_one_of_profile_strict_hides_nothing_under_the_other(tmp_path: Path, profile: Profile) -> None:
    few = replace(FEW.under(profile), masks=strict(*FEW.masks))
    twin = with_twin(tmp_path, few, serial=THEIRS.decode())
    (found,) = compare_random(few, seed=1, steps=5, open_player=twin).unexplained
    at = re.search("at (0x[0-9a-f]+)", found.difference.ours)
    assert at is not None
    up, ask = found.steps
    loose = Loose("failed-data", int(at[1], 16), 3)
    report = compare_steps(few, [up, replace(ask, accesses=(loose, *ask.accesses))], open_player=twin)
    assert (not report.unexplained) is (profile == "strict")
    names = dict.fromkeys(mask.name for mask in few.masks if profile == "strict")
    assert [name for name, *_ in report.masked] == [*names]


@pytest.mark.long
@pytest.mark.parametrize(("values", "hidden"), [((OURS, THEIRS), True), ((THEIRS, OURS), False)])
def test_memory_is_hidden_where_it_holds_what_is_said(
    tmp_path: Path, values: tuple[bytes, bytes], hidden: bool
) -> None:
    twin = with_twin(tmp_path, serial=THEIRS.decode())
    (found,) = compare_random(FEW, seed=1, steps=5, open_player=twin).unexplained
    at = re.search("at (0x[0-9a-f]+)", found.difference.ours)
    assert at is not None
    loose = Loose("failed-data", int(at[1], 16) - OURS.index(b"dev"), len(OURS), values=values)
    up, ask = found.steps
    report = compare_steps(FEW, [up, replace(ask, accesses=(loose, *ask.accesses))], open_player=twin)
    assert (not report.unexplained, report.counts.masked["failed-data"]) == (hidden, hidden)


@pytest.mark.long
@pytest.mark.parametrize(
    ("mask", "ours", "found"),
    [("control-bits", 0x300, 0), ("control-bits", 0, 1), ("issued", 0, 0)],
)
def test_an_exact_one_says_what_ours_must_hold_also_where_theirs_holds_the_same(
    tmp_path: Path, mask: str, ours: int, found: int
) -> None:
    steps = [
        Step("look", (Write("hba", 0x12C, 4, 0x300), Read("hba", 0x12C, 4, but=(mask, ours, 0x1300)), Wait()))
    ]
    report = compare_steps(AHCI_DISK, steps, open_player=with_twin(tmp_path, AHCI_DISK))
    assert len(report.unexplained) == found
