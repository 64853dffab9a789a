"""Whether the tests of a table's `check` rows see the reports that the rows name, with their clause and bytes: by
running them.

    python -m tools.conformance seen

Takes a minute or two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from unittest.mock import patch

import pytest

from devmodels.conformance import ViolationLog
from devmodels.virtio.ring import RingError
from guestsim.lint.sessions import Finding, Session
from guestsim.script.load import load
from guestsim.script.run import Options, YamlScript
from tools.conformance.checks import matching
from tools.conformance.table import ROOT, State, Table

Said = tuple[str, str, bool]
"""Clause and words of a report, and whether it has bytes."""
NOT_WRITTEN = (
    "-byte access at configuration offset",
    "writeback read before FEATURES_OK",
    "an event buffer with",
    "event buffer of",
)
"""Reports of what nobody has written: reads, and buffers that are too small."""

_OPTIONS = (
    "-q",
    "-p",
    "no:cacheprovider",
    "-W",
    "ignore::pytest.PytestAssertRewriteWarning",
    "-m",
    "not slow",
)


class Watch:
    """A plugin of pytest's that notes clauses and words of what is reported in each test, by the pointer to it."""

    def __init__(self) -> None:
        self.reported: dict[str, set[Said]] = {}
        self._now: set[Said] = set()

    def begin(self, pointer: str) -> None:
        """What is reported from now on is in this test."""
        self._now = self.reported.setdefault(pointer, set())

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """The next test, whatever its parameters."""
        self.begin(item.nodeid.partition("[")[0])

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Reports are noted inside."""
        report, add, init = ViolationLog.report, Session.add, RingError.__init__

        def noted_report(log: ViolationLog, clause: str, summary: str, place: str, data: bytes = b"") -> None:
            self._now.add((clause, summary, bool(data)))
            report(log, clause, summary, place, data)

        def noted_finding(session: Session, finding: Finding) -> None:
            self._now.add((finding.clause, finding.summary, bool(finding.data)))
            add(session, finding)

        def noted_error(error: RingError, clause: str, summary: str, data: bytes = b"") -> None:
            self._now.add((clause, summary, bool(data)))
            init(error, clause, summary, data)

        with (
            patch.object(ViolationLog, "report", noted_report),
            patch.object(Session, "add", noted_finding),
            patch.object(RingError, "__init__", noted_error),
        ):
            yield


def unseen(tables: Sequence[Table]) -> list[str]:
    """The rows whose tests do not see what the rows say, a line each."""
    rows = [
        (table, clause, row) for table in tables for clause, row in table.rows if row.state is State.CHECK
    ]
    pointers = sorted({each for _, _, row in rows for each in row.pointers if not each.startswith("!")})
    watch = Watch()
    with watch.watching():
        tests = [each for each in pointers if "::" in each]
        status = pytest.main([*_OPTIONS, *tests], plugins=[watch])
        if status:
            return [f"the tests themselves: pytest ended with {status}"]
        for script in (each for each in pointers if "::" not in each):
            watch.begin(script)
            YamlScript(*load(ROOT / script)).run(Options())
    return [
        f"{table.path.name}: §{clause.number}/{row.number}: nobody sees {report[1:]}"
        for table, clause, row in rows
        for report in row.pointers
        if report.startswith("!") and not _is_seen(report, row.pointers, watch.reported)
    ]


def _is_seen(report: str, pointers: Sequence[str], reported: dict[str, set[Said]]) -> bool:
    found = matching(report)
    clauses = {each.clause for each in found}
    pattern = re.compile(".*".join(map(re.escape, found[0].words.split("…"))), re.DOTALL)
    said = (each for test in pointers for each in reported.get(test.partition("[")[0], ()))
    return any(
        clause in clauses and pattern.search(words) and (data or any(each in words for each in NOT_WRITTEN))
        for clause, words, data in said
    )
