"""The page of what QEMU's ATA controllers do otherwise is what the scripts say, and each difference has its clause."""

from __future__ import annotations

import re

import pytest

from tools.qemu_differences import PAGE, Reason, page, reasons, runs

CLAUSE = re.compile(
    r"(ACS-3|ATA8-ACS|ATA/ATAPI-\d|AHCI 1\.3\.1|SFF-8038i|MMC-\d|SPC-4)( vol\. \d)? §[\d.]+\d"
)


def test_the_page_is_what_the_scripts_say() -> None:
    assert PAGE.read_text() == page(), "run tools/qemu_differences.py"


@pytest.mark.parametrize("reason", reasons(runs()), ids=lambda each: each.because[:50])
def test_a_difference_names_its_clause(reason: Reason) -> None:
    assert CLAUSE.search(reason.because)
    assert reason.shown


def test_hundreds_of_scripts_are_compared() -> None:
    assert len(runs()) > 400
    assert sum(not run.reasons for run in runs()) >= 90
