"""Hypothesis profiles, chosen by HYPOTHESIS_PROFILE: `default`, `ci`, and `slow` for long property runs.

And what lets thousands of tests begin soon: tiers that were not asked for are not collected, and garbage is looked for
seldom.
"""

from __future__ import annotations

import gc
import os
import re
from functools import cache
from inspect import isfunction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from typer.main import get_command

SLOW_CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

settings.register_profile("default", deadline=None, max_examples=6, stateful_step_count=25)
settings.register_profile("ci", deadline=None, max_examples=100, print_blob=True)
# Where CI is set, Hypothesis draws the same examples in each run: what CI says depends on the change, not on luck.
# Everywhere else each run draws others.
settings.register_profile(
    "slow",
    deadline=None,
    max_examples=20_000,
    print_blob=True,
    suppress_health_check=SLOW_CHECKS,
)
# A mutant is found by the same few examples each time, and nobody wants the smallest of them.
settings.register_profile(
    "mutation",
    deadline=None,
    max_examples=10,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=SLOW_CHECKS,
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


LONG_SCRIPTS = {
    "ahci-data-outside-memory",
    "bad-element-in-a-batch",
    "in-order",
    "largest-queue",
    "multi-queue",
    "packed-queue-sizes",
    "random",
    "reset-storm",
    "scsi-bad-element-in-a-batch",
    "scsi-data-outside-memory",
    "scsi-nested-resets",
    "scsi-report-luns",
    "scsi-reset-storm",
}
"""Those of `tests/scripts` that take a tenth of a second or more."""

TIERS = ("long", "guest", "qemu", "slow", "browser")
FOLDERS = ("slow", "browser")
"""All of whose tests are of the tier of that name."""


def pytest_configure(config: pytest.Config) -> None:
    """Make the commands of a program once; Typer's runner would make them again for each test."""
    pytest.MonkeyPatch().setattr("typer.testing._get_command", cache(get_command))
    # What tests leave is not much, and the tests themselves are many objects.
    gc.set_threshold(50_000, 20, 20)
    config.stash[_UNWANTED] = _unwanted(config)


_UNWANTED = pytest.StashKey[frozenset[str]]()


def _unwanted(config: pytest.Config) -> frozenset[str]:
    """The tiers that `-m` rules out; none where tests are named, which are deselected then, not missing."""
    wanted = str(config.option.markexpr)
    if " or " in wanted or any("::" in argument for argument in config.args):
        return frozenset()
    return frozenset(re.findall(r"\bnot (\w+)", wanted)) & frozenset(TIERS)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the folders and the files of tiers that are not wanted: importing them takes time."""
    unwanted = config.stash[_UNWANTED]
    if not unwanted:
        return None
    if collection_path.suffix == ".py":
        mark = _OF_TIER.search(collection_path.read_text(encoding="utf-8"))
        return True if mark is not None and mark[1] in unwanted else None
    ours = collection_path.parent == Path(__file__).parent
    return True if ours and collection_path.name in unwanted.intersection(FOLDERS) else None


_OF_TIER = re.compile(r"^pytestmark = \[?\s*pytest\.mark\.(\w+)", re.MULTILINE)
"""The mark of a file all of whose tests are of a tier."""


def pytest_pycollect_makeitem(collector: pytest.Collector, obj: object) -> list[pytest.Item] | None:
    """Leave a function of a tier that is not wanted: its parameters can be thousands."""
    marks = getattr(obj, "pytestmark", ()) if isfunction(obj) else ()
    unwanted = collector.config.stash[_UNWANTED]
    return [] if any(mark.name in unwanted for mark in marks) else None


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark scripts, which cannot do so themselves."""
    if item.path.suffix == ".yaml" and item.path.name.partition(".")[0] in LONG_SCRIPTS:
        item.add_marker("long")


def pytest_collection() -> None:
    """All that is found now stays."""
    gc.disable()


def pytest_collection_finish() -> None:
    """The thousands of tests that were found stay until the end: no collection of garbage need look at them again."""
    gc.collect()
    gc.freeze()
    gc.enable()
