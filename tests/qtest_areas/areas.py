"""All areas, how a script is run, and the page that says what came of it (docs/qtest-areas.md)."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.qtest_areas import ahci, drives, fuzzing, geometry, ide, virtio
from tests.qtest_areas.bench import Area, Bench, Script, Side

AREAS = (ahci.AREA, ide.AREA, virtio.AREA, drives.AREA, geometry.AREA, fuzzing.AREA)
SCRIPTS = tuple(script for area in AREAS for script in area.scripts)
PAGE = Path("docs/qtest-areas.md")

PASSES, NO_CLOCK = "passes", "needs the clock"


def run(script: Script, side: Side) -> None:
    """Do it; what is not as it should be is raised."""
    with tempfile.TemporaryDirectory(prefix="areas-") as folder, Bench(side, Path(folder)) as bench:
        script.run(bench)


Outcomes = Mapping[str, tuple[str, str]]
"""By a script's id, what came of it on the stand-in and on QEMU."""


def page(outcomes: Outcomes) -> str:
    """The page, of a run of all scripts."""
    lines = [
        "# QEMU's device programs, area by area",
        "",
        "Written by `python -m tests.qtest_areas --page` from a run of scripts of our own (`tests/qtest_areas/`), each",
        "of which does what a subtest of one of QEMU 7.2's device test programs does, over the two sockets (qtest and",
        "QMP) of a separate process: on our stand-in, `devmodels-system-x86_64`, launched as those programs launch",
        "their QEMU (`-accel qtest`), and on Debian's QEMU 7.2. That one has no qtest accelerator: its CPU halts under",
        "`-accel tcg`, and time goes on by itself, so that what needs `clock_step` runs on the stand-in alone.",
        "`pytest -m qemu tests/qemu/test_qtest_areas.py` runs them, too.",
        "",
        "| Area | Subtests of QEMU's program | Scripts | Stand-in passes | QEMU passes |",
        "|---|---|---|---|---|",
    ]
    total = [0] * 4
    for area in AREAS:
        results = [outcomes[script.id] for script in area.scripts]
        row = [
            area.subtests,
            len(results),
            *(sum(each[side] == PASSES for each in results) for side in range(2)),
        ]
        total = [each + more for each, more in zip(total, row, strict=True)]
        lines.append(f"| {area.name} | {' | '.join(map(str, row))} |")
    lines += [f"| all | {' | '.join(map(str, total))} |", ""]
    for area in AREAS:
        lines += _rows(area, outcomes)
    return "\n".join(lines)


def _rows(area: Area, outcomes: Outcomes) -> list[str]:
    lines = [f"## {area.name}", "", "| Script | What is done | Stand-in | QEMU |", "|---|---|---|---|"]
    for script in area.scripts:
        ours, theirs = outcomes[script.id]
        lines.append(f"| `{script.name}` | {script.what} | {ours} | {theirs} |")
    return [*lines, ""]
