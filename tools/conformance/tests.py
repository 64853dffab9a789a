"""The tests there are, found in their source."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache

from tools.conformance.table import ROOT

_FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef
_NEVER = ("pytest.mark.skip", "pytest.mark.skipif", "pytest.mark.xfail")
"""Marks of tests that do not fail, whatever they find, or do not run where a condition holds."""
_LEAVES = ("pytest.skip", "pytest.xfail", "pytest.importorskip")
"""What ends a test, or a module, whatever follows."""


@cache
def names_in(file: str) -> frozenset[str]:
    """The names of a file's tests, those of classes with the class before `::`; none where there is no such file.

    State machines of Hypothesis are tests (`TestRing = Ring.TestCase`), and so is what drivers do in a `stories.py`:
    others go through them all.  Tests that are skipped, or may fail, are none, whether they are marked themselves or
    their class or module is; those of a tier are, as all tiers are run.
    """
    path = ROOT / file
    if not path.is_file():
        return frozenset()
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return frozenset(() if _left(body) else _names(body, stories=path.name == "stories.py"))


def _names(body: list[ast.stmt], *, stories: bool) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            if not _marked(node.decorator_list) and not _left(node.body):
                yield from (f"{node.name}::{name}" for name in _names(node.body, stories=False))
        elif isinstance(node, ast.Assign):
            if ast.unparse(node.value).endswith(".TestCase"):
                yield ast.unparse(node.targets[0])
        elif isinstance(node, _FUNCTIONS):
            story = stories and isinstance(node, ast.AsyncFunctionDef)
            unseen = _marked(node.decorator_list) or _left(node.body)
            if (story or node.name.startswith("test_")) and not unseen:
                yield node.name


def _marked(marks: Iterable[ast.expr]) -> bool:
    """Whether one of the marks keeps tests from running, or from failing."""
    return any(ast.unparse(each).partition("(")[0] in _NEVER for each in marks)


def _left(body: list[ast.stmt]) -> bool:
    """Whether a module, a class or a test is left unseen: by its `pytestmark`, or by a statement of its own."""
    for node in body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            value = node.value
            marks = value.elts if isinstance(value, ast.List | ast.Tuple) else [value]
            if "pytestmark" in map(ast.unparse, targets) and _marked(marks):
                return True
        elif isinstance(node, ast.Expr) and ast.unparse(node.value).partition("(")[0] in _LEAVES:
            return True
    return False


@cache
def cases_in(file: str) -> frozenset[str]:
    """The tests of a file with their parameters (`test_flush[1]`), as pytest finds them."""
    command = (
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--collect-only",
        "-m",
        "",
        "-p",
        "no:cacheprovider",
        file,
    )
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
