"""What the tests in a browser need: Debian's `chromium`, and pages of traces."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from guestsim.cli import app

from .chromium import Browser, Tab, chromium
from .traces import every_operation, long_trace

PROGRAM = "chromium"

Open = Callable[..., Tab]


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests; where there is none they are skipped, and in CI, which sets `CI=true`, they fail."""
    program = shutil.which(PROGRAM)
    if program is None:
        reason = f"needs Debian's package {PROGRAM}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with chromium(program, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def page_of(trace: Path, *options: str) -> Path:
    """The page of a trace, as the command writes it."""
    page = trace.with_suffix(".html")
    result = CliRunner().invoke(app, ["show", str(trace), "--html", str(page), *options])
    assert result.exit_code == 0, result.output
    return page


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a guest that makes one request of each kind, some together, and one that is refused."""
    return page_of(every_operation(tmp_path_factory.mktemp("small") / "disk.trace"))


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a trace of 100,000 events."""
    return page_of(long_trace(tmp_path_factory.mktemp("large") / "long.trace", 100_000))


@pytest.fixture
def show(browser: Browser, small: Path) -> Iterator[Open]:
    """Opens the small page, or another one; nothing in it may have gone wrong when the test is over."""
    tabs: list[Tab] = []

    def open_page(fragment: str = "", *, page: Path = small, size: tuple[int, int] = (1400, 900)) -> Tab:
        tabs.append(browser.open(page, fragment, size=size))
        return tabs[-1]

    yield open_page
    for tab in tabs:
        assert tab.errors == []
        tab.close()
