"""All mutants of a module, and a seeded sample of many modules' mutants.

The sample is of places, one mutant for each: a binary operator has ten mutants and a constant has two, and the ten
would be the same question asked ten times.
"""

from __future__ import annotations

import ast
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.plugins import get_operator, operator_names

from tools.mutation.modules import ROOT

_WITHOUT = ("Variable", "NoOp")
"""Operators that want names as arguments, and the one that changes nothing."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change at one place of `module` (a path relative to the repository), made by cosmic-ray's `operator`.

    `source` is all of the module with it.
    """

    module: str
    line: int
    operator: str
    was: str
    becomes: str
    nth: int
    """Among the module's lines that read the same."""
    source: str


class Way(NamedTuple):
    """One way to change a module: an operator, the number of a node, and which of the operator's ways it is there."""

    operator: str
    node: int
    which: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where something can be changed, with the ways to do that."""

    module: str
    key: str
    ways: tuple[Way, ...]


def sample(modules: Iterable[str], size: int, seed: int) -> list[Mutant]:
    """One mutant at each of `size` places: the first ones of an order that `seed` gives.

    The order of two places never depends on other places, so that a larger sample holds the smaller one.
    """
    ordered = sorted(
        (place for module in modules for place in places(module)),
        key=lambda place: sha256(f"{seed} {place.module} {place.key}".encode()).digest(),
    )
    found = (_one_of(place, seed) for place in ordered)
    return [mutant for mutant, _ in zip((each for each in found if each), range(size), strict=False)]


def named(module: str, was: str, becomes: str, nth: int) -> Mutant | None:
    """The mutant that is so described; None where the module has it no more."""
    mutants = (
        _mutant(module, way)
        for place in places(module)
        if place.key.startswith(f"{was} ")
        for way in place.ways
    )
    wanted = was, becomes, nth
    return next((each for each in mutants if each and (each.was, each.becomes, each.nth) == wanted), None)


def _one_of(place: Place, seed: int) -> Mutant | None:
    """One of the mutants of a place; None where none of them is Python."""
    ways = sorted(
        place.ways, key=lambda way: sha256(f"{seed} {place.module} {place.key} {way}".encode()).digest()
    )
    return next(filter(None, (_mutant(place.module, way) for way in ways)), None)


def _mutant(module: str, way: Way) -> Mutant | None:
    parsed = _parsed(module)
    changed = parsed.changed(way)
    before, after = parsed.source.splitlines(), changed.splitlines()
    if before == after or not _is_python(changed):
        return None
    line: int = parsed.nodes[way.node].start_pos[0]
    if way.operator.endswith("ZeroIterationForLoop"):
        line = parsed.nodes[way.node].children[3].start_pos[0]
    was = before[line - 1].strip()
    # A mutant changes one line, or takes a decorator's away.
    becomes = after[line - 1].strip() if len(before) == len(after) else "(gone)"
    nth = [line.strip() for line in before[: line - 1]].count(was)
    return Mutant(module, line, way.operator, was, becomes, nth, changed)


def _is_python(source: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(source)
    except SyntaxError:
        return False
    return True


@cache
def places(module: str) -> tuple[Place, ...]:
    """All places of a module in their order, but for those in annotations, which nothing runs."""
    parsed = _parsed(module)
    lines = parsed.source.splitlines()
    annotations = _annotations(parsed.source)
    found: dict[tuple[int, int], list[Way]] = defaultdict(list)
    for number, node in enumerate(parsed.nodes):
        for name in _operators():
            for index, (start, _) in enumerate(_operator(name).mutation_positions(node)):
                if not any(begin <= start < end for begin, end in annotations):
                    found[start].append(Way(name, number, index))
    seen: Counter[str] = Counter()
    result = []
    for (row, column), ways in sorted(found.items()):
        text = f"{lines[row - 1].strip()} {column}"
        result.append(Place(module, f"{text} {seen[text]}", tuple(ways)))
        seen[text] += 1
    return tuple(result)


class _Parsed:
    """A module as cosmic-ray's operators see it."""

    def __init__(self, module: str) -> None:
        self.source = Path(ROOT, module).read_text(encoding="utf-8")
        self._tree = get_ast(self.source)
        self.nodes: list[Any] = list(ast_nodes(self._tree))

    def changed(self, way: Way) -> str:
        """The source after a change; the tree is as it was."""
        node = self.nodes[way.node]
        family = node.parent.children
        held = [(each, dict(_state(each))) for each in (node.parent, *ast_nodes(node))]
        new = _operator(way.operator).mutate(node, way.which)
        at = next(number for number, each in enumerate(family) if each is node)
        family[at : at + 1] = [] if new is None else [new]
        source: str = self._tree.get_code()
        for each, state in held:
            for name, value in state.items():
                setattr(each, name, value)
        return source


def _state(node: Any) -> Iterator[tuple[str, object]]:
    """What an operator may change of a node."""
    if hasattr(node, "children"):
        yield "children", list(node.children)
    else:
        yield "value", node.value
        yield "prefix", node.prefix


@cache
def _parsed(module: str) -> _Parsed:
    return _Parsed(module)


@cache
def _operators() -> tuple[str, ...]:
    """Those whose mutants can matter: `is` for `==` asks Python, not us."""
    return tuple(
        name
        for name in operator_names()
        if not any(word in name for word in _WITHOUT)
        and (not name.endswith(("_Is", "_IsNot")) or "Comparison" not in name or "Operator_Is" in name)
        and ("Operator_Is" not in name or name.endswith(("_Is", "_IsNot")))
    )


@cache
def _operator(name: str) -> _Operator:
    made: _Operator = get_operator(name)()
    return made


class _Operator(Protocol):
    """What is used of cosmic-ray's operators, which are untyped."""

    def mutation_positions(self, node: object, /) -> Iterable[tuple[tuple[int, int], tuple[int, int]]]:
        """Start and end, once for each way to change the node."""
        ...

    def mutate(self, node: object, index: int, /) -> object | None:
        """The node changed in one of its ways, or another one for it; None where it goes."""
        ...


def _annotations(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Begin and end (line from 1, column in bytes of a line that is ASCII up to there) of all annotations."""
    found = []
    for node in ast.walk(ast.parse(source)):
        for name in ("annotation", "returns"):
            each = getattr(node, name, None)
            if isinstance(each, ast.expr):
                end = each.end_lineno or each.lineno, each.end_col_offset or 0
                found.append(((each.lineno, each.col_offset), end))
    return found
