"""libiscsi's whole conformance suite on an iSCSI export."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.exports.iscsi.served import iscsi_test_cu, serving

pytestmark = pytest.mark.slow


def test_the_whole_suite(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        counts, said = iscsi_test_cu(served.url, "ALL")
    assert counts["ran"] == counts["total"] > 200
    assert counts["failed"] == 0, said[-4000:]
