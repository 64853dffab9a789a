"""RESERVE and RELEASE (6) and (10), alone and beside persistent reservations."""

from __future__ import annotations

import pytest

from devmodels.scsi import Function, Status
from tests.unit.scsi.initiator import Initiator, World

RESERVE, RELEASE = "16 00 00 00 00 00", "17 00 00 00 00 00"
CONFLICT = Status.RESERVATION_CONFLICT


@pytest.mark.parametrize(("reserve", "release"), [(RESERVE, RELEASE), ("56" + " 00" * 9, "57" + " 00" * 9)])
def test_a_unit_for_one(world: World, reserve: str, release: str) -> None:
    assert world.first.do(reserve).status is Status.GOOD
    assert world.first.do(reserve).status is Status.GOOD
    assert world.second.do(reserve).status is CONFLICT
    assert world.second.do("00 00 00 00 00 00").status is CONFLICT
    assert world.second.do("28 00 00 00 00 00 00 00 01 00", room=512).status is CONFLICT
    assert world.second.do(release).status is Status.GOOD
    assert world.second.do("00 00 00 00 00 00").status is CONFLICT
    assert world.first.do("28 00 00 00 00 00 00 00 01 00", room=512).status is Status.GOOD
    assert world.first.do(release).status is Status.GOOD
    assert world.second.do(reserve).status is Status.GOOD


@pytest.mark.parametrize(
    "cdb",
    [
        "12 00 00 00 24 00",
        "a0 00 00 00 00 00 00 00 00 10 00 00",
        "03 00 00 00 12 00",
        "4d 00 40 00 00 00 00 00 40 00",
        "1e 00 00 00 00 00",
    ],
)
def test_what_is_allowed_all_the_same(world: World, cdb: str) -> None:
    world.first.good(RESERVE)
    assert world.second.do(cdb, room=64).status is Status.GOOD


@pytest.mark.parametrize("function", [Function.LOGICAL_UNIT_RESET, Function.TARGET_RESET])
def test_a_reset_ends_it(world: World, function: Function) -> None:
    world.first.good(RESERVE)
    world.second.manage(function)
    world.second.clear()
    assert world.second.do(RESERVE).status is Status.GOOD


def test_it_ends_with_its_nexus(world: World) -> None:
    world.first.good(RESERVE)
    world.target.nexus_lost(world.first.nexus)
    assert world.second.do(RESERVE).status is Status.GOOD


def test_persistent_reservations_exclude_it_and_it_excludes_them(world: World) -> None:
    register = bytes(8) + (1).to_bytes(8, "big") + bytes(8)
    out = "5f 00 00 00 00 00 00 00 18 00"
    world.first.good(RESERVE)
    assert world.first.do(out, out=register).status is CONFLICT
    assert world.second.do("5e 00 00 00 00 00 00 00 08 00", room=8).status is CONFLICT
    world.first.good(RELEASE)
    world.first.good(out, out=register)
    assert world.first.do(RESERVE).status is CONFLICT
    assert world.second.do(RESERVE).status is CONFLICT


def test_who_holds_a_persistent_reservation_has_what_he_asks_for(world: World) -> None:
    key = (1).to_bytes(8, "big")
    world.first.good("5f 00 00 00 00 00 00 00 18 00", out=bytes(8) + key + bytes(8))
    world.first.good("5f 01 03 00 00 00 00 00 18 00", out=key + bytes(16))
    assert world.first.do(RESERVE).status is Status.GOOD
    assert world.first.do(RELEASE).status is Status.GOOD
    third = Initiator(world.target, 3)
    third.clear()
    assert third.do(RESERVE).status is CONFLICT


def test_third_parties_are_not_served(world: World) -> None:
    assert world.first.do("16 01 00 00 00 00").field == (1, 0)
    assert world.first.do("16 12 00 00 00 00").field == (1, 4)
    assert world.first.do("17 00 01 00 00 00").field[0] == 2  # type: ignore[index]
    assert world.first.do("56 10" + " 00" * 8).field == (1, 4)
    assert world.first.do("56 00 00 00 00 00 00 00 01 00", out=b"x").field == (7, None)
