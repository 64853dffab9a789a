"""The iSCSI target's machine of states, for longer."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from tests.slow.runs import run_many
from tests.unit.exports.iscsi.machine import IscsiMachine

RUN = 50
RUNS = 6
STEPS = 40


@pytest.mark.slow
def test_initiators_do_anything_in_any_order() -> None:
    machines = [type("Machine", (IscsiMachine,), {}) for _ in range(RUNS)]
    short = settings(
        settings.get_profile("slow"),
        max_examples=RUN,
        stateful_step_count=STEPS,
        suppress_health_check=list(HealthCheck),
    )
    run_many(machines, short)
