"""Long runs say how many examples, or power cuts, they went through."""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            if name in ("examples", "cuts", "commands"):
                terminalreporter.write_line(f"{report.nodeid}: {value} {name}")
