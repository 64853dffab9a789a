"""Either ring against the model of the specification: all feature combinations, every kind of memory.

One long run of Hypothesis keeps every choice it has ever made (1.5 GB for 21,000 examples); many short ones do not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.unit.virtio.machine import COMBINATIONS, PackedRingMachine, RingMachine
from tests.unit.virtio.plain import Kind

pytestmark = pytest.mark.slow
RUN = 200
RUNS = 4
"""4 runs of 200 examples, for two rings and three kinds of memory, are 4,800 examples; other ones in each session."""
STEPS = 20


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("ring", [RingMachine, PackedRingMachine])
def test_rings(ring: type[RingMachine], kind: Kind, record_property: Callable[[str, object], None]) -> None:
    class Machine(ring):  # type: ignore[misc, valid-type]
        kinds = (kind,)
        examples = 0
        combinations: ClassVar[set[int]] = set()

    short = settings(settings.get_profile("slow"), max_examples=RUN, stateful_step_count=STEPS)
    for _ in range(RUNS):
        run_state_machine_as_test(Machine, settings=short)
    record_property("examples", Machine.examples)
    assert Machine.examples >= RUN * RUNS
    assert len(Machine.combinations) == COMBINATIONS
