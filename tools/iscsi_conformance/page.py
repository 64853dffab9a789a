"""docs/iscsi-conformance.md: the figures of both targets side by side, what fails, and what is skipped for what."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from tools.iscsi_conformance.runs import OURS, TGTD
from tools.iscsi_conformance.suite import Outcome, Results

Table = Mapping[str, Mapping[str, Results]]
"""Results by run and server."""

HEAD = """# libiscsi's conformance suite

Written by `make iscsi-conformance`: `iscsi-test-cu --dataloss` ({suite}) on an export of `devmodels serve`, and at the
same time on `tgtd` ({tgtd}), each with a disk of 64 MiB. *Skipped* are tests that say so, most of them because the disk
has not what they are about; each run has other options, so that other tests have their turn.

"""

EXPLAINED = {
    "GetLBAStatus.UnmapSingle": (
        "With more than one logical block in a physical one, its second part asks for the status from LBA `i + 1` on "
        "and wants a first descriptor of LBA `i + lbppb`. SBC-4 (GET LBA STATUS, “LBA status descriptor "
        "relationships”) has the first descriptor begin at the STARTING LOGICAL BLOCK ADDRESS of the CDB; its first "
        "part demands that itself. With one logical block in a physical one both are the same, and it passes."
    ),
}
"""Tests that our target fails, and why it is right to."""

_REFUSED = "the test has looked that they are refused, as WSNZ of the Block Limits page says"
REMARKS = {f"WRITESAME{size} does not support 0-blocks": _REFUSED for size in (10, 16)}
"""What is to be said of reasons for skipping."""


def write(table: Table) -> str:
    """The page."""
    suite, tgtd = _version("libiscsi-bin"), _version("tgt")
    parts = [HEAD.format(suite=f"libiscsi-bin {suite}", tgtd=f"tgt {tgtd}"), *_summary(table)]
    parts += ["\n## What fails\n\n", *_failures(table), "\n## What is skipped\n\n", *_skips(table)]
    parts += ["\n## What never runs\n\n", *_never(table)]
    return "".join(parts)


def summary_rows(results: Mapping[str, Results]) -> list[str]:
    """The cells of one run: tests, then passed, failed and skipped of each server."""
    counts = {server: each.counts() for server, each in results.items()}
    cells = [str(len(results[OURS]))]
    for server in (OURS, TGTD):
        shown = Outcome.PASSED, Outcome.FAILED, Outcome.SKIPPED
        cells += [str(counts[server][outcome]) if server in counts else "–" for outcome in shown]
    return cells


def _summary(table: Table) -> Iterator[str]:
    yield f"| run | tests | {OURS}: passed | failed | skipped | {TGTD}: passed | failed | skipped |\n"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|\n"
    for name, results in table.items():
        yield f"| {name} | {' | '.join(summary_rows(results))} |\n"


def _failures(table: Table) -> Iterator[str]:
    yield f"| run | {OURS} | {TGTD} |\n|---|---|---|\n"
    mine: set[str] = set()
    for name, results in table.items():
        failed = {server: _failed(each) for server, each in results.items()}
        mine |= failed[OURS].keys()
        cells = [", ".join(failed.get(server, {}).values()) for server in (OURS, TGTD)]
        yield f"| {name} | {' | '.join(cells)} |\n"
    for test in sorted(mine):
        yield f"\n`{test}`: {EXPLAINED.get(test, 'a defect.')}\n"


def _failed(results: Results) -> dict[str, str]:
    """Tests without their families, each with how often it failed."""
    found = Counter(each.test.partition(".")[2] for each in results.of(Outcome.FAILED))
    return {test: f"`{test}`" + (f" ×{count}" if count > 1 else "") for test, count in found.items()}


def _skips(table: Table) -> Iterator[str]:
    yield f"| run | reason | {OURS} | {TGTD} |\n|---|---|--:|--:|\n"
    for name, results in table.items():
        reasons = {server: dict(each.reasons()) for server, each in results.items()}
        for reason in _in_order([reasons[server] for server in (OURS, TGTD) if server in reasons]):
            cells = [str(reasons.get(server, {}).get(reason, "")) for server in (OURS, TGTD)]
            yield f"| {name} | {reason} | {' | '.join(cells)} |\n"


def _in_order(several: Sequence[Mapping[str, int]]) -> list[str]:
    return list(dict.fromkeys(reason for each in several for reason in each))


def _never(table: Table) -> Iterator[str]:
    """Tests that are skipped in every run they are in."""
    for server in (OURS, TGTD):
        ran: set[str] = set()
        skipped: dict[str, str] = {}
        for results in table.values():
            for each in results.get(server, ()):
                if each.outcome is Outcome.SKIPPED:
                    skipped.setdefault(each.test, each.reason)
                else:
                    ran.add(each.test)
        never = Counter(reason for test, reason in skipped.items() if test not in ran)
        total = len(ran | skipped.keys())
        yield f"{server}: of {total} tests {total - never.total()} run in one of these runs at least"
        yield f"; {never.total()} never do.\n\n" if never else ".\n\n"
        for reason, count in never.most_common():
            remark = f" ({REMARKS[reason]})" if reason in REMARKS else ""
            yield f"- {reason}: {count}{remark}\n"
        yield "\n" if never else ""


def _version(package: str) -> str:
    """What Debian calls it; empty elsewhere."""
    command = "dpkg-query", "-W", "-f=${Version}", package
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
