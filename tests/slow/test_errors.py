"""Errors at random under any policy: many short runs, as in `test_rings.py`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.unit.blockbackend.errormachine import ErrorMachine

pytestmark = pytest.mark.slow
RUN = 200
RUNS = 3
STEPS = 40


def test_errors(record_property: Callable[[str, object], None]) -> None:
    class Machine(ErrorMachine):
        examples = 0

    short = settings(settings.get_profile("slow"), max_examples=RUN, stateful_step_count=STEPS)
    for _ in range(RUNS):
        run_state_machine_as_test(Machine, settings=short)
    record_property("examples", Machine.examples)
    assert Machine.examples >= RUN * RUNS
