"""The frame of a page: its head, style, program, contents; and the index that all pages are searched by."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from tools.template import filled

_HERE = Path(__file__).parent
INDEX = "search.js"
"""The file that pages load their common index from, if it is there."""


@dataclass(frozen=True, slots=True)
class Hit:
    """What a search can find: a name, what it is, and where it is on its page."""

    name: str
    what: str
    anchor: str


@dataclass(slots=True)
class Page:
    """One page.

    `summary` is a line of Markdown about it, `lead` the HTML that it begins with and `body` the rest of it; `sections`
    (anchor, title, level 2 or 3) its contents, `hits` what can be searched.
    """

    name: str
    title: str
    lead: str
    summary: str = ""
    body: list[str] = field(default_factory=list)
    sections: list[tuple[str, str, int]] = field(default_factory=list)
    hits: list[Hit] = field(default_factory=list)

    @property
    def file(self) -> str:
        """What it is called in its directory."""
        return f"{self.name}.html"

    def section(self, anchor: str, title: str, level: int = 2) -> None:
        """Begin a section."""
        self.sections.append((anchor, title, level))
        self.body.append(f'<h{level} id="{anchor}">{link(anchor, title)}</h{level}>')

    def add(self, lines: Iterable[str]) -> None:
        """Add HTML."""
        self.body += lines

    def hit(self, name: str, what: str, anchor: str) -> None:
        """Let `name` be found."""
        self.hits.append(Hit(name, what, anchor))


def link(anchor: str, text: str) -> str:
    """A heading's text, which is a link to itself."""
    return f'<a class="self" href="#{anchor}">{escape(text)}</a>'


def cell(text: str) -> str:
    """Text for HTML, with what stands in backquotes as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))


def breakable(name: str) -> str:
    """A name for HTML, which may go on in another line after an underscore."""
    return escape(name).replace("_", "_<wbr>")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table whose cells are HTML; on a narrow screen it scrolls by itself."""
    lines = ['<div class="wide"><table><thead><tr>', *(f"<th>{name}</th>" for name in head), "</tr></thead>"]
    lines += ["<tr>" + "".join(f"<td>{each}</td>" for each in row) + "</tr>" for row in rows]
    return [*lines, "</table></div>"]


def html(page: Page, pages: Sequence[Page]) -> str:
    """The whole file."""
    parts = {
        "TITLE": escape(page.title),
        "LEAD": page.lead,
        "STYLE": (_HERE / "style.css").read_text(encoding="utf-8"),
        "PROGRAM": (_HERE / "page.js").read_text(encoding="utf-8"),
        "PAGES": "".join(
            f'<a href="{each.file}"{" class=here" if each is page else ""}>{escape(each.title)}</a>'
            for each in pages
        ),
        "CONTENTS": _contents(page),
        "BODY": "\n".join(page.body),
    }
    return filled(_HERE / "page.html", parts)


def _contents(page: Page) -> str:
    if not page.sections:
        return ""
    links = "".join(
        f'<a class="l{level}" href="#{anchor}">{escape(title)}</a>' for anchor, title, level in page.sections
    )
    return f'<details class="contents"><summary>On this page</summary><nav>{links}</nav></details>'


def index(pages: Sequence[Page]) -> str:
    """The program text that holds what can be searched: by page, name, what it is, anchor."""
    entries = [[page.file, hit.name, hit.what, hit.anchor] for page in pages for hit in page.hits]
    rows = ",\n".join(json.dumps(entry, ensure_ascii=False, separators=(",", ":")) for entry in entries)
    return f"const INDEX = [\n{rows}\n];\n"
