"""Write docs/ata-qemu-differences.md: what QEMU's ATA controllers do otherwise than the scripts say of ours.

    python -m tools.qemu_differences

The differences are those that the scripts themselves state (`on qemu`), with who is right and the clause.  That they
are so, and are all, is shown by running the scripts on QEMU (`tests/scripts/test_scripts_qemu.py`).
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from guestsim.script.load import load_all
from guestsim.script.machine import ATA_HOSTS, IDE_UNITS
from guestsim.script.schema import Script, Step, all_steps
from guestsim.script.schema_expect import Difference, Expect

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "tests" / "scripts"
PAGE = ROOT / "docs" / "ata-qemu-differences.md"
SHOWN = 3
"""How many examples of a difference are given."""
RIGHT = {"script": "ours", "target": "QEMU's", "both": "both"}

HEAD = """# What QEMU's ATA controllers do otherwise

Written by `tools/qemu_differences.py` from the scripts in `tests/scripts` that run on our `ich9-ahci` and `piix3-ide`
and on those of a live QEMU 7.2 (`pytest -m qemu tests/scripts/test_scripts_qemu.py`), with disks and CD drives. Where
one names no difference, both give the same, step by step: status, error, data, registers, interrupts, what the image
holds. That each difference that is named is one is tested there, too. *Right* is who does as the clause says: *both*
where it leaves that open.
"""


@dataclass(frozen=True, slots=True)
class Run:
    """A script that is run on both."""

    file: str
    script: Script
    kinds: tuple[tuple[str, str], ...]
    """Controllers, each with the kind of device."""

    @property
    def differences(self) -> list[tuple[Step, Difference]]:
        """Where QEMU answers otherwise."""
        return [(step, each) for step in all_steps(self.script.steps) for each in step.differences("qemu")]

    @property
    def reasons(self) -> set[str]:
        """What they are, in words."""
        return {each.because for _, each in self.differences}


@dataclass(slots=True)
class Reason:
    """What QEMU does otherwise, in one sentence, and where it shows."""

    because: str
    right: str
    steps: int = 0
    scripts: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    shown: Counter[str] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        """In how many scripts it shows."""
        return sum(len(names) for names in self.scripts.values())

    def add(self, run: Run, step: Step, difference: Difference) -> None:
        """One step more."""
        if RIGHT[difference.right] != self.right:
            raise ValueError(f"{run.file}: {self.because!r} is {self.right} elsewhere")
        self.steps += 1
        self.scripts[run.file].add(run.script.name)
        self.shown.update(compared(step.expect or Expect(), difference))


@cache
def runs() -> tuple[Run, ...]:
    """The scripts for ATA controllers that are run on both."""
    return tuple(_runs())


def _runs() -> Iterator[Run]:
    for path in sorted(FOLDER.rglob("*.guest.yaml")):
        if not any(host in path.read_text() for host in ATA_HOSTS):
            continue
        for script, _ in load_all(path):
            drivers = {str(device.get("driver")) for device in script.devices}
            kinds = [
                (host, unit) for host in sorted(drivers & ATA_HOSTS) for unit in sorted(drivers & IDE_UNITS)
            ]
            if kinds and {"devmodels", "qemu"} <= set(script.targets):
                name = path.relative_to(FOLDER).as_posix().removesuffix(".guest.yaml")
                yield Run(name, script, tuple(kinds))


def compared(ours: Expect, theirs: Difference) -> Iterator[str]:
    """What is expected of us and what QEMU answers, each thing that is not the same."""
    known = ours.registers or {}
    for name, value in (theirs.registers or {}).items():
        if name not in known:
            yield f"{name} {_hex(value)}"
        elif known[name] != value:
            yield f"{name} {_hex(known[name])} → {_hex(value)}"
    if theirs.data is not None:
        yield "the data" if theirs.data else "no data"
    if theirs.length is not None:
        yield f"{ours.length} → {theirs.length} bytes"
    for name in ("interrupts", "value", "blocks", "found"):
        value = getattr(theirs, name)
        if value is not None:
            yield f"{name} {getattr(ours, name)} → {value}"


def _hex(value: int) -> str:
    return f"{value:X}h" if value > 9 else str(value)


def reasons(of: Iterable[Run]) -> list[Reason]:
    """All differences, those that show in most scripts first."""
    found: dict[str, Reason] = {}
    for run in of:
        for step, each in run.differences:
            found.setdefault(each.because, Reason(each.because, RIGHT[each.right])).add(run, step, each)
    return sorted(found.values(), key=lambda each: (-each.count, each.because))


def _counts(of: tuple[Run, ...]) -> Iterator[str]:
    kinds = sorted({kind for run in of for kind in run.kinds})
    most = reasons(of)[0].because
    open_ones = {each.because for each in reasons(of) if each.right == "both"}
    yield "| | " + " | ".join(f"`{host}`, `{unit}`" for host, unit in kinds) + " | all |"
    yield "|---" * (len(kinds) + 2) + "|"
    for label, wanted in (
        ("scripts", lambda _: True),
        ("equal in every step", lambda run: not run.reasons),
        ("equal, but for difference 1", lambda run: run.reasons == {most}),
        (
            "equal, but for differences in which both are right",
            lambda run: run.reasons and run.reasons <= open_ones,
        ),
        (
            "the same, and difference 1",
            lambda run: run.reasons > {most} and run.reasons - {most} <= open_ones,
        ),
        ("with another difference in which one is right", lambda run: run.reasons - open_ones - {most}),
    ):
        cells = [sum(bool(wanted(run)) for run in of if kind in run.kinds) for kind in kinds]
        yield f"| {label} | " + " | ".join(map(str, cells)) + f" | {sum(bool(wanted(run)) for run in of)} |"


def page() -> str:
    """The page."""
    of = runs()
    found = reasons(of)
    lines = [HEAD, *_counts(of), "", "A script with a disk and a drive is counted for both.", ""]
    lines += [
        f"## {len(found)} differences",
        "",
        "| | What QEMU does | Right | Ours → QEMU's | Scripts |",
        "|---|---|---|---|---|",
    ]
    for number, each in enumerate(found, 1):
        shown = "; ".join(
            text for text, _ in sorted(each.shown.items(), key=lambda item: (-item[1], item[0]))[:SHOWN]
        )
        where = ", ".join(f"`{file}` ({len(names)})" for file, names in sorted(each.scripts.items()))
        lines.append(f"| {number} | {each.because} | {each.right} | {shown} | {where} |")
    numbers = {each.because: number for number, each in enumerate(found, 1)}
    lines += ["", "## Scripts", "", "| File | Scripts | Equal | Differences |", "|---|---|---|---|"]
    for file in sorted({run.file for run in of}):
        here = [run for run in of if run.file == file]
        named = sorted({numbers[reason] for run in here for reason in run.reasons})
        equal = sum(not run.reasons for run in here)
        lines.append(f"| `{file}` | {len(here)} | {equal} | {', '.join(map(str, named))} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the page."""
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
