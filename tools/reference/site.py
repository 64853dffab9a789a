"""All pages together: what is written into a directory, and the page of docs/ that leads to it."""

from __future__ import annotations

from html import escape

from tools.reference import features, opcodes, registers, states, structures
from tools.reference.declared import ROOT
from tools.reference.machines import MACHINES
from tools.reference.page import INDEX, Page, html, index

DIRECTORY = ROOT / "docs" / "reference"
MARKDOWN = ROOT / "docs" / "reference.md"

HEAD = """# Reference pages

Written by `python -m tools.reference` (`make docs`) from the tables that devices work by; `-o DIRECTORY` writes them
elsewhere. Open [reference/index.html](reference/index.html) from a checkout in a browser. They load nothing from
anywhere, follow the system's colours, and fit a telephone; `/` searches all of them. A test of the default tier fails
where they are not those of the tables, or where a register is declared that they do not have.
"""
PICTURE = "The bits of a register, and its fields"


def pages() -> list[Page]:
    """The pages in their order, the one that leads to the others first."""
    made = (features.page(), opcodes.page(), structures.memory(), structures.scsi(), states.page())
    others = [registers.page(), *made]
    start = Page("index", "Reference", "What the devices are, drawn from the tables that they work by.")
    start.add(['<ul class="cards">'])
    start.add(
        f'<li><a href="{page.file}"><b>{escape(page.title)}</b></a><span>{escape(page.summary)}</span></li>'
        for page in others
    )
    start.add(["</ul>", '<p class="note">The search above knows every name on these pages; / begins it.</p>'])
    start.summary = "where the others are, and a search over all of them"
    return [start, *others]


def files(every: list[Page]) -> dict[str, str]:
    """Each file's text by its name."""
    return {page.file: html(page, every) for page in every} | {INDEX: index(every)} | states.drawings()


def markdown(every: list[Page]) -> str:
    """The page for readers of the repository."""
    lines = [HEAD, f"![{PICTURE}](images/reference.png)\n", "| | |", "|---|---|"]
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
