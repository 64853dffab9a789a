"""What a row of `conformance/` says is reported is seen by the tests that it names."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tools.conformance.table import ROOT


@pytest.mark.slow
def test_each_report_is_seen_by_its_tests() -> None:
    command = [sys.executable, "-m", "tools.conformance", "seen"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr
