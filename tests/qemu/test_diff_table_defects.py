"""Defects of what a bus master does with wrong tables: the comparison with a live QEMU finds each (SFF-8038i §1.2)."""

from __future__ import annotations

import msgspec
import pytest

from devmodels.ide_cdrom import busmaster, channel
from devmodels.ide_cdrom.busmaster import BusMaster
from guestsim.diff.grammar import ide_tables
from guestsim.diff.profiles import PROFILES, Profile
from tests.defects import Defect, after, answers, before

from .defects import found_among

pytestmark = [pytest.mark.qemu, pytest.mark.usefixtures("qemu")]

DEVICES = ("ide-disk", "ide-pair")


def _habits(monkeypatch: pytest.MonkeyPatch, **other: object) -> None:
    answers(monkeypatch, channel, "habits_of", lambda habits: msgspec.structs.replace(habits, **other))


def a_table_has_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    _habits(monkeypatch, table=1 << 40)


def a_table_has_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    def first(master: BusMaster) -> None:
        master.habits = msgspec.structs.replace(master.habits, table=1 << 3)

    before(monkeypatch, BusMaster, "start", first)


def the_end_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(busmaster, "EOT", 0)


def a_table_goes_round_at_a_border(monkeypatch: pytest.MonkeyPatch) -> None:
    def then(master: BusMaster) -> None:
        if not master._entry & 0xFFFF:
            master._entry -= 0x1_0000

    after(monkeypatch, BusMaster, "_next_region", then)


def _failed(monkeypatch: pytest.MonkeyPatch, **registers: int) -> None:
    """After an error these registers hold this."""

    def then(master: BusMaster, _error: object) -> None:
        for name, value in registers.items():
            setattr(master.registers, name, value)

    after(monkeypatch, BusMaster, "_failed", then)


def active_stays_set_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    _failed(monkeypatch, active=1)


def the_error_bit_is_never_set(monkeypatch: pytest.MonkeyPatch) -> None:
    _failed(monkeypatch, error=0)


def a_table_outside_memory_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    _habits(monkeypatch, zeroes=False)


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    "put",
    [
        a_table_has_no_end,
        a_table_has_one_entry,
        the_end_is_not_looked_at,
        a_table_goes_round_at_a_border,
    ],
)
def test_a_table_that_is_read_in_a_wrong_way_is_found(
    monkeypatch: pytest.MonkeyPatch, put: Defect, profile: Profile, name: str
) -> None:
    put(monkeypatch)
    found = found_among(name, profile, lambda random: ide_tables.wrong_table(random, ()))
    assert found is not None
    assert found.kind != "raised"


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("put", [active_stays_set_after_an_error, the_error_bit_is_never_set])
def test_a_wrong_error_is_found(monkeypatch: pytest.MonkeyPatch, put: Defect, name: str) -> None:
    """Under profile `strict`: QEMU's bus master has no errors."""
    put(monkeypatch)
    found = found_among(name, "strict", lambda random: ide_tables.wrong_table(random, ()))
    assert found is not None
    assert (found.kind, found.place) == ("register", "master+0x2")
    assert ide_tables.NOWHERE in found.now


@pytest.mark.parametrize("name", DEVICES)
def test_an_error_that_the_qemu_bus_master_has_not_is_found(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    a_table_outside_memory_is_an_error(monkeypatch)
    found = found_among(name, "qemu", lambda random: ide_tables.wrong_table(random, ()))
    assert found is not None
    assert ide_tables.NOWHERE in found.now
