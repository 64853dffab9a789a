"""Property tests and machines as targets: the strategies are the grammar, and the tests say what must hold.

Hypothesis reads an input as the choices of one example (`fuzz_one_input`).
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from hypothesis import HealthCheck, Verbosity, settings
from hypothesis.stateful import RuleBasedStateMachine, get_state_machine_test

from fuzz.target import Run

STEPS = 30
"""Of a machine, at most."""


def property_of(module: str, *names: str) -> Run:
    """Of the properties `names` of a module of tests, the first byte says which."""
    tests = import_module(module)
    return any_of(*(one_of(getattr(tests, name)) for name in names))


def one_of(test: Any) -> Run:
    """A function that is decorated with `given`."""
    fuzz: Run = test.hypothesis.fuzz_one_input
    return fuzz


def machine_of(machine: type[RuleBasedStateMachine]) -> Run:
    """A machine: which rules, and with what."""
    quiet = settings(
        deadline=None,
        database=None,
        stateful_step_count=STEPS,
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
    )
    return one_of(get_state_machine_test(machine, settings=quiet))


def any_of(*ones: Callable[[bytes], Any]) -> Run:
    """The first byte says which of them gets the rest."""

    def run(data: bytes) -> None:
        if data:
            ones[data[0] % len(ones)](data[1:])

    return run
