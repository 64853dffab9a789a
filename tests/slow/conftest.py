"""Long runs say how many examples they went through."""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            if name == "examples":
                terminalreporter.write_line(f"{report.nodeid}: {value} examples")
