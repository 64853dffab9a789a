"""Hypothesis profiles, chosen by HYPOTHESIS_PROFILE: `default`, `ci`, and `slow` for long property runs."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

SLOW_CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

settings.register_profile("default", deadline=None, max_examples=25)
settings.register_profile("ci", deadline=None, max_examples=200, print_blob=True)
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
