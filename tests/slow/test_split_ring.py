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


class SharedRing(RingMachine):
    kinds = (Kind.SHARED,)


class BouncedRing(RingMachine):
    kinds = (Kind.BOUNCED,)


class MixedRing(RingMachine):
    kinds = (Kind.MIXED,)


@pytest.mark.parametrize("machine", [SharedRing, BouncedRing, MixedRing])
def test_split_ring(machine: type[RingMachine], record_property: Callable[[str, object], None]) -> None:
    before = machine.examples
    long = settings(settings.get_profile("slow"), max_examples=EXAMPLES, stateful_step_count=50)
    run_state_machine_as_test(machine, settings=long)
    record_property("examples", machine.examples - before)
    assert machine.examples - before >= EXAMPLES
