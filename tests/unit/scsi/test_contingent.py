"""What the control mode page makes of errors: QERR ends other tasks, UA_INTLCK_CTRL keeps conditions (SPC-4 §7.5.8)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from devmodels.scsi import Outcome, Status, TaskAttribute
from devmodels.scsi.asc import Asc
from tests.unit.scsi.initiator import Answer, Initiator
from tests.unit.scsi.slowdisk import SlowWorld

READY = "00 00 00 00 00 00"
WRONG = "28 00 ff ff ff ff 00 00 01 00"
WRITE = "2a 00 00 00 00 00 00 00 01 00"
BLOCK = bytes(512)

ALL, OWN = 0b01 << 1, 0b11 << 1
INTERLOCK, INTERLOCK_STATUS = 0x20, 0x30


@pytest.fixture
def world() -> Iterator[SlowWorld]:
    world = SlowWorld(queue_depth=3)
    yield world
    world.close()


def control(world: SlowWorld, *, qerr: int = 0, interlock: int = 0, tas: bool = False) -> None:
    """Set the control mode page; everybody hears of it."""
    page = bytes((0x0A, 0x0A, 0, 0x10 | qerr, interlock, 0x40 * tas)) + bytes(6)
    world.first.good("15 10 00 00 10 00", out=bytes(4) + page)
    while world.second.good("03 00 00 00 12 00", room=18)[2] & 0xF:
        pass


def held(initiator: Initiator) -> Answer:
    """A write that the disk does not answer."""
    return initiator.send(WRITE, out=BLOCK)


def fail(initiator: Initiator) -> None:
    assert initiator.do(WRONG).status is Status.CHECK_CONDITION


def ends(*answers: Answer) -> list[Outcome]:
    return [each.outcome for each in answers]


def test_usually_others_go_on(world: SlowWorld) -> None:
    mine, other = held(world.first), held(world.second)
    fail(world.first)
    world.release()
    assert ends(mine, other) == [Outcome.COMPLETE, Outcome.COMPLETE]


def test_one_error_ends_the_tasks_of_the_same_nexus(world: SlowWorld) -> None:
    control(world, qerr=OWN)
    mine, other = held(world.first), held(world.second)
    fail(world.first)
    world.release()
    assert ends(mine, other) == [Outcome.ABORTED, Outcome.COMPLETE]
    assert world.second.do(READY).status is Status.GOOD


def test_or_of_all_and_the_others_are_told(world: SlowWorld) -> None:
    control(world, qerr=ALL)
    mine, other = held(world.first), held(world.second)
    fail(world.first)
    world.release()
    assert ends(mine, other) == [Outcome.ABORTED, Outcome.ABORTED]
    assert world.second.do(READY).code == Asc.COMMANDS_CLEARED_BY_ANOTHER_INITIATOR
    assert world.first.do(READY).status is Status.GOOD


def test_or_they_get_a_status(world: SlowWorld) -> None:
    control(world, qerr=ALL, tas=True)
    mine, other = held(world.first), held(world.second)
    fail(world.first)
    world.release()
    assert ends(mine, other) == [Outcome.ABORTED, Outcome.COMPLETE]
    assert other.status is Status.TASK_ABORTED


def test_what_waited_for_the_one_that_failed_does_not_begin(world: SlowWorld) -> None:
    control(world, qerr=OWN)
    runs = held(world.first)
    wrong = world.first.send(WRONG, attribute=TaskAttribute.ORDERED)
    waits = world.first.send(WRITE, out=b"x" * 512, attribute=TaskAttribute.ORDERED)
    world.release()
    assert ends(runs, wrong, waits) == [Outcome.COMPLETE, Outcome.COMPLETE, Outcome.ABORTED]
    world.watched.held = False
    assert world.first.good("28 00 00 00 00 00 00 00 01 00", room=512) == BLOCK


def test_with_the_interlock_a_condition_stays_until_request_sense(world: SlowWorld) -> None:
    control(world, interlock=INTERLOCK)
    world.disk.establish(Asc.CAPACITY_DATA_CHANGED)
    assert [world.first.do(READY).code for _ in range(3)] == [0x2A09] * 3
    assert world.first.good("12 00 00 00 24 00", room=36)[0] == 0
    assert world.first.good("03 00 00 00 12 00", room=18)[12:14].hex() == "2a09"
    assert world.first.do(READY).status is Status.GOOD


def test_the_list_of_units_does_not_clear_it(world: SlowWorld) -> None:
    control(world, interlock=INTERLOCK)
    world.disk.establish(Asc.REPORTED_LUNS_DATA_CHANGED)
    world.first.good("a0 00 00 00 00 00 00 00 00 10 00 00", room=16)
    assert world.first.do(READY).code == 0x3F0E


def test_statuses_are_remembered(world: SlowWorld) -> None:
    control(world, interlock=INTERLOCK_STATUS)
    for _ in range(3):
        held(world.first)
    assert held(world.first).status is Status.TASK_SET_FULL
    assert held(world.second).status is Status.BUSY
    world.release()
    world.watched.held = False
    assert world.first.do(READY).code == 0x2C08
    assert world.second.do(READY).code == 0x2C07
    world.first.good("03 00 00 00 12 00", room=18)
    world.second.good("03 00 00 00 12 00", room=18)
    world.first.good("16 00 00 00 00 00")
    assert world.second.do(WRITE, out=BLOCK).status is Status.RESERVATION_CONFLICT
    assert world.second.good("03 00 00 00 12 00", room=18)[12:14].hex() == "2c09"
