"""Task management: who ends, who hears of it, and when it is complete (SAM-5 §7)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from devmodels.blockbackend import Op
from devmodels.conformance import Profile
from devmodels.scsi import Function, Outcome, Response, Status, TaskAttribute
from tests.unit.scsi.initiator import Initiator
from tests.unit.scsi.slowdisk import SlowWorld

WRITE = "2a 00 00 00 00 00 00 00 01 00"
BLOCK = bytes(512)


@pytest.fixture
def world() -> Iterator[SlowWorld]:
    world = SlowWorld()
    yield world
    world.close()


def test_a_task_that_runs_ends_unheard_and_the_function_waits_for_it(world: SlowWorld) -> None:
    task = world.first.send(WRITE, out=BLOCK, tag=7)
    answers = world.first.manage(Function.ABORT_TASK, tag=7)
    assert (answers, task.count) == ([], 0)
    world.release()
    assert task.outcome is Outcome.ABORTED
    assert answers == [Response.COMPLETE]


def test_a_task_that_waits_ends_at_once(world: SlowWorld) -> None:
    world.first.send(WRITE, out=BLOCK)
    waits = world.first.send(WRITE, out=BLOCK, tag=7, attribute=TaskAttribute.ORDERED)
    assert world.first.manage(Function.ABORT_TASK, tag=7) == [Response.COMPLETE]
    assert waits.outcome is Outcome.ABORTED


def test_a_task_that_is_not_there(world: SlowWorld) -> None:
    assert world.first.manage(Function.ABORT_TASK, tag=99) == [Response.COMPLETE]


def test_a_request_held_by_a_stopped_machine_is_taken_back(world: SlowWorld) -> None:
    world.run_state.stop()
    task = world.first.send(WRITE, out=BLOCK, tag=7)
    assert world.first.manage(Function.ABORT_TASK, tag=7) == [Response.COMPLETE]
    assert task.outcome is Outcome.ABORTED
    world.run_state.cont()
    assert not world.watched.seen


def test_a_task_set_is_that_of_its_nexus(world: SlowWorld) -> None:
    mine, other = world.first.send(WRITE, out=BLOCK), world.second.send(WRITE, out=BLOCK)
    answers = world.first.manage(Function.ABORT_TASK_SET)
    world.release()
    assert answers == [Response.COMPLETE]
    assert (mine.outcome, other.outcome) == (Outcome.ABORTED, Outcome.COMPLETE)


def test_clearing_it_ends_everybodys_and_the_others_are_told(world: SlowWorld) -> None:
    mine, other = world.first.send(WRITE, out=BLOCK), world.second.send(WRITE, out=BLOCK)
    world.first.manage(Function.CLEAR_TASK_SET)
    world.release()
    assert (mine.outcome, other.outcome) == (Outcome.ABORTED, Outcome.ABORTED)
    assert world.second.do("00 00 00 00 00 00").code == 0x2F00
    assert world.first.do("00 00 00 00 00 00").status is Status.GOOD


def test_with_tas_the_others_get_a_status_instead(world: SlowWorld) -> None:
    world.first.good("15 10 00 00 10 00", out=bytes(4) + bytes.fromhex("0a 0a 00 10 00 40 00 00 00 00 00 00"))
    world.second.clear()
    mine, other = world.first.send(WRITE, out=BLOCK), world.second.send(WRITE, out=BLOCK)
    world.first.manage(Function.CLEAR_TASK_SET)
    world.release()
    assert mine.outcome is Outcome.ABORTED
    assert (other.outcome, other.status) == (Outcome.COMPLETE, Status.TASK_ABORTED)
    assert world.second.do("00 00 00 00 00 00").status is Status.GOOD


def test_a_logical_unit_reset_ends_all_and_tells_all(world: SlowWorld) -> None:
    mine, other = world.first.send(WRITE, out=BLOCK), world.second.send(WRITE, out=BLOCK)
    answers = world.first.manage(Function.LOGICAL_UNIT_RESET)
    assert not answers
    world.release()
    assert answers == [Response.COMPLETE]
    assert (mine.outcome, other.outcome) == (Outcome.RESET, Outcome.RESET)
    for initiator in (world.first, world.second):
        assert initiator.do("00 00 00 00 00 00").code == 0x2903


def test_a_nexus_reset_ends_its_tasks(world: SlowWorld) -> None:
    mine, other = world.first.send(WRITE, out=BLOCK), world.second.send(WRITE, out=BLOCK)
    answers = world.first.manage(Function.I_T_NEXUS_RESET)
    world.release()
    assert answers == [Response.COMPLETE]
    assert (mine.outcome, other.outcome) == (Outcome.RESET, Outcome.COMPLETE)
    assert world.first.do("00 00 00 00 00 00").code == 0x2907


def test_a_target_reset_is_one_of_each_unit(world: SlowWorld) -> None:
    mine = world.first.send(WRITE, out=BLOCK)
    answers = world.second.manage(Function.TARGET_RESET)
    world.release()
    assert (answers, mine.outcome) == ([Response.COMPLETE], Outcome.RESET)


def test_asking_for_tasks(world: SlowWorld) -> None:
    world.first.send(WRITE, out=BLOCK, tag=7)
    assert world.first.manage(Function.QUERY_TASK, tag=7) == [Response.SUCCEEDED]
    assert world.first.manage(Function.QUERY_TASK, tag=8) == [Response.COMPLETE]
    assert world.second.manage(Function.QUERY_TASK, tag=7) == [Response.COMPLETE]
    assert world.first.manage(Function.QUERY_TASK_SET) == [Response.SUCCEEDED]
    assert world.second.manage(Function.QUERY_TASK_SET) == [Response.COMPLETE]
    assert world.first.manage(Function.QUERY_ASYNC_EVENT) == [Response.COMPLETE]
    world.first.manage(Function.I_T_NEXUS_RESET)
    assert world.first.manage(Function.QUERY_ASYNC_EVENT) == [Response.SUCCEEDED]
    assert world.second.manage(Function.QUERY_ASYNC_EVENT) == [Response.COMPLETE]


def test_there_is_no_aca_to_clear(world: SlowWorld) -> None:
    assert world.first.manage(Function.CLEAR_ACA) == [Response.REJECTED]


def test_a_unit_that_is_not_there(world: SlowWorld) -> None:
    assert world.first.manage(Function.LOGICAL_UNIT_RESET, lun=5) == [Response.INCORRECT_LUN]
    assert world.first.manage(Function.ABORT_TASK, lun=None, tag=1) == [Response.INCORRECT_LUN]


def test_a_carrier_gives_up_some_tasks(world: SlowWorld) -> None:
    first, second = world.first.send(WRITE, out=BLOCK, tag=1), world.first.send(WRITE, out=BLOCK, tag=2)
    over: list[bool] = []
    world.target.cancel(lambda task: task.tag == 1, lambda: over.append(True))
    world.release()
    assert (first.outcome, second.outcome, over) == (Outcome.RESET, Outcome.COMPLETE, [True])


def test_a_lost_nexus_takes_its_tasks_with_it(world: SlowWorld) -> None:
    task = world.first.send(WRITE, out=BLOCK)
    over: list[bool] = []
    world.target.nexus_lost(world.first.nexus, lambda: over.append(True))
    assert not over
    world.release()
    assert (task.outcome, over) == (Outcome.RESET, [True])


def test_a_unit_that_is_removed_ends_its_tasks(world: SlowWorld) -> None:
    task = world.first.send(WRITE, out=BLOCK)
    over: list[bool] = []
    world.target.remove(0, lambda: over.append(True))
    world.release()
    assert (task.outcome, over) == (Outcome.RESET, [True])
    assert world.first.do("00 00 00 00 00 00").code == 0x2500


def test_one_nexus_after_the_other(world: SlowWorld) -> None:
    again = Initiator(world.target, 1)
    assert again.nexus.registrant == world.first.nexus.registrant
    assert again.do("00 00 00 00 00 00").code == 0x2900


@pytest.mark.parametrize(
    ("cdb", "first"),
    [
        (struct.pack(">BBIBHB", 0x2E, 2, 0, 0, 1, 0), Op.WRITE),
        (struct.pack(">BBIBHB", 0x28, 8, 0, 0, 1, 0), Op.FLUSH),
    ],
)
def test_what_was_aborted_begins_nothing_more(world: SlowWorld, cdb: bytes, first: Op) -> None:
    task = world.first.send(cdb, out=bytes(512) * (first is Op.WRITE), room=512, tag=7)
    world.run_state.stop("paused")
    answers = world.first.manage(Function.ABORT_TASK, tag=7)
    assert answers == []
    world.release()
    assert (answers, task.outcome) == ([Response.COMPLETE], Outcome.ABORTED)
    assert [request.op for request in world.watched.seen] == [first]


@pytest.mark.parametrize(
    "function",
    [
        *(Function.ABORT_TASK, Function.ABORT_TASK_SET, Function.CLEAR_TASK_SET),
        *(Function.LOGICAL_UNIT_RESET, Function.TARGET_RESET, Function.I_T_NEXUS_RESET),
    ],
)
def test_a_function_waits_for_tasks_that_another_one_ends_already(
    world: SlowWorld, function: Function
) -> None:
    """What an initiator does next must not be overtaken by what it believes to have ended."""
    task = world.first.send(WRITE, out=BLOCK, tag=7)
    first, second = world.first.manage(Function.ABORT_TASK, tag=7), world.first.manage(function, tag=7)
    assert (first, second, task.count) == ([], [], 0)
    assert world.first.manage(Function.QUERY_TASK, tag=7) == [Response.COMPLETE]
    world.release()
    assert (first, second) == ([Response.COMPLETE], [Response.COMPLETE])
    assert (task.outcome, task.count) == (Outcome.ABORTED, 1)


def test_who_gives_up_tasks_waits_for_those_that_end_already(world: SlowWorld) -> None:
    world.first.send(WRITE, out=BLOCK, tag=7)
    world.first.manage(Function.ABORT_TASK, tag=7)
    over: list[str] = []
    world.target.cancel(lambda task: task.tag == 7, lambda: over.append("over"))
    world.target.nexus_lost(world.first.nexus, lambda: over.append("lost"))
    assert over == []
    world.release()
    assert over == ["over", "lost"]


def test_two_commands_of_one_tag_end_all_of_their_nexus(world: SlowWorld) -> None:
    one = world.first.send(WRITE, out=BLOCK, tag=7)
    two = world.first.send(WRITE, out=BLOCK, tag=8)
    others = world.second.send(WRITE, out=BLOCK, tag=7)
    again = world.first.send(WRITE, out=BLOCK, tag=7)
    assert (again.key, again.code) == (0xB, 0x4E00)
    assert world.violations.total == 1
    world.release()
    assert (one.outcome, two.outcome) == (Outcome.ABORTED, Outcome.ABORTED)
    assert (others.outcome, others.status) == (Outcome.COMPLETE, Status.GOOD)


def test_a_tag_is_free_again_when_its_command_is_over_or_aborted(world: SlowWorld) -> None:
    one = world.first.send(WRITE, out=BLOCK, tag=7)
    world.release()
    two = world.first.send(WRITE, out=BLOCK, tag=7)
    world.first.manage(Function.ABORT_TASK, tag=7)
    three = world.first.send(WRITE, out=BLOCK, tag=7)
    world.release()
    assert [each.outcome for each in (one, two, three)] == [
        Outcome.COMPLETE,
        Outcome.ABORTED,
        Outcome.COMPLETE,
    ]
    assert three.status is Status.GOOD


def test_tags_are_not_looked_at_where_less_is_demanded() -> None:
    world = SlowWorld(profile=Profile.LENIENT)
    both = [world.first.send(WRITE, out=BLOCK, tag=7) for _ in range(2)]
    world.release()
    assert [each.status for each in both] == [Status.GOOD] * 2
    world.close()
