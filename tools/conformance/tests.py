"""The tests there are, found in their source."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache

from tools.conformance.table import ROOT

_FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef
_NEVER = ("pytest.mark.skip", "pytest.mark.xfail")
"""Marks of tests that do not fail, whatever they find."""


@cache
def names_in(file: str) -> frozenset[str]:
    """The names of a file's tests, those of classes with the class before `::`; none where there is no such file.

    State machines of Hypothesis are tests (`TestRing = Ring.TestCase`), and so is what drivers do in a `stories.py`:
    others go through them all.  Tests that are skipped, or may fail, are none.
    """
    path = ROOT / file
    if not path.is_file():
        return frozenset()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(_names(tree.body, stories=path.name == "stories.py"))


def _names(body: list[ast.stmt], *, stories: bool) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            yield from (f"{node.name}::{name}" for name in _names(node.body, stories=False))
        elif isinstance(node, ast.Assign):
            if ast.unparse(node.value).endswith(".TestCase"):
                yield ast.unparse(node.targets[0])
        elif isinstance(node, _FUNCTIONS):
            story = stories and isinstance(node, ast.AsyncFunctionDef)
            marks = {ast.unparse(each).partition("(")[0] for each in node.decorator_list}
            if (story or node.name.startswith("test_")) and not marks.intersection(_NEVER):
                yield node.name


@cache
def cases_in(file: str) -> frozenset[str]:
    """The tests of a file with their parameters (`test_flush[1]`), as pytest finds them."""
    command = (sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider", file)
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return frozenset(
        line.partition("::")[2] for line in found.stdout.splitlines() if line.startswith(f"{file}::")
    )


def exists(pointer: str) -> bool:
    """Whether a pointer to a test, to a case of one, or to a script points at one."""
    file, _, name = pointer.partition("::")
    if not name:
        return file.endswith(".guest.yaml") and (ROOT / file).is_file()
    test, case, _ = name.partition("[")
    return test in names_in(file) and (not case or name in cases_in(file))
