"""docs/conformance.md and docs/conformance.html, written from the tables."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path

from tools.conformance.checks import Check, checks, matching
from tools.conformance.table import ROOT, Clause, Row, State, Table
from tools.template import filled

MARKDOWN = ROOT / "docs" / "conformance.md"
HTML = ROOT / "docs" / "conformance.html"
_STATES = tuple(State)

HEAD = """# What specifications demand, and where it is shown

Written by `python -m tools.conformance` from the tables in `conformance/`. Each statement of a conformance clause has a
row: `test` names tests that fail where the statement does not hold; `check` a report of what a driver did
(`guestsim lint TRACE`, `devmodels serve --strict`), and tests that see it; `n/a` why it binds nothing here; `open` is
not shown yet. A test of the default tier fails where a row points at nothing, and one of the slow tier where the tests
of a `check` row do not see its report (`python -m tools.conformance seen`).

Each command, each register and each field of a configuration that devices offer has a row: the commands and the
registers that a clause is about are named below its part, and a test fails where one is offered that no clause has.

The words are ours. VIRTIO's rows hold the hash of the specification's sentence: `python -m tools.conformance extract
CHECKOUT` reads a checkout of oasis-tcs/virtio-spec and fails where one of them has changed, gone or come. A page to
search in is [conformance.html](conformance.html).
"""
_COLUMNS = f"<colgroup>{'<col>' * 5}</colgroup>"
_LINK = re.compile(r"\[([^]]*)\]\(([^)]*)\)")
_PAGE = Path(__file__).with_name("page.html")


def markdown(tables: Sequence[Table]) -> str:
    """The page for readers of the repository."""
    lines = [HEAD, "| | Statements | " + " | ".join(_STATES) + " |", "|---|---|" + "---|" * len(_STATES)]
    for table in tables:
        lines.append(_counts(f"**{table.document}**", (row for _, row in table.rows)))
        if len(table_parts := parts(table)) > 1:
            lines += [
                _counts(name, (row for each in each_of for row in each.rows)) for name, each_of in table_parts
            ]
    lines.append(f"\n{driver_checks()}\n")
    for table in tables:
        lines.append(f"## {table.document}\n\n{table.about}\n")
        for name, clauses in parts(table):
            lines += [f"### {name}\n", "| | Side | Level | | State | Shown by |", "|---|---|---|---|---|---|"]
            lines += [_markdown_row(clause, row) for clause in clauses for row in clause.rows]
            lines.append("")
            lines += [f"{_number(each)}: {', '.join(_named(each))}.\n" for each in clauses if _named(each)]
    lines += ["## What is reported of drivers\n", "| Clause | Where | Words |", "|---|---|---|"]
    lines += [f"| {check.clause} | `{check.file}` | {_cell(check.words)} |" for check in checks()]
    return "\n".join(lines) + "\n"


def driver_checks() -> str:
    """How many different things are reported, by family of documents."""
    different = {(check.file, check.words): check.clause.split()[0].split("-")[0] for check in checks()}
    families = ", ".join(f"{count} {name}" for name, count in Counter(different.values()).most_common())
    clauses = {check.clause for check in checks()}
    return f"{len(different)} different mistakes of drivers are reported, against {len(clauses)} clauses: {families}."


def parts(table: Table) -> list[tuple[str, list[Clause]]]:
    """The clauses of a table by part."""
    found: dict[str, list[Clause]] = {}
    for clause in table.clauses:
        found.setdefault(clause.part, []).append(clause)
    return list(found.items())


def _counts(name: str, rows: Iterable[Row]) -> str:
    counted = Counter(row.state for row in rows)
    return f"| {name} | {counted.total()} | " + " | ".join(str(counted[state]) for state in _STATES) + " |"


def _markdown_row(clause: Clause, row: Row) -> str:
    shown = ", ".join(_markdown_pointer(each) for each in row.pointers)
    where = _where(clause, row)
    return f"| {where} | {clause.side} | {row.level} | {_cell(row.words)} | {row.state} | {shown} |"


def _markdown_pointer(pointer: str) -> str:
    if not pointer.startswith("!"):
        return f"`{pointer.removeprefix('tests/')}`"
    return "; ".join(f"“{_cell(check.words)}” ({check.clause.split()[-1]})" for check in _once(pointer))


def _once(pointer: str) -> list[Check]:
    return list({check.words: check for check in matching(pointer)}.values())


def _number(clause: Clause) -> str:
    """A clause's number, or its name."""
    return f"{'§' * clause.number[0].isdigit()}{clause.number}"


def _named(clause: Clause) -> tuple[str, ...]:
    """The commands and the registers that a clause is about."""
    return (*clause.commands, *clause.registers)


def _where(clause: Clause, row: Row) -> str:
    """A statement's place: its clause, and its number there."""
    return f"{_number(clause)}/{row.number}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def html(tables: Sequence[Table]) -> str:
    """One page with a search box, which loads nothing."""
    boxes = "".join(
        f'<label><input type="checkbox" value="{state}" checked> {state}</label>' for state in _STATES
    )
    parts_of_page = {
        "BOXES": boxes,
        "COUNT": escape(driver_checks()),
        "TABLES": "\n".join(_html_table(table) for table in tables),
    }
    return filled(_PAGE, parts_of_page)


def _html_table(table: Table) -> str:
    lines = [
        f'<article id="{escape(table.path.stem)}"><h2>{escape(table.document)}</h2><p>{_html_about(table.about)}</p>'
    ]
    for name, clauses in parts(table):
        lines.append(f"<section><h3>{escape(name)}</h3><table>{_COLUMNS}")
        lines += [line for clause in clauses for line in _html_clause(clause)]
        lines.append("</table></section>")
    lines.append("</article>")
    return "\n".join(lines)


def _html_about(text: str) -> str:
    """The text with its links."""
    return _LINK.sub(r'<a href="\2">\1</a>', escape(text))


def _html_clause(clause: Clause) -> Iterator[str]:
    named = f"<p>{escape(', '.join(_named(clause)))}</p>" if _named(clause) else ""
    yield (
        f'<tbody><tr><th colspan="5">{escape(_number(clause))} <span>{escape(clause.title)}</span>'
        f" <i>{clause.side}</i>{named}</th></tr>"
    )
    for row in clause.rows:
        shown = "<br>".join(_html_pointer(each) for each in row.pointers)
        name = "na" if row.state is State.NOT_APPLICABLE else row.state
        yield (
            f'<tr data-s="{row.state}"><td>{escape(_where(clause, row))}</td><td>{row.level}</td>'
            f'<td>{escape(row.words)}</td><td class="{name}">{row.state}</td><td>{shown}</td></tr>'
        )
    yield "</tbody>"


def _html_pointer(pointer: str) -> str:
    if not pointer.startswith("!"):
        file = escape(pointer.partition("::")[0])
        return f'<a href="../{file}"><code>{escape(pointer.removeprefix("tests/"))}</code></a>'
    return "<br>".join(
        f'<a href="../{escape(check.file)}">“{escape(check.words)}” ({check.clause.split()[-1]})</a>'
        for check in _once(pointer)
    )
