"""Whatever hosts send to a drive while its user does what he likes (`oracle` says what must hold)."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.scsi.hostility import Initiators
from tests.unit.scsi.kinds import DRIVE, Bench
from tests.unit.scsi.mmc.driveworld import DriveWorld, data_disc, mixed
from tests.unit.scsi.oracle import Oracle, play

ACTS = st.sampled_from(["open", "close", "request", "force", "put", "take", "wait", "reset"])
STEPS = 4
SECOND = 1_000_000_000


def act(world: DriveWorld, what: str, media: list[dict[str, object]]) -> None:
    """What the user does."""
    tray = world.drive.tray
    if what == "open":
        tray.user_opens()
    elif what == "close":
        tray.user_closes()
    elif what in ("request", "force"):
        tray.request_eject(force=what == "force")
    elif what == "wait":
        world.context.call_at(world.context.now_ns() + SECOND, lambda: None)
        world.context.run_until_idle()
    elif what == "reset":
        saved = world.drive.save(world.first.nexus)
        world.drive.judge(saved)
        world.drive.restore(world.first.nexus, saved)
    elif tray.open:
        world.put(None if what == "take" else media[len(world.nodes) % len(media)])


@given(acts=st.lists(ACTS, max_size=8), seed=st.integers(0, 2**64 - 1), load_time=st.sampled_from([0, 100]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_anything_while_media_come_and_go(
    acts: list[str], seed: int, load_time: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "devmodels")
    caplog.clear()
    disc: dict[str, object] = {"driver": "cue", "filename": str(mixed(tmp_path))}
    world = DriveWorld(disc, load_time=load_time)
    try:
        bench = Bench(world.context, (world.first, world.second), 0, [world.drive])
        oracle = Oracle(bench, Counter(), Counter())
        hosts = Initiators(DRIVE, Random(seed))
        for what in acts:
            play(bench, oracle, list(hosts.steps(STEPS)))
            act(world, what, [disc, data_disc(500), data_disc(1_000_000), {"driver": "null-co", "size": 512}])
        play(bench, oracle, list(hosts.steps(STEPS)))
    finally:
        world.close()
    assert not caplog.records, caplog.text
