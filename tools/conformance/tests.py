"""The tests there are, found in their source."""

from __future__ import annotations

import ast
from functools import cache
from typing import TypeGuard

from tools.conformance.table import ROOT


@cache
def names_in(file: str) -> frozenset[str]:
    """The names of a file's tests, those of classes with the class before `::`; none where there is no such file.

    What drivers do in a `stories.py` are tests, too: others go through them all.
    """
    path = ROOT / file
    if not path.is_file():
        return frozenset()
    body = ast.parse(path.read_text(encoding="utf-8")).body
    found = {node.name for node in body if _is_test(node)} | _machines(body)
    if path.name == "stories.py":
        found |= {node.name for node in body if isinstance(node, ast.AsyncFunctionDef)}
    for node in body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{each.name}" for each in node.body if _is_test(each)}
    return frozenset(found)


def _is_test(node: ast.stmt) -> TypeGuard[ast.FunctionDef | ast.AsyncFunctionDef]:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")


def _machines(body: list[ast.stmt]) -> set[str]:
    """Tests that Hypothesis makes of a state machine: `TestRing = Ring.TestCase`."""
    return {
        target.id
        for node in body
        if isinstance(node, ast.Assign) and ast.unparse(node.value).endswith(".TestCase")
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def exists(pointer: str) -> bool:
    """Whether a pointer to a test or a script points at one."""
    file, _, name = pointer.partition("::")
    return name in names_in(file) if name else file.endswith(".guest.yaml") and (ROOT / file).is_file()
