"""Either ring against the model of the specification: all feature combinations, every kind of memory.

One long run of Hypothesis keeps every choice it has ever made (1.5 GB for 21,000 examples); many short ones do not.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings

from tests.slow.runs import run_many
from tests.unit.virtio.machine import COMBINATIONS, PackedRingMachine, RingMachine
from tests.unit.virtio.plain import Kind

pytestmark = pytest.mark.slow
RUN = 25
"""32 runs of 25 examples, for two rings and three kinds of memory, are 4,800 examples."""
STEPS = 20


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("ring", [RingMachine, PackedRingMachine])
def test_rings(ring: type[RingMachine], kind: Kind, record_property: Callable[[str, object], None]) -> None:
    def machine(number: int) -> type[RingMachine]:
        features = COMBINATIONS[number]
        return type("Machine", (ring,), {"kinds": (kind,), "combinations": (features,), "examples": 0})

    short = settings(settings.get_profile("slow"), max_examples=RUN, stateful_step_count=STEPS)
    machines = [machine(number) for number in range(len(COMBINATIONS))]
    run_many(machines, short)
    examples = [each.examples for each in machines]
    record_property("examples", sum(examples))
    assert min(examples) >= RUN
