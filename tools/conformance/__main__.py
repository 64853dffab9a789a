"""The command: see the package."""

from __future__ import annotations

import sys
from pathlib import Path

from tools.conformance.extract import SOURCES
from tools.conformance.judge import complaints, drift, updated
from tools.conformance.offered import unaccounted
from tools.conformance.page import HTML, MARKDOWN, html, markdown
from tools.conformance.table import ROOT, TABLES, Table, TableError, read, tables, write

VIRTIO = TABLES / "virtio-1.4.tsv"
USAGE = """python -m tools.conformance                              write the pages, where nothing is wrong
python -m tools.conformance extract CHECKOUT [--update]    hold VIRTIO's table against a checkout of its sources
python -m tools.conformance seen                         run the tests of rows with a check: each must see its report"""


def main(arguments: list[str]) -> int:
    """Exit status: 0, 1 where a table is wrong or differs from the specification, 2 where something cannot be read."""
    try:
        if not arguments:
            return _pages()
        if arguments[0] == "extract" and arguments[2:] in ([], ["--update"]):
            return _extract(Path(arguments[1]), update=bool(arguments[2:]))
        if arguments == ["seen"]:
            return _seen()
    except (OSError, TableError) as error:
        print(error, file=sys.stderr)
        return 2
    except IndexError:
        pass
    print(USAGE, file=sys.stderr)
    return 2


def _pages() -> int:
    every = tables()
    wrong = [*(line for table in every for line in complaints(table)), *unaccounted(every)]
    if wrong:
        print(*wrong, sep="\n")
        print(f"{len(wrong)} things are wrong; no page is written")
        return 1
    MARKDOWN.write_text(markdown(every), encoding="utf-8")
    HTML.write_text(html(every), encoding="utf-8")
    rows = sum(len(clause.rows) for table in every for clause in table.clauses)
    print(f"{rows} rows in {MARKDOWN.relative_to(ROOT)} and {HTML.relative_to(ROOT)}")
    return 0


def _seen() -> int:
    from tools.conformance.seen import unseen

    lines = unseen(tables())
    print(*lines, sep="\n", end="\n" if lines else "")
    print(f"{len(lines)} reports that nobody sees")
    return 1 if lines else 0


def _extract(checkout: Path, *, update: bool) -> int:
    lacks = next((name for name in ("main.tex", *SOURCES) if not (checkout / name).is_file()), None)
    if lacks is not None:
        raise TableError(f"{checkout}: there is no {lacks}, expected a checkout of oasis-tcs/virtio-spec")
    table = read(VIRTIO) if VIRTIO.exists() else Table(VIRTIO, "VIRTIO 1.4", "", [])
    if update:
        updated(table, checkout)
        write(table)
    lines = drift(table, checkout)
    print(*lines, sep="\n", end="\n" if lines else "")
    print(f"{sum(len(clause.rows) for clause in table.clauses)} statements, {len(lines)} differences")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
