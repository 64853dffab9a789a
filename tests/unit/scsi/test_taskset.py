"""The task set: who runs beside whom, who waits, who is told to come later (SAM-5 §8)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.scsi import Status, TaskAttribute
from tests.unit.scsi.initiator import Answer
from tests.unit.scsi.slowdisk import SlowWorld

SIMPLE, ORDERED, HEAD = TaskAttribute.SIMPLE, TaskAttribute.ORDERED, TaskAttribute.HEAD_OF_QUEUE
WRITE = "2a 00 00 00 00 00 00 00 01 00"
BLOCK = bytes(512)


@pytest.fixture
def world() -> Iterator[SlowWorld]:
    world = SlowWorld()
    yield world
    world.close()


def write(world: SlowWorld, attribute: TaskAttribute = SIMPLE, lba: int = 0) -> Answer:
    return world.first.send(f"2a 00 00 00 00 {lba:02x} 00 00 01 00", out=BLOCK, attribute=attribute)


def running(world: SlowWorld) -> list[int]:
    """The first blocks of what the disk is doing."""
    return [request.offset // 512 for request in world.watched.waiting]


def test_simple_tasks_run_beside_each_other(world: SlowWorld) -> None:
    for lba in range(3):
        write(world, SIMPLE, lba)
    assert running(world) == [0, 1, 2]


def test_an_ordered_one_waits_for_all_before_it_and_all_after_it_wait(world: SlowWorld) -> None:
    for lba, attribute in enumerate([SIMPLE, SIMPLE, ORDERED, SIMPLE, SIMPLE]):
        write(world, attribute, lba)
    assert running(world) == [0, 1]
    world.release(0)
    assert running(world) == [1]
    world.release(0)
    assert running(world) == [2]
    world.release(0)
    assert running(world) == [3, 4]


def test_head_of_queue_begins_at_once_and_others_wait_for_it(world: SlowWorld) -> None:
    for lba, attribute in enumerate([SIMPLE, ORDERED, HEAD, SIMPLE]):
        write(world, attribute, lba)
    assert running(world) == [0, 2]
    world.release(0)
    assert running(world) == [2]
    world.release(0)
    assert running(world) == [1]
    world.release(0)
    assert running(world) == [3]


def test_aca_is_refused(world: SlowWorld) -> None:
    answer = world.first.send(WRITE, out=BLOCK, attribute=TaskAttribute.ACA)
    assert (answer.status, answer.key, answer.code) == (Status.CHECK_CONDITION, 5, 0x4900)


def test_one_too_many_is_told_to_come_later() -> None:
    world = SlowWorld(queue_depth=2)
    first, second = write(world), write(world)
    assert write(world).status is Status.TASK_SET_FULL
    # Who has nothing there is busy's victim: no end of a task of his would tell him when to try again.
    other = world.second.send(WRITE, out=BLOCK)
    assert other.status is Status.BUSY
    world.release()
    assert [first.status, second.status] == [Status.GOOD, Status.GOOD]
    assert world.second.send(WRITE, out=BLOCK).count == 0
    world.close()


def test_a_long_queue_of_dormant_tasks_runs_without_recursion() -> None:
    world = SlowWorld(queue_depth=5000)
    blocker = write(world)
    answers = [world.first.send("00 00 00 00 00 00", attribute=ORDERED) for _ in range(3000)]
    world.watched.held = False
    world.release()
    assert blocker.ended
    assert all(answer.status is Status.GOOD for answer in answers)
    world.close()


@given(st.lists(st.tuples(st.sampled_from([SIMPLE, SIMPLE, ORDERED, HEAD]), st.integers(0, 3)), max_size=12))
def test_order_is_kept_whatever_ends_first(script: list[tuple[TaskAttribute, int]]) -> None:
    world = SlowWorld()
    begun: list[int] = []
    ended: list[int] = []
    attributes: list[TaskAttribute] = []
    answers: list[Answer] = []

    def look() -> None:
        begun.extend(lba for lba in running(world) if lba not in begun)
        ended.extend(i for i, answer in enumerate(answers) if answer.ended and i not in ended)
        for lba in running(world):
            before = [i for i in range(lba) if i not in ended]
            if attributes[lba] is ORDERED:
                assert not before, "an ordered task runs with an older one"
            if attributes[lba] is SIMPLE:
                assert all(attributes[i] is not ORDERED for i in before), (
                    "a simple task passed an ordered one"
                )

    for attribute, releases in script:
        attributes.append(attribute)
        answers.append(write(world, attribute, len(answers)))
        look()
        for _ in range(releases):
            if world.watched.waiting:
                world.release(-1)
                look()
    while world.watched.waiting:
        world.release(0)
        look()
    assert sorted(ended) == list(range(len(script)))
    world.close()
