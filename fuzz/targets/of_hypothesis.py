"""Property tests as targets: the strategies are the grammar, and the tests say what must hold.

Hypothesis reads an input as the choices of one example (`fuzz_one_input`).
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from hypothesis import settings

from fuzz.target import Run

settings.register_profile("fuzz", deadline=None, database=None)


def property_of(module: str, *names: str) -> Run:
    """Of the properties `names` of a module of tests, the first byte says which."""
    settings.load_profile("fuzz")
    tests = import_module(module)
    return any_of(*(getattr(tests, name).hypothesis.fuzz_one_input for name in names))


def any_of(*ones: Callable[[bytes], Any]) -> Run:
    """The first byte says which of them gets the rest."""

    def run(data: bytes) -> None:
        if data:
            ones[data[0] % len(ones)](data[1:])

    return run
