"""Machines of states run one after the other: other examples in each of them."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import seed, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test


def run_many(machines: Iterable[type[RuleBasedStateMachine]], each: settings) -> None:
    """Run each of them; where examples are the same in each session (CI), they differ among the machines."""
    for number, machine in enumerate(machines):
        run_state_machine_as_test(seed(number)(machine) if each.derandomize else machine, settings=each)
