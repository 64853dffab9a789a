"""The tray and what is in it: who opens it, who keeps it closed, what hosts are told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from devmodels.scsi import Function, Status
from tests.unit.scsi.mmc.driveworld import BLOCK, DriveWorld, content, data_disc, iso

GOOD = Status.GOOD
EJECT, LOAD, START = "1b 00 00 00 02 00", "1b 00 00 00 03 00", "1b 00 00 00 01 00"
PREVENT, ALLOW = "1e 00 00 00 01 00", "1e 00 00 00 00 00"
PERSISTENT_PREVENT, PERSISTENT_ALLOW = "1e 00 00 00 03 00", "1e 00 00 00 02 00"
READY = "00 00 00 00 00 00"
MEDIA, POWER, OPERATIONAL = 4, 2, 1
CLOSED, OPEN, BECOMING_READY = (2, 0x3A01), (2, 0x3A02), (2, 0x0401)
CHANGED = (6, 0x2800)
MS = 1_000_000


def event(world: DriveWorld, kind: int = MEDIA, *, who: int = 0) -> tuple[int, int]:
    """Event code and status byte of one poll for one class."""
    initiator = (world.first, world.second)[who]
    data = initiator.good(bytes((0x4A, 1, 0, 0, 1 << kind, 0, 0, 0, 8, 0)), room=8)
    assert data[:4] == bytes((0, 6, kind, 0x16))
    return data[4], data[5]


def state(world: DriveWorld, *, who: int = 0) -> tuple[int, int]:
    """Sense key and code of TEST UNIT READY."""
    answer = (world.first, world.second)[who].do(READY)
    return answer.key, answer.code


def test_an_empty_drive(insert: Callable[..., DriveWorld]) -> None:
    world = insert()
    assert state(world) == CLOSED
    assert event(world) == (0, 0)
    for cdb in ("25" + " 00" * 9, "28 00 00 00 00 00 00 00 01 00", "43 00 00 00 00 00 00 00 04 00"):
        answer = world.first.do(cdb, room=BLOCK)
        assert (answer.key, answer.code) == CLOSED
    assert world.first.do("12 00 00 00 60 00", room=96).status is GOOD
    assert world.first.do("5a 08 3f 00 00 00 00 01 00 00", room=256).status is GOOD
    world.first.good(EJECT)
    assert state(world) == OPEN
    assert event(world) == (0, 1)
    world.first.good(EJECT)
    world.first.good(LOAD)
    assert state(world) == CLOSED
    assert world.moves() == [True, False]


def test_the_guest_ejects_and_loads(cd: DriveWorld) -> None:
    cd.first.good(EJECT)
    assert cd.moves() == [True]
    assert event(cd) == (3, 1)
    assert event(cd) == (0, 1)
    assert state(cd) == state(cd, who=1) == OPEN
    assert event(cd, OPERATIONAL)[0] == 2
    cd.first.good(LOAD)
    assert cd.moves() == [False]
    assert state(cd) == state(cd, who=1) == CHANGED
    assert state(cd) == (0, 0)
    assert event(cd) == (2, 2)
    # Each host has its own.
    assert [event(cd, who=1) for _ in range(3)] == [(3, 2), (2, 2), (0, 2)]
    assert cd.first.good("28 00 00 00 00 07 00 00 01 00", room=BLOCK) == content(7)


def test_the_user_changes_the_medium(cd: DriveWorld, tmp_path: Path) -> None:
    cd.change(iso(tmp_path / "other.iso", 10))
    assert cd.moves() == [True, False]
    assert state(cd) == CHANGED
    assert [event(cd)[0] for _ in range(3)] == [3, 2, 0]
    assert cd.first.good("25" + " 00" * 9, room=8)[:4] == bytes((0, 0, 0, 9))
    cd.change(None)
    assert state(cd) == CLOSED
    assert [event(cd) for _ in range(2)] == [(3, 0), (0, 0)]


def test_carriers_hear_which_events_there_are(cd: DriveWorld) -> None:
    cd.first.good(EJECT)
    assert set(cd.classes) == {1 << OPERATIONAL, 1 << MEDIA}


def test_a_medium_that_takes_its_time(insert: Callable[..., DriveWorld], tmp_path: Path) -> None:
    world = insert(iso(tmp_path / "cd.iso"), load_time=500)
    assert state(world) == (0, 0)
    world.first.good(EJECT)
    answer = world.first.send(LOAD)
    assert answer.status is GOOD
    ready = world.first.send(READY)
    assert (ready.key, ready.code) == BECOMING_READY
    assert world.first.send("28 00 00 00 00 00 00 00 01 00", room=BLOCK).code == 0x0401
    assert event(world) == (3, 2)
    assert event(world) == (0, 2)
    world.context.run_until_idle()
    assert world.context.now_ns() == 500 * MS
    assert event(world) == (2, 2)
    assert state(world) == CHANGED


def test_the_tray_opens_before_the_medium_is_ready(insert: Callable[..., DriveWorld], tmp_path: Path) -> None:
    world = insert(iso(tmp_path / "cd.iso"), load_time=500)
    world.first.good(EJECT)
    assert world.first.send(LOAD).status is GOOD
    assert world.first.send(EJECT).status is GOOD
    world.context.run_until_idle()
    assert [event(world)[0] for _ in range(3)] == [3, 3, 0]
    assert state(world) == OPEN


# --- locked


def test_a_locked_tray_stays_closed(cd: DriveWorld) -> None:
    cd.second.good(PREVENT)
    for initiator in (cd.first, cd.second):
        answer = initiator.do(EJECT)
        assert (answer.key, answer.code) == (5, 0x5302)
    assert cd.drive.tray.locked
    capabilities = cd.first.good("5a 08 2a 00 00 00 00 00 28 00", room=40)
    assert capabilities[8 + 6] & 2
    cd.first.good(ALLOW)
    assert cd.first.do(EJECT).code == 0x5302
    cd.second.good(ALLOW)
    cd.first.good(EJECT)
    # What is open can be locked, and closed.
    cd.first.good(PREVENT)
    cd.first.good(EJECT)
    cd.first.good(LOAD)
    assert cd.moves() == [True, False]


def test_an_empty_locked_tray(insert: Callable[..., DriveWorld]) -> None:
    world = insert()
    world.first.good(PREVENT)
    answer = world.first.do(EJECT)
    assert (answer.key, answer.code) == (2, 0x5302)


def test_the_users_wish_is_told_while_the_tray_is_locked(cd: DriveWorld) -> None:
    cd.first.good(PREVENT)
    cd.drive.tray.request_eject(force=False)
    assert event(cd) == (1, 2)
    assert event(cd, who=1) == (1, 2)
    cd.first.good(ALLOW)
    cd.first.good(EJECT)
    assert cd.moves() == [True]


def test_the_user_insists(cd: DriveWorld) -> None:
    cd.first.good(PREVENT)
    cd.second.good(PERSISTENT_PREVENT)
    cd.drive.tray.request_eject(force=True)
    assert not cd.drive.tray.locked
    cd.drive.tray.user_opens()
    assert [event(cd)[0] for _ in range(3)] == [1, 3, 0]


def test_preventing_persistently_keeps_the_user_out_but_no_host(cd: DriveWorld) -> None:
    cd.first.good(PERSISTENT_PREVENT)
    assert cd.drive.tray.locked
    assert event(cd, OPERATIONAL) == (0, 0x80)
    # The two states know nothing of each other.
    cd.first.good(ALLOW)
    assert cd.drive.tray.locked
    cd.second.good(EJECT)
    cd.first.good(PERSISTENT_ALLOW)
    assert event(cd, OPERATIONAL)[1] == 0
    assert not cd.drive.tray.locked


@pytest.mark.parametrize("how", ["reset", "lost"])
def test_what_ends_preventing(cd: DriveWorld, how: str) -> None:
    cd.first.good(PREVENT)
    cd.first.good(PERSISTENT_PREVENT)
    if how == "reset":
        cd.second.manage(Function.LOGICAL_UNIT_RESET)
    else:
        cd.target.nexus_lost(cd.first.nexus)
    assert not cd.drive.tray.locked
    cd.second.clear()
    cd.second.good(EJECT)


def test_a_reset_leaves_the_tray_alone(cd: DriveWorld) -> None:
    cd.first.good(EJECT)
    cd.first.manage(Function.LOGICAL_UNIT_RESET)
    assert state(cd) == (6, 0x2903)
    assert state(cd) == OPEN
    assert event(cd) == (0, 1)


# --- events


@pytest.mark.parametrize("room", [0, 4])
def test_an_event_that_there_is_no_room_for_stays(cd: DriveWorld, room: int) -> None:
    """Hosts ask for the header alone to learn which classes there are."""
    cd.first.good(EJECT)
    header = bytes((0, 6, MEDIA, 0x16))[:room]
    assert cd.first.good(bytes((0x4A, 1, 0, 0, 1 << MEDIA, 0, 0, 0, room, 0)), room=8) == header
    assert event(cd) == (3, 1)
    assert event(cd) == (0, 1)


def test_one_event_at_a_time_and_of_the_first_class_that_has_one(cd: DriveWorld) -> None:
    cd.first.good(EJECT)
    poll = "4a 01 00 00 7e 00 00 00 08 00"
    found = [cd.first.good(poll, room=8) for _ in range(3)]
    assert [(data[2], data[4]) for data in found] == [(OPERATIONAL, 2), (MEDIA, 3), (OPERATIONAL, 0)]
    assert found[0][6:8] == bytes((0, 1))


def test_no_class_that_there_is(cd: DriveWorld) -> None:
    for classes in (0x00, 0x01, 0x28, 0xC1):
        data = cd.first.good(bytes((0x4A, 1, 0, 0, classes, 0, 0, 0, 8, 0)), room=8)
        assert data == bytes((0, 2, 0x80, 0x16))


def test_events_are_polled_for(cd: DriveWorld) -> None:
    answer = cd.first.do("4a 00 00 00 10 00 00 00 08 00", room=8)
    assert (answer.key, answer.code, answer.field) == (5, 0x2400, (1, 0))


def test_events_and_configuration_wait_for_no_attention(cd: DriveWorld) -> None:
    cd.change(None)
    cd.change(data_disc(100))
    assert event(cd)[0] == 3
    assert cd.first.do("46 00 00 00 00 00 00 00 08 00", room=8).status is GOOD
    assert state(cd) == CHANGED


def test_so_many_events_are_kept(cd: DriveWorld) -> None:
    for _ in range(50):
        cd.drive.tray.request_eject(force=False)
    assert [event(cd)[0] for _ in range(10)] == [1] * 8 + [0, 0]


# --- images


def test_an_image_without_a_block(insert: Callable[..., DriveWorld]) -> None:
    world = insert({"driver": "null-co", "size": 1024})
    assert state(world) == (2, 0x3000)
    assert event(world) == (0, 2)


def test_an_image_that_changes_its_size_is_another_medium(insert: Callable[..., DriveWorld]) -> None:
    world = insert({"driver": "memory", "size": 100 * BLOCK})
    world.context.run(world.nodes[0].truncate(200 * BLOCK))
    assert state(world) == CHANGED
    assert [event(world)[0] for _ in range(3)] == [3, 2, 0]
    assert world.first.good("25" + " 00" * 9, room=8)[3] == 199
    assert world.moves() == []


# --- power conditions


def test_power_conditions_that_hosts_ask_for(cd: DriveWorld) -> None:
    for number, condition in ((2, 2), (3, 3), (5, 4)):
        cd.first.good(bytes((0x1B, 0, 0, 0, number << 4, 0)))
        assert event(cd, POWER) == (1, condition)
        assert event(cd, POWER) == (0, condition)
        cd.first.good("28 00 00 00 00 00 00 00 01 00", room=BLOCK)
        assert event(cd, POWER) == (1, 1)
    answer = cd.first.do("1b 00 00 00 40 00")
    assert (answer.code, answer.field) == (0x2400, (4, 7))


def test_power_conditions_that_come_by_themselves(cd: DriveWorld) -> None:
    page = bytes.fromhex("1a0a 00 03 0000000a 00000014")
    cd.first.good("55 10 00 00 00 00 00 00 14 00", out=bytes(8) + page)

    def rest(ms: int) -> None:
        cd.context.call_at(cd.context.now_ns() + ms * MS, lambda: None)
        cd.context.run_until_idle()

    rest(999)
    assert event(cd, POWER) == (0, 1)
    rest(1)
    assert event(cd, POWER) == (1, 2)
    rest(1000)
    assert event(cd, POWER) == (1, 3)
    cd.first.good("28 00 00 00 00 00 00 00 01 00", room=BLOCK)
    assert event(cd, POWER) == (1, 1)
    cd.first.good(
        "55 10 00 00 00 00 00 00 14 00", out=bytes(8) + bytes.fromhex("1a0a 0000 00000000 00000000")
    )
    rest(100_000)
    assert event(cd, POWER) == (0, 1)


def test_starting_and_stopping(cd: DriveWorld) -> None:
    cd.first.good("1b 00 00 00 00 00")
    cd.first.good(START)
    cd.first.good("1b 01 00 00 01 00")
    cd.first.good(EJECT)
    answer = cd.first.do(START)
    assert (answer.key, answer.code) == OPEN
    assert cd.first.do("1b 00 00 01 03 00").field == (3, 0)


def test_mechanism_status(cd: DriveWorld) -> None:
    cd.first.good("2b 00 00 00 01 02 00 00 00 00")
    assert cd.first.good("bd" + " 00" * 8 + " 08 00 00", room=8) == bytes((0, 0, 0, 1, 2, 1, 0, 0))
    cd.first.good(EJECT)
    assert cd.first.good("bd" + " 00" * 8 + " 08 00 00", room=8)[1] == 0x10
