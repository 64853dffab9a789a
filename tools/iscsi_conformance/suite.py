"""`iscsi-test-cu`: a run of it, and what became of each of its tests."""

from __future__ import annotations

import os
import re
import select
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from fnmatch import fnmatchcase
from tempfile import NamedTemporaryFile
from typing import NamedTuple

PROGRAM = "iscsi-test-cu"
ALL = ("*",)
"""Every family: 615 tests in libiscsi 1.19."""

PATIENCE_SECONDS = 180
"""Some tests wait for a minute."""

_SUITE = re.compile(r"Suite: (\S+)")
_TEST = re.compile(r"  Test: (.+?) \.\.\.(.*)")
_SAYS = re.compile(r"\[(SKIPPED|FAILED)\] (.*)")
_VERDICT = re.compile(r"(?:^|(?<=\.\.\.))(passed|FAILED)", re.MULTILINE)
_SUMMARY = re.compile(r"^ +tests +\d+ +\d+ +(\d+) +(\d+)", re.MULTILINE)
_ASSERTION = re.compile(r" +\d+\. (.*)")


class Outcome(Enum):
    """What became of a test; one that says that it skips is counted as such, whatever it has tried before."""

    PASSED = "passed"
    SKIPPED = "skipped"
    FAILED = "failed"


class Result(NamedTuple):
    """A test by family, suite and name, and for what reason it was skipped or has failed."""

    test: str
    outcome: Outcome
    reason: str = ""


class SuiteError(Exception):
    """The program did not come to its end; one line."""


class Results(tuple[Result, ...]):
    """Those of one run, in its order."""

    __slots__ = ()

    def of(self, outcome: Outcome) -> list[Result]:
        """Those that ended so."""
        return [each for each in self if each.outcome is outcome]

    def counts(self) -> dict[Outcome, int]:
        """How many ended how."""
        found = Counter(each.outcome for each in self)
        return {outcome: found[outcome] for outcome in Outcome}

    def reasons(self) -> list[tuple[str, int]]:
        """Why tests were skipped, the most frequent reason first."""
        return Counter(each.reason for each in self.of(Outcome.SKIPPED)).most_common()


def run(
    urls: Sequence[str],
    patterns: Sequence[str] = ALL,
    flags: Sequence[str] = (),
    progress: Callable[[str], None] = lambda _test: None,
) -> Results:
    """Run what matches `patterns` (FAMILY.SUITE.TEST) where `urls` are, destroying what is there; SuiteError.

    `progress` is told of each test when it begins.  The program is started anew after a test that does not end.
    """
    names = [name for name in _names() if any(_matches(name, pattern) for pattern in patterns)]
    found = _execute(",".join(patterns), urls, flags, names, progress)
    while len(found) < len(names):
        with NamedTemporaryFile("w", suffix=".tests") as rest:
            rest.write("".join(f"{name}\n" for name in names[len(found) :]))
            rest.flush()
            found += _execute(rest.name, urls, flags, names[len(found) :], progress)
    return Results(found)


def _matches(name: str, pattern: str) -> bool:
    """Whether a test is meant, as the program sees it: part by part, what is not given is any."""
    parts = pattern.split(".")
    return all(map(fnmatchcase, name.split("."), parts + ["*"] * (3 - len(parts))))


def _execute(
    tests: str,
    urls: Sequence[str],
    flags: Sequence[str],
    names: Sequence[str],
    progress: Callable[[str], None],
) -> list[Result]:
    """Start the program once, for `tests` (patterns, or a file of names), which are `names`."""
    # What is not a terminal would be told everything at the end.
    command = ["stdbuf", "-oL", PROGRAM, "--dataloss", *flags, f"--test={tests}", *urls]
    said = b""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        fd = process.stdout.fileno()
        begun = 0
        while select.select([fd], [], [], PATIENCE_SECONDS)[0] and (data := os.read(fd, 1 << 16)):
            said += data
            for _ in range(said.count(b"  Test: ") - begun):
                progress(tests)
                begun += 1
        process.kill()
    text = said.decode(errors="replace")
    found = parse(text, names)
    if not found:
        raise SuiteError(f"{PROGRAM}: {(text.strip().splitlines() or ['nothing'])[-1]}")
    return found


def parse(said: str, names: Iterable[str]) -> list[Result]:
    """What the program `said`; `names` are those of its tests in their order, as it lists them."""
    families: dict[str, list[str]] = {}
    for name in names:
        family, _, rest = name.partition(".")
        families.setdefault(rest, []).append(family)
    results: list[Result] = []
    suite = ""
    # Test, what it says, how it ends, and what its assertions were.
    for block in re.split(r"^(?=Suite: |  Test: |Run Summary)", said, flags=re.MULTILINE):
        if found := _SUITE.match(block):
            suite = found[1]
        elif found := _TEST.match(block):
            test = f"{suite}.{found[1]}"
            # The same test comes in several families, one after the other.
            family = families[test].pop(0)
            results.append(_judge(f"{family}.{test}", block))
    if summary := _SUMMARY.search(said):
        failed = sum(each.outcome is Outcome.FAILED for each in results)
        if (len(results) - failed, failed) != tuple(map(int, summary.groups())):
            raise SuiteError(
                f"{PROGRAM}: {failed} tests seem to have failed, and it says {summary[0].strip()}"
            )
    return results


def _judge(test: str, block: str) -> Result:
    # What is said after the verdict is about what the suite clears up.
    before, *ended = _VERDICT.split(block, maxsplit=1)
    says = [(kind, reason.strip().rstrip(".")) for kind, reason in _SAYS.findall(before)]
    skipped = [reason for kind, reason in says if kind == "SKIPPED"]
    if not ended:
        return Result(test, Outcome.FAILED, "does not end")
    if ended[0] == "FAILED":
        failed = [reason for kind, reason in says if kind == "FAILED"] + _ASSERTION.findall(ended[1])
        return Result(test, Outcome.FAILED, failed[0] if failed else "")
    if skipped:
        return Result(test, Outcome.SKIPPED, re.sub(r"\.? ?Skipping test$", "", skipped[0]))
    return Result(test, Outcome.PASSED)


def _names() -> list[str]:
    done = subprocess.run([PROGRAM, "--list"], capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if line.count(".") == 2]
