"""Hypothesis profiles, chosen by HYPOTHESIS_PROFILE: `default`, `ci`, and `slow` for long property runs."""

from __future__ import annotations

import gc
import os
from functools import cache

import pytest
from hypothesis import HealthCheck, settings
from typer.main import get_command

SLOW_CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

settings.register_profile("default", deadline=None, max_examples=25)
settings.register_profile("ci", deadline=None, max_examples=100, print_blob=True)
# Where CI is set, Hypothesis would draw the same examples in each run by default.
settings.register_profile(
    "slow",
    deadline=None,
    max_examples=20_000,
    print_blob=True,
    derandomize=False,
    suppress_health_check=SLOW_CHECKS,
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_configure() -> None:
    """Make the commands of a program once; Typer's runner would make them again for each test."""
    pytest.MonkeyPatch().setattr("typer.testing._get_command", cache(get_command))


def pytest_collection_finish() -> None:
    """The thousands of tests that were found stay until the end: no collection of garbage need look at them again."""
    gc.collect()
    gc.freeze()
