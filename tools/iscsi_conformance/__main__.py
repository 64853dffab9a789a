"""Run libiscsi's conformance suite on our iSCSI export and on `tgtd`, and write docs/iscsi-conformance.md.

python -m tools.iscsi_conformance
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.peers import ServerError
from tools.iscsi_conformance import page, suite
from tools.iscsi_conformance.runs import OURS, RUNS, TGTD, Run
from tools.iscsi_conformance.suite import Outcome, Results, SuiteError

PAGE = Path(__file__).parents[2] / "docs" / "iscsi-conformance.md"


def main() -> int:
    """Print the figures and write the page; 1 where one of our tests fails that nobody has explained."""
    if shutil.which(suite.PROGRAM) is None:
        sys.exit(f"iscsi-conformance: {suite.PROGRAM} is not on the PATH (Debian's libiscsi-bin)")
    servers = [OURS, *([TGTD] if shutil.which(TGTD) else [])]
    table: dict[str, dict[str, Results]] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
        ThreadPoolExecutor() as threads,
        tempfile.TemporaryDirectory() as folder,
    ):
        for run in RUNS:
            tasks = {server: progress.add_task(f"{run.name}: {server}", total=None) for server in servers}
            futures = {
                server: threads.submit(_run, run, server, Path(folder), progress, task)
                for server, task in tasks.items()
            }
            try:
                table[run.name] = {server: future.result() for server, future in futures.items()}
            except (ServerError, SuiteError) as error:
                sys.exit(f"iscsi-conformance: {run.name}: {error}")
            for task in tasks.values():
                progress.remove_task(task)
    _print(table)
    PAGE.write_text(page.write(table))
    failed = {each.test for results in table.values() for each in results[OURS].of(Outcome.FAILED)}
    return int(any(test.partition(".")[2] not in page.EXPLAINED for test in failed))


def _run(run: Run, server: str, folder: Path, progress: Progress, task: TaskID) -> Results:
    """One run on one server."""
    with run.serve(server, folder / f"{server}.img") as (url, _):
        return suite.run([url] * run.paths, run.patterns, run.flags, lambda _test: progress.advance(task))


def _print(table: page.Table) -> None:
    found = Table(title="iscsi-test-cu --dataloss", title_justify="left")
    found.add_column("run")
    for heading in ("tests", f"{OURS}: passed", "failed", "skipped", f"{TGTD}: passed", "failed", "skipped"):
        found.add_column(heading, justify="right")
    for name, results in table.items():
        found.add_row(name, *page.summary_rows(results))
    Console(width=None if sys.stdout.isatty() else 140).print(found)


if __name__ == "__main__":
    sys.exit(main())
