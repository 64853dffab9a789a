"""The split ring against the model of the specification: all feature combinations, every kind of memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.unit.virtio.machine import RingMachine
from tests.unit.virtio.plain import Kind

pytestmark = pytest.mark.slow
EXAMPLES = 7_000


@pytest.mark.parametrize("kind", Kind)
def test_split_ring(kind: Kind, record_property: Callable[[str, object], None]) -> None:
    machine = type(f"{kind.value}Ring", (RingMachine,), {"kinds": (kind,), "examples": 0})
    long = settings(settings.get_profile("slow"), max_examples=EXAMPLES, stateful_step_count=50)
    run_state_machine_as_test(machine, settings=long)
    record_property("examples", machine.examples)
    assert machine.examples >= EXAMPLES
