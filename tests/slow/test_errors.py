"""Errors at random under any policy: many short runs, as in `test_rings.py`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings

from tests.slow.runs import run_many
from tests.unit.blockbackend.errormachine import ErrorMachine

pytestmark = pytest.mark.slow
RUN = 200
RUNS = 3
STEPS = 40


def test_errors(record_property: Callable[[str, object], None]) -> None:
    machines: list[type[ErrorMachine]] = [
        type("Machine", (ErrorMachine,), {"examples": 0}) for _ in range(RUNS)
    ]
    run_many(machines, settings(settings.get_profile("slow"), max_examples=RUN, stateful_step_count=STEPS))
    examples = sum(each.examples for each in machines)
    record_property("examples", examples)
    assert examples >= RUN * RUNS
