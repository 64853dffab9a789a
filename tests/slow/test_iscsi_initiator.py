"""The iSCSI driver's property tests, for longer."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from tests.unit.blockbackend.iscsi.test_hostile import (
    test_whatever_a_target_says_nobody_waits_for_ever as hostile,
)
from tests.unit.blockbackend.iscsi.test_properties import test_what_was_written_is_there as faulty

LONG = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.slow
def test_hostile_targets() -> None:
    LONG(hostile)()


@pytest.mark.slow
def test_faults_in_any_order() -> None:
    LONG(faulty)()
