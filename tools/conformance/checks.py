"""What is reported of a guest: every place in the code that names a clause and says what a driver did wrong.

The places are found in the source, not by running it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tools.conformance.table import ROOT

_PACKAGES = ("virtio", "virtio_blk", "virtio_scsi", "ahci", "ata", "ata/*", "ide_cdrom", "scsi", "scsi/*")
PLACES = (*(f"devmodels/{package}/*.py" for package in _PACKAGES), "guestsim/lint/*.py")
_CLAUSE = re.compile(r"(?:VIRTIO|AHCI|SFF|PCI|ACS|ATA|SATA|SPC|SBC|MMC|SAM)\S* ?[^§]*§[\d.]+")
_REPORTERS = frozenset(
    (
        "report",
        "_report",
        "violation",
        "_violation",
        "say",
        "_say",
        "_refuse",
        "refuse",
        "_wrong",
        "wrong",
        "_odd",
        "RingError",
    )
)
_CALL = re.compile(r"\b(?:" + "|".join(_REPORTERS) + r")\(")
ACCESS = "…: …-byte … at …: …"
"""A report of `registers`: width, alignment, direction, reserved places."""
_PLACE = "… head …"
"""What is left of a report whose words come from elsewhere."""
_FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True, order=True)
class Check:
    """One report: its clause, file, line and words, with `…` for what differs from time to time."""

    clause: str
    file: str
    line: int
    words: str


@cache
def checks() -> tuple[Check, ...]:
    """All checks of what drivers do, by clause."""
    paths = [
        path
        for place in PLACES
        for path in ROOT.glob(place)
        if _CALL.search(path.read_text(encoding="utf-8"))
    ]
    return tuple(sorted({check for path in paths for check in _Module.of(path).checks()}))


def matching(pointer: str) -> list[Check]:
    """The checks that a table's `!file: words` means: those with just these words, else those whose words hold them."""
    file, _, words = pointer.removeprefix("!").partition(": ")
    found = [check for check in checks() if check.file == file and words and words in check.words]
    return [check for check in found if check.words == words] or found


@dataclass(frozen=True, slots=True)
class _Value:
    """What a name is given: where, in which of the function's own statements, that one's end, and what with it."""

    line: int
    statement: int
    end: int
    value: ast.expr
    along: tuple[ast.expr, ...] = ()


_Names = dict[str, list[_Value]]


class _Module:
    """A source file, and what its names stand for."""

    def __init__(self, path: Path) -> None:
        self.file = str(path.relative_to(ROOT))
        tree = ast.parse(path.read_text(encoding="utf-8"))
        self._names = _assigned(tree.body)
        nodes = list(ast.walk(tree))
        self._imports = {
            alias.asname or alias.name: (node.module, alias.name)
            for node in nodes
            if isinstance(node, ast.ImportFrom) and node.module
            for alias in node.names
        }
        self._attributes = {
            each.targets[0].attr: _constant(each.value)
            for each in nodes
            if isinstance(each, ast.Assign) and isinstance(each.targets[0], ast.Attribute)
        } | {
            name: [text for each in values for text in _constant(each.value)]
            for name, values in _inner(nodes)
        }
        self._functions = [node for node in nodes if isinstance(node, _FUNCTIONS)]
        self._by_name = {function.name: function for function in self._functions}

    @staticmethod
    @cache
    def of(path: Path) -> _Module:
        """The module of a file."""
        return _Module(path)

    def checks(self) -> Iterator[Check]:
        """Its reports."""
        for function in self._functions:
            local = _assigned(function.body)
            given = {each.arg for each in (*function.args.args, *function.args.kwonlyargs)}
            for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
                if _called(call) in _REPORTERS:
                    for clause, words in self._said(call, local, given):
                        yield Check(clause, self.file, call.lineno, words)

    def _said(self, call: ast.Call, local: _Names, given: set[str]) -> Iterator[tuple[str, str]]:
        """Clause and words of a report: the first strings of the call, or the words and the reporter's clause."""
        clauses: list[str] = []
        words: list[tuple[str, tuple[ast.expr, ...]]] = []
        for each in (*call.args, *(keyword.value for keyword in call.keywords)):
            found = self._texts(each, local, call.lineno, given)
            clauses = clauses or [text for text, along in found if _is_clause(text) and not along]
            words = words or [said for said in found if not _is_clause(said[0])]
        clauses = clauses or self._usual(_called(call))
        for text, along in words:
            own = [clause for each in along for clause, _ in self._texts(each, {}, 0, set())]
            for clause in [clause for clause in own if _is_clause(clause)] or clauses:
                if text not in (_PLACE, "…: …"):
                    yield clause, text

    def _usual(self, name: str) -> list[str]:
        """The clause that a reporter of this file names by itself."""
        function = self._by_name.get(name)
        if function is None:
            return []
        inside = [node for node in ast.walk(function) if isinstance(node, ast.expr)]
        return [text for node in inside for text, _ in self._texts(node, {}, 0, set()) if _is_clause(text)]

    def _texts(
        self, node: ast.expr, local: _Names, line: int, given: set[str]
    ) -> list[tuple[str, tuple[ast.expr, ...]]]:
        """What a string may be, each with what is given along with it."""
        if isinstance(node, ast.Constant):
            return [(node.value, ())] if isinstance(node.value, str) else []
        if isinstance(node, ast.JoinedStr):
            parts = (each.value if isinstance(each, ast.Constant) else "…" for each in node.values)
            return [("".join(map(str, parts)), ())]
        if isinstance(node, ast.IfExp):
            return [each for arm in (node.body, node.orelse) for each in self._texts(arm, local, line, given)]
        if ast.unparse(node) == "str(access)":
            return [(ACCESS, ())]
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self":
            return [(text, ()) for text in self._attributes.get(node.attr, [])]
        if not isinstance(node, ast.Name):
            return []
        before = [each for each in local.get(node.id, []) if each.line < line]
        if before:
            # Only the last statement counts, but all of its branches where it is over.
            newest = before[-1]
            last = [each for each in before if each.statement == newest.statement and each.end < line] or [
                newest
            ]
            straight = [each for each in before if not each.along and each not in last]
            last = last if not last[-1].along else [*straight[-1:], *last]
            return [
                (text, each.along) for each in last for text, _ in self._texts(each.value, {}, line, given)
            ]
        if node.id in given:
            return []
        known = [text for each in self._names.get(node.id, []) for text in _constant(each.value)]
        return [(text, ()) for text in known or self._imported(node.id)]

    def _imported(self, name: str) -> list[str]:
        module, original = self._imports.get(name, ("", ""))
        path = ROOT / (module.replace(".", "/") + ".py")
        if not module.startswith(("devmodels.", "guestsim.")) or not path.exists():
            return []
        return [text for each in _Module.of(path)._names.get(original, []) for text in _constant(each.value)]


def _is_clause(text: str) -> bool:
    return _CLAUSE.fullmatch(text) is not None


def _constant(node: ast.expr) -> list[str]:
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def _inner(nodes: list[ast.AST]) -> Iterator[tuple[str, list[_Value]]]:
    """What is assigned in the bodies of classes."""
    for node in nodes:
        if isinstance(node, ast.ClassDef):
            yield from _assigned(node.body).items()


def _called(call: ast.Call) -> str:
    function = call.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _assigned(body: list[ast.stmt]) -> _Names:
    """What is assigned to names by statements, but not inside of functions and classes among them."""
    found: _Names = {}
    for number, statement in enumerate(body):
        end = statement.end_lineno or 0
        for node in _inside(statement):
            if isinstance(node, ast.AnnAssign) and node.value is not None:
                pairs = _pairs(node.target, node.value)
            elif isinstance(node, ast.Assign):
                pairs = [pair for target in node.targets for pair in _pairs(target, node.value)]
            else:
                continue
            for target, value, along in pairs:
                if isinstance(target, ast.Name):
                    found.setdefault(target.id, []).append(_Value(node.lineno, number, end, value, along))
    return found


def _inside(statement: ast.stmt) -> Iterator[ast.AST]:
    if isinstance(statement, _FUNCTIONS | ast.ClassDef):
        return
    waiting: list[ast.AST] = [statement]
    while waiting:
        node = waiting.pop(0)
        yield node
        waiting = [each for each in ast.iter_child_nodes(node) if isinstance(each, ast.stmt)] + waiting


def _pairs(target: ast.expr, value: ast.expr) -> list[tuple[ast.expr, ast.expr, tuple[ast.expr, ...]]]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        elements = value.elts
        return [
            (each, given, tuple(other for other in elements if other is not given))
            for each, given in zip(target.elts, elements, strict=False)
        ]
    return [(target, value, ())]
