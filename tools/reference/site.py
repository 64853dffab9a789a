"""All pages together: what is written into a directory, and the page of docs/ that leads to it."""

from __future__ import annotations

from tools.reference import features, opcodes, registers, states, structures
from tools.reference.declared import ROOT
from tools.reference.machines import MACHINES
from tools.reference.page import INDEX, Page, html, index

DIRECTORY = ROOT / "docs" / "reference"
MARKDOWN = ROOT / "docs" / "reference.md"

HEAD = """# Reference pages

Written by `python -m tools.reference` (`make docs`) from the tables that devices work by; `-o DIRECTORY` writes them
elsewhere. They load nothing from anywhere, follow the system's colours, and fit a telephone; `/` searches all of them.
Open them in a browser from a checkout. A test of the default tier fails where they are not those of the tables, or
where a register is declared that they do not have.
"""


def pages() -> list[Page]:
    """The pages in their order."""
    return [
        registers.page(),
        features.page(),
        opcodes.page(),
        structures.memory(),
        structures.scsi(),
        states.page(),
    ]


def files(every: list[Page]) -> dict[str, str]:
    """Each file's text by its name."""
    return {page.file: html(page, every) for page in every} | {INDEX: index(every)} | states.drawings()


def markdown(every: list[Page]) -> str:
    """The page for readers of the repository."""
    lines = [HEAD, "| | |", "|---|---|"]
    lines += [f"| [{page.title}](reference/{page.file}) | {page.summary} |" for page in every]
    lines += [
        "",
        "## State machines",
        "",
        "What holds them true is said on the page; here are the drawings.",
        "",
    ]
    for machine in MACHINES:
        lines += [
            f"**{machine.title}** ({machine.clause})",
            "",
            f"![{machine.title}](reference/{machine.anchor}.svg)",
            "",
        ]
    return "\n".join(lines[:-1]) + "\n"
