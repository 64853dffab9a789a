"""The iSCSI target's machine of states, for longer."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.unit.exports.iscsi.machine import IscsiMachine


@pytest.mark.slow
def test_initiators_do_anything_in_any_order() -> None:
    run_state_machine_as_test(
        IscsiMachine,
        settings=settings(
            max_examples=300,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
