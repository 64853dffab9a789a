"""What the guest tests share: skips that say why (failures in CI), a table of what the guest did."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby

import pytest

from . import transcript
from .backends import chosen
from .host import Unavailable
from .vm import GuestRun

ROW = "guest item"  # the user property of a test that is to be a row of the table
TRANSCRIPT = "transcript"  # and of one that is to be a row of the page

LONGEST = (
    *("vfio_user", "virtio_blk", "scsi", "ahci", "recorded", "portable", "ide", "migration", "killed_daemon"),
    *("throttled", "enospc", "scsi_errors", "scsi_cd", "iscsi", "scsi_units", "resize", "block_log"),
)
"""Files whose guests are at work for longest, in the order in which they are begun: at the end no worker is left alone
with one of them."""

Check = Callable[[GuestRun, str], None]


@contextmanager
def needed() -> Iterator[None]:
    """A block that needs QEMU, a kernel package or a tool: the test is skipped without, and fails under CI=true."""
    try:
        yield
    except Unavailable as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(f"needed in CI: {missing}", pytrace=False)
        pytest.skip(str(missing))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Guests that take long begin first, with all that there is in their file."""
    order = {f"test_linux_{name}": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture
def check(record_property: Callable[[str, object], None]) -> Check:
    """`check(run, item)` fails unless the guest reported the item as ok, and makes it a row of the table."""

    def check_item(run: GuestRun, item: str) -> None:
        reported = run.results.get(item)
        seconds, detail = (f"{reported.seconds:.2f}", reported.detail) if reported else ("-", "not reported")
        record_property(ROW, f"{item:24} {seconds:>7}  {detail}")
        run.check(item)

    return check_item


@pytest.fixture
def documented(
    check: Check, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> Check:
    """`check`, and a page about the guest says the same of the item; the test's docstring is the story's head.

    The page is that of the test's module, `PAGE`.
    """
    story = request.function.__doc__ or ""
    page: transcript.Page = request.module.PAGE

    def check_item(run: GuestRun, item: str) -> None:
        check(run, item)
        found = transcript.row(story, run.results[item])
        record_property(TRANSCRIPT, (page.name, *found))
        if not transcript.being_written():
            rows = transcript.rows_of(page.path.read_text())
            assert found in rows, f"{page.name}: {transcript.ANEW}=write writes it anew"

    return check_item


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The guest's items below their test: verdict, seconds by the guest's clock, its own words."""
    rows = [
        (report.nodeid.partition("::")[2].partition("[")[0], f"  {verdict:4} {value}")
        for outcome, verdict in (("passed", "ok"), ("failed", "FAIL"))
        for report in terminalreporter.getreports(outcome)
        if report.when == "call"
        for key, value in report.user_properties
        if key == ROW
    ]
    if rows:
        terminalreporter.section(f"a stock Linux guest on {chosen()} (seconds of the guest's clock)")
    for test, lines in groupby(sorted(rows, key=lambda row: row[0]), key=lambda row: row[0]):
        terminalreporter.write_line(test.removeprefix("test_").replace("_", " "))
        for _, line in lines:
            terminalreporter.write_line(line)
    if transcript.being_written():
        found: dict[str, list[transcript.Row]] = {}
        for report in sorted(terminalreporter.getreports("passed"), key=lambda report: report.location[:2]):
            for key, value in report.user_properties:
                if key == TRANSCRIPT:
                    name, *row = value
                    found.setdefault(name, []).append(transcript.Row(*row))
        for name, rows_found in found.items():
            transcript.write(transcript.PAGES[name], rows_found)
            terminalreporter.write_line(f"{name}: {len(rows_found)} items written")
