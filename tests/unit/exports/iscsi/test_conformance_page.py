"""What iscsi-test-cu says is read as it is meant, and told side by side."""

from __future__ import annotations

import pytest

from tools.iscsi_conformance import page
from tools.iscsi_conformance.runs import OURS, TGTD
from tools.iscsi_conformance.suite import Outcome, Result, Results, SuiteError, parse

NAMES = [
    "ALL.Read10.Simple",
    "ALL.Reserve6.LUNReset",
    "SCSI.Read10.Simple",
    "SCSI.Read10.Async",
    "SCSI.Unmap.VPD",
]

SAID = """
Suite: Read10
  Test: Simple ...passed
Suite: Reserve6
  Test: LUNReset ...    [FAILED] RESERVE6 command: failed with sense.
passed    [FAILED] PRIN command: failed with sense.

Suite: Read10
  Test: Simple ...    [SKIPPED] LBPPB < 2. Skipping test
passed
  Test: Async ...    [INFO] a word
FAILED
    1. test_async_read.c:80  - CU_FAIL("it is late")
"""

SUMMARY = """
Run Summary:    Type  Total    Ran Passed Failed Inactive
              suites      2      2    n/a      0        0
               tests      4      4      3      1        0
"""

RESULTS = [
    Result("ALL.Read10.Simple", Outcome.PASSED),
    Result("ALL.Reserve6.LUNReset", Outcome.PASSED),
    Result("SCSI.Read10.Simple", Outcome.SKIPPED, "LBPPB < 2"),
    Result("SCSI.Read10.Async", Outcome.FAILED, 'test_async_read.c:80  - CU_FAIL("it is late")'),
]


def test_each_test_has_its_family_and_its_outcome() -> None:
    assert parse(SAID + SUMMARY, NAMES) == RESULTS


def test_a_test_that_does_not_end_has_failed() -> None:
    cut = parse(SAID + "Suite: Unmap\n  Test: VPD ...    [INFO] a word\n", NAMES)
    assert cut == [*RESULTS, Result("SCSI.Unmap.VPD", Outcome.FAILED, "does not end")]


def test_what_is_read_is_what_the_program_counts() -> None:
    with pytest.raises(SuiteError, match="1 tests seem to have failed"):
        parse(SAID + SUMMARY.replace("3      1", "4      0"), NAMES)


def test_both_targets_are_shown_side_by_side() -> None:
    passed = Results(each._replace(outcome=Outcome.PASSED, reason="") for each in RESULTS)
    written = page.write({"as it comes": {OURS: passed, TGTD: Results(RESULTS)}})
    assert "| as it comes | 4 | 4 | 0 | 0 | 2 | 1 | 1 |" in written
    assert "| as it comes |  | `Read10.Async` |" in written
    assert "| as it comes | LBPPB < 2 |  | 1 |" in written
    assert "devmodels: of 4 tests 4 run in one of these runs at least." in written
    assert "tgtd: of 4 tests 3 run in one of these runs at least; 1 never do." in written
