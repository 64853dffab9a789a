"""The numbers of the specification's clauses, from the headings of its LaTeX sources."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_LEVELS = ("chapter", "section", "subsection", "subsubsection", "paragraph", "subparagraph")
_TOKEN = re.compile(
    r"\\(?P<level>" + "|".join(_LEVELS) + r")\s*(?:\[[^\]]*\])?\s*\{"
    r"|\\(?P<side>device|driver)normative\s*\{\\(?P<norm>\w+)\}\s*\{[^}]*\}\s*\{(?P<label>[^}]*)\}"
    r"|\\input\{(?P<file>[^}]+)\}"
    r"|(?P<appendix>\\appendix)"
)
_COMMENT = re.compile(r"(?<!\\)%.*")


def clause_numbers(checkout: Path) -> dict[tuple[str, str], str]:
    """The number of each conformance clause ("2.7.5.2"), by side and label."""
    counts = [0] * len(_LEVELS)
    numbers: dict[tuple[str, str], str] = {}
    for level, side, label in _headings(checkout, "main.tex"):
        counts[level] += 1
        counts[level + 1 :] = [0] * (len(_LEVELS) - level - 1)
        if side:
            numbers[side, label] = ".".join(map(str, counts[: level + 1]))
    return numbers


def _headings(checkout: Path, name: str) -> Iterator[tuple[int, str, str]]:
    """Level, and side and label where a heading is a conformance clause, as far as the appendices."""
    source = _COMMENT.sub("", (checkout / name).read_text(encoding="utf-8"))
    for match in _TOKEN.finditer(source):
        if match["appendix"]:
            return
        if match["file"]:
            file = match["file"].removesuffix(".tex") + ".tex"
            if (checkout / file).exists():
                yield from _headings(checkout, file)
        elif match["level"]:
            yield _LEVELS.index(match["level"]), "", ""
        else:
            yield _LEVELS.index(match["norm"]), match["side"], " ".join(match["label"].split())
