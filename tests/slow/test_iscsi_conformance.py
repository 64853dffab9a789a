"""libiscsi's whole conformance suite on an iSCSI export; `make iscsi-conformance` does more, and tgtd beside it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tools.iscsi_conformance import suite
from tools.iscsi_conformance.runs import OURS, RUNS, Run
from tools.iscsi_conformance.suite import Outcome, Results

pytestmark = pytest.mark.slow

PLAIN, REMOVABLE, PROTECTED = RUNS[0], RUNS[1], RUNS[4]
CONDITIONS = {
    "--allow-sanitize flag is not set",
    "LBPPB < 2",
    "Logical unit is not removable",
    "Logical unit is not write-protected",
    "LUN is not removable",
    "Media is not removable",
    "Multipath unavailable",
    "WRITESAME10 does not support 0-blocks",
    "WRITESAME16 does not support 0-blocks",
}
"""What tests may be skipped for: never for a command that there is not.  (WSNZ: 0 blocks are refused, and that is
looked at.)"""


def run(chosen: Run, tmp_path: Path, family: str) -> Results:
    if shutil.which(suite.PROGRAM) is None:
        pytest.skip(f"needs {suite.PROGRAM}")
    with chosen.serve(OURS, tmp_path / "disk.img") as (url, _):
        found = suite.run([url] * chosen.paths, [family], chosen.flags)
    assert [each for each in found if each.outcome is Outcome.FAILED] == []
    return found


def test_a_disk_as_it_comes(tmp_path: Path) -> None:
    """The families `SCSI`, `iSCSI` and `LINUX` are all in `ALL`."""
    found = run(PLAIN, tmp_path, "ALL")
    assert len(found) >= 230
    assert {reason for reason, _ in found.reasons()} <= CONDITIONS


def test_a_removable_medium_by_two_paths(tmp_path: Path) -> None:
    found = run(REMOVABLE, tmp_path, "ALL")
    assert not {"Logical unit is not removable", "Multipath unavailable"} & {
        reason for reason, _ in found.reasons()
    }


def test_a_disk_that_is_write_protected(tmp_path: Path) -> None:
    found = run(PROTECTED, tmp_path, "*.ReadOnly")
    assert not found.reasons()
