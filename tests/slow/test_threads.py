"""Queues on four threads over one graph, for half a minute, or as many seconds as THREADS_SECONDS says."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from .threads import soak

pytestmark = pytest.mark.slow


def test_data_is_right_and_sums_are_exact(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    found = soak(tmp_path, seconds=float(os.environ.get("THREADS_SECONDS", "30")))
    record_property("examples", sum(found.requests.values()))
    print(found.report())  # noqa: T201
    assert found.sums["rd_operations"] > 1000
    assert found.changes["filters removed"] > 100
