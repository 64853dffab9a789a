"""What is wrong with a table: rows that point at nothing, states that do not fit, statements that are missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tools.conformance.checks import matching
from tools.conformance.extract import Statement, statements
from tools.conformance.numbers import clause_numbers
from tools.conformance.table import Clause, Row, State, Table
from tools.conformance.tests import exists


def complaints(table: Table) -> list[str]:
    """Each thing that is wrong with the rows themselves, a line each."""
    return [
        f"{table.path.name}: §{clause.number}/{row.number}: {what}"
        for clause, row in table.rows
        for what in _of_row(row)
    ] + _of_numbers(table)


def _of_row(row: Row) -> Iterator[str]:
    tests = [each for each in row.pointers if not each.startswith("!")]
    reports = [each for each in row.pointers if each.startswith("!")]
    yield from (f"there is no test {each}" for each in tests if not exists(each))
    for each in reports:
        found = {check.words for check in matching(each)}
        if len(found) != 1:
            yield f"{len(found) or 'no'} reports are {each[1:]}"
    if row.state is State.TEST and not (tests and not reports):
        yield "state test: needs tests, and no check"
    if row.state is State.CHECK and not (tests and reports):
        yield "state check: needs a check and a test that sees it"
    if row.state in (State.OPEN, State.NOT_APPLICABLE) and reports:
        yield f"state {row.state}, but it has a check"
    if row.state is State.OPEN and row.pointers:
        yield "state open, but it has pointers"
    if row.state is State.NOT_APPLICABLE and not row.words:
        yield "state n/a: needs a reason"


def _of_numbers(table: Table) -> list[str]:
    return [
        f"{table.path.name}: §{clause.number}: statements are not numbered from 1"
        for clause in table.clauses
        if [row.number for row in clause.rows] != list(range(1, len(clause.rows) + 1))
    ]


def drift(table: Table, checkout: Path) -> list[str]:
    """How VIRTIO's table and a checkout of the specification differ, a line each."""
    numbers = clause_numbers(checkout)
    theirs = {_key(numbers, each): (each.digest, each.side, each.label) for each in statements(checkout)}
    ours = {
        (clause.number, row.number): (row.digest, clause.side, clause.title) for clause, row in table.rows
    }
    lines = [f"§{clause}/{number}: not in the table" for clause, number in theirs.keys() - ours.keys()]
    lines += [
        f"§{clause}/{number}: not in the specification" for clause, number in ours.keys() - theirs.keys()
    ]
    lines += [
        f"§{key[0]}/{key[1]}: the specification says something else"
        for key in theirs.keys() & ours.keys()
        if theirs[key] != ours[key]
    ]
    return sorted(lines)


def _key(numbers: dict[tuple[str, str], str], statement: Statement) -> tuple[str, int]:
    return numbers[statement.side, statement.label], statement.number


def updated(table: Table, checkout: Path) -> None:
    """Bring a table to what a checkout has: rows whose text is the same keep what they say, all others are open."""
    numbers = clause_numbers(checkout)
    known = {(clause.side, clause.title, row.digest, row.number): row for clause, row in table.rows}
    clauses: dict[str, Clause] = {}
    for each in statements(checkout):
        number = numbers[each.side, each.label]
        clause = clauses.setdefault(number, Clause(number, each.side, each.label, PARTS[each.part]))
        old = known.get((each.side, each.label, each.digest, each.number))
        row = old or Row(each.number, each.digest, each.level, State.OPEN, (), "")
        row.level = each.level
        clause.rows.append(row)
    table.clauses = list(clauses.values())


PARTS = {
    "basic": "Basic facilities, initialization, reserved features",
    "split": "Split virtqueues",
    "packed": "Packed virtqueues",
    "shm": "Shared memory",
    "pci": "PCI",
    "mmio": "MMIO",
    "blk": "Block device",
    "scsi": "SCSI host",
}
