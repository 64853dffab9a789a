"""Whatever an initiator sends: never an exception, never a byte outside the buffers, sense data always legal."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devmodels.conformance import Profile
from devmodels.scsi import Outcome, Response, Status
from tests.conftest import SLOW_CHECKS
from tests.unit.scsi.hostility import Manage, Send, steps
from tests.unit.scsi.initiator import BLOCKS, Answer, World, sense_is_legal

DELAYED = {
    "driver": "delay",
    "latency-ns": 1000,
    "file": {"driver": "memory", "size": BLOCKS * 512, "discard": "unmap"},
}
ENDS = (
    Status.GOOD,
    Status.CONDITION_MET,
    Status.RESERVATION_CONFLICT,
    Status.TASK_SET_FULL,
    Status.BUSY,
    Status.TASK_ABORTED,
)
FIXTURES = settings(suppress_health_check=[*SLOW_CHECKS, HealthCheck.function_scoped_fixture])
MANY = settings(FIXTURES, max_examples=100_000, deadline=None, derandomize=False)
SCRIPTS = st.lists(steps(), max_size=8)
PROFILES = st.sampled_from(list(Profile))


def check(answer: Answer) -> None:
    """What holds of each task that has ended."""
    task = answer.task
    assert answer.count == 1
    assert task.sent <= min(answer.room, task.wanted)
    assert task.received <= min(sum(map(len, task.data_out)), task.wanted)
    if task.outcome is not Outcome.COMPLETE:
        assert not task.sense
    elif task.status is Status.CHECK_CONDITION:
        assert sense_is_legal(task.sense)
    else:
        assert not task.sense
        assert task.status in ENDS


def play(world: World, script: list[Send | Manage]) -> None:
    """Do everything without waiting, then wait."""
    answers: list[Answer] = []
    managed: list[Response] = []
    functions = 0
    for step in script:
        initiator = (world.first, world.second)[step.who]
        if isinstance(step, Manage):
            functions += 1
            initiator.target.manage(initiator.nexus, step.function, step.lun, step.tag, managed.append)
        else:
            answers.append(
                initiator.send(
                    step.cdb,
                    out=step.out,
                    room=step.room,
                    lun=step.lun,
                    attribute=step.attribute,
                    pieces=step.pieces,
                )
            )
    world.context.run_until_idle()
    for answer in answers:
        check(answer)
    assert len(managed) == functions
    assert not world.disk.tasks.tasks
    assert not world.backend.in_flight


def run(script: list[Send | Manage], caplog: pytest.LogCaptureFixture, **options: Any) -> None:
    """Play against a new disk; what an exception would have become is in the log."""
    caplog.set_level(logging.ERROR, "devmodels")
    caplog.clear()
    world = World(**options)
    try:
        play(world, script)
    finally:
        world.close()
    assert not caplog.records, caplog.text


@given(script=SCRIPTS, profile=PROFILES, removable=st.booleans())
@FIXTURES
def test_anything_to_a_disk(
    script: list[Send | Manage], profile: Profile, removable: bool, caplog: pytest.LogCaptureFixture
) -> None:
    run(script, caplog, profile=profile, removable=removable)


@given(script=SCRIPTS, profile=PROFILES)
@FIXTURES
def test_anything_to_a_disk_that_takes_its_time(
    script: list[Send | Manage], profile: Profile, caplog: pytest.LogCaptureFixture
) -> None:
    run(script, caplog, node=DELAYED, profile=profile, removable=True, queue_depth=4)


@pytest.mark.slow
@given(script=SCRIPTS, profile=PROFILES, removable=st.booleans())
@MANY
def test_a_lot_of_anything_to_a_disk(
    script: list[Send | Manage], profile: Profile, removable: bool, caplog: pytest.LogCaptureFixture
) -> None:
    run(script, caplog, profile=profile, removable=removable)


@pytest.mark.slow
@given(script=SCRIPTS, profile=PROFILES, size=st.sampled_from([512, 1024, 4096]))
@MANY
def test_a_lot_of_anything_to_a_disk_that_takes_its_time(
    script: list[Send | Manage], profile: Profile, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    run(
        script,
        caplog,
        node=DELAYED,
        profile=profile,
        removable=True,
        queue_depth=4,
        logical_block_size=size,
        physical_block_size=4096,
    )
