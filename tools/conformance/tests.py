"""The tests there are, found in their source."""

from __future__ import annotations

import re
from functools import cache

from tools.conformance.table import ROOT

_NAMES = re.compile(
    r"^(?:class (?P<class>\w+)"
    r"|(?P<inside>    )?(?P<waits>async )?def (?P<function>\w+)\("
    r"|(?P<machine>\w+) = \w+\.TestCase$)",
    re.MULTILINE,
)


@cache
def names_in(file: str) -> frozenset[str]:
    """The names of a file's tests, those of classes with the class before `::`; none where there is no such file.

    State machines of Hypothesis are tests (`TestRing = Ring.TestCase`), and so is what drivers do in a `stories.py`:
    others go through them all.
    """
    path = ROOT / file
    if not path.is_file():
        return frozenset()
    found: set[str] = set()
    owner = ""
    for each in _NAMES.finditer(path.read_text(encoding="utf-8")):
        name = each["function"]
        if each["class"]:
            owner = each["class"]
        elif each["machine"]:
            found.add(each["machine"])
        elif name.startswith("test_"):
            found.add(f"{owner}::{name}" if each["inside"] else name)
        elif path.name == "stories.py" and each["waits"] and not each["inside"]:
            found.add(name)
    return frozenset(found)


def exists(pointer: str) -> bool:
    """Whether a pointer to a test or a script points at one."""
    file, _, name = pointer.partition("::")
    return name in names_in(file) if name else file.endswith(".guest.yaml") and (ROOT / file).is_file()
