"""Queues on four threads over one graph: a short run of what `tests/slow/threads.py` does for minutes."""

from __future__ import annotations

from pathlib import Path

from tests.slow.threads import soak


def test_data_is_right_and_sums_are_exact(tmp_path: Path) -> None:
    found = soak(tmp_path, requests=30, iops=5000)
    assert sum(found.requests.values()) == 6 * 30
    assert found.changes["filters removed"] > 0
