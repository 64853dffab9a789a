"""The tables in `conformance/`: what a document demands, statement by statement, and where that is shown.

A table is lines of tab-separated cells.  `document` and `part` lines name what follows; a `clause` line gives number,
side (`device` or `driver`) and title of a clause; each line below it is a statement of that clause: its number there,
the hash of its text (`-` where the demand is in our own words only), level, state, pointers, and what it is about in
our words.  A `commands` line below a `clause` line names commands that the clause is about, separated by `; `, with the
table of ours that has them: `disk: READ SECTOR(S)`.  A `registers` line does the same for the registers and fields of a
clause that is about several: `CommonConfig.queue_desc`.  Pointers are separated by `; `, too:

    tests/unit/virtio/test_blk.py::test_flush       a test that fails where the statement does not hold
    tests/unit/virtio/test_blk.py::test_flush[1]    one of its cases
    tests/scripts/flush.guest.yaml                  a script that does
    !devmodels/virtio/device.py: clears bits of     a check of the guest's side: a report whose words hold these
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLES = ROOT / "conformance"


class State(StrEnum):
    """Whether a statement is shown to hold."""

    TEST = "test"
    """A test fails where it does not."""
    CHECK = "check"
    """The guest's side: what breaks it is reported, and a test sees the report."""
    NOT_APPLICABLE = "n/a"
    """It binds nothing here; the words say why."""
    OPEN = "open"
    """Not shown yet."""


class TableError(Exception):
    """A table is wrong: file and line, and what was expected."""


@dataclass(slots=True)
class Row:
    """A statement."""

    number: int
    digest: str
    level: str
    state: State
    pointers: tuple[str, ...]
    words: str


@dataclass(slots=True)
class Clause:
    """A clause of a document with its statements; `part` is the chapter of ours that it belongs to.

    `commands` are those that it is about: `disk: READ SECTOR(S)`; `registers`, where they are several, as well.
    """

    number: str
    side: str
    title: str
    part: str
    rows: list[Row] = field(default_factory=list)
    commands: tuple[str, ...] = ()
    registers: tuple[str, ...] = ()


@dataclass(slots=True)
class Table:
    """All clauses of a document."""

    path: Path
    document: str
    about: str
    clauses: list[Clause]

    @property
    def rows(self) -> Iterator[tuple[Clause, Row]]:
        """Every statement with its clause."""
        return ((clause, row) for clause in self.clauses for row in clause.rows)


def tables() -> list[Table]:
    """Every table, VIRTIO's first."""
    paths = sorted(TABLES.glob("*.tsv"), key=lambda path: (not path.name.startswith("virtio"), path.name))
    return [read(path) for path in paths]


def read(path: Path) -> Table:
    """A table; TableError where it is none."""
    document, about, part = "", "", ""
    clauses: list[Clause] = []
    for at, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        cells = line.split("\t")
        try:
            if cells[0] == "document":
                _, document, about = cells
            elif cells[0] == "part":
                _, part = cells
            elif cells[0] == "clause":
                _, number, side, title = cells
                clauses.append(Clause(number, side, title, part))
            elif cells[0] == "commands":
                _, names = cells
                clauses[-1].commands = tuple(names.split("; "))
            elif cells[0] == "registers":
                _, names = cells
                clauses[-1].registers = tuple(names.split("; "))
            elif line:
                clauses[-1].rows.append(_row(cells))
        except (ValueError, IndexError) as error:
            raise TableError(f"{path}:{at}: {error}") from None
    return Table(path, document, about, clauses)


def _row(cells: list[str]) -> Row:
    number, digest, level, state, pointers, words = cells
    shown = tuple(each for each in pointers.split("; ") if each)
    return Row(int(number), digest, level, State(state), shown, words)


def write(table: Table) -> None:
    """Put a table back into its file."""
    lines = [f"document\t{table.document}\t{table.about}"]
    part = ""
    for clause in table.clauses:
        if clause.part != part:
            part = clause.part
            lines += ["", f"part\t{part}"]
        lines += ["", f"clause\t{clause.number}\t{clause.side}\t{clause.title}"]
        if clause.commands:
            lines.append(f"commands\t{'; '.join(clause.commands)}")
        if clause.registers:
            lines.append(f"registers\t{'; '.join(clause.registers)}")
        for row in clause.rows:
            cells = (str(row.number), row.digest, row.level, row.state, "; ".join(row.pointers), row.words)
            lines.append("\t".join(cells))
    table.path.write_text("\n".join(lines) + "\n", encoding="utf-8")
