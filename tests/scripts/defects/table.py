"""The tables of defects, and what becomes of a module with one of them in it."""

from __future__ import annotations

import re
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec
from ruamel.yaml import YAML

from tools.replaced import ROOT

FOLDER = Path(__file__).parent


class Edit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"path": "in"}):
    """`was` is at one place of the module at `path`, from the middle of a line or of its own lines, and is replaced.

    Both are written without the indentation that the first line has there.
    """

    path: str
    was: str
    becomes: str = ""

    def put(self, source: str) -> str:
        """The module with it; raises `ValueError` where the text is not there, or at several places."""
        first, *others = self.was.rstrip("\n").split("\n")
        pattern = rf"^(?P<indent> *+)(?P<before>.*?){re.escape(first)}" + "".join(
            rf"\n(?P=indent){re.escape(line)}" if line else r"\n" for line in others
        )
        places = list(re.finditer(pattern, source, re.MULTILINE))
        if len(places) != 1:
            raise ValueError(f"{self.path}: {len(places)} places read {first!r}")
        (place,) = places
        lines = self.becomes.rstrip("\n").split("\n")
        text = "\n".join([lines[0], *(place["indent"] + line if line else "" for line in lines[1:])])
        return source[: place.end("before")] + text + source[place.end() :]


class Defect(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"what": "is", "seen_by": "seen-by"}
):
    """`what` is wrong with our devices then, in a few words that no other one has; `seen_by` are hostile scripts."""

    what: str
    causes: list[str]
    seen_by: list[str]
    edits: list[Edit]
    memory: Literal["shared", "bounced"] = "shared"

    def sources(self) -> dict[str, str]:
        """The modules that are others with it, by path."""
        sources: dict[str, str] = defaultdict(str)
        for edit in self.edits:
            before = sources[edit.path] or (ROOT / edit.path).read_text(encoding="utf-8")
            sources[edit.path] = edit.put(before)
        return dict(sources)


@cache
def defects() -> dict[str, Defect]:
    """All of them, by what they are."""
    rows = [
        row
        for path in sorted(FOLDER.glob("*.yaml"))
        for row in msgspec.convert(YAML(typ="safe").load(path.read_text(encoding="utf-8")), list[Defect])
    ]
    assert len({row.what for row in rows}) == len(rows)
    return {row.what: row for row in rows}
