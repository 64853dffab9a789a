"""Scripts that differ in a few values only: one text with `$names`, and `rows` that say what each name means.

`variants` are a second dimension: each row is done in each of them.  A name that is the whole of a value is replaced by
any value, and where the row has none, the key or element is left out; in a list, a list is spliced in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_NAME = re.compile(r"\$([a-z][a-z0-9-]*)")
ROW, VARIANT = "row", "variant"
ONLY = "variants"
"""Key of a row: the variants that it is for."""
MOST = 1000
"""Scripts in a file."""


class RowError(Exception):
    """What is wrong with rows or variants: the place, and the problem."""

    def __init__(self, path: str, problem: str, key: str | None = None) -> None:
        super().__init__(problem)
        self.path = path
        self.key = key


@dataclass(frozen=True, slots=True)
class Instance:
    """One script of a text: which row, in which variant, and its tree."""

    label: str
    tree: dict[str, Any]


def expand(tree: Mapping[str, Any]) -> Iterator[Instance]:
    """The scripts that a text stands for: itself where it has neither rows nor variants.  Raises `RowError`."""
    template = {key: value for key, value in tree.items() if key not in ("rows", "variants")}
    if len(template) == len(tree):
        yield Instance("", template)
        return
    variants = _table(tree, "variants")
    rows = _table(tree, "rows")
    if len(rows) * len(variants) > MOST:
        raise RowError("rows", f"{len(rows) * len(variants)} scripts, expected at most {MOST}")
    used = {name for text in _texts(template) for name in _NAME.findall(text)}
    _check(used, rows, variants)
    for variant, shared in variants.items():
        for row, own in rows.items():
            if variant not in own.get(ONLY, (variant,)):
                continue
            values = {ROW: row, VARIANT: variant, **shared}
            values |= {key: value for key, value in own.items() if key not in variants and key != ONLY}
            values |= own.get(variant, {})
            label = ", ".join(part for part in (variant, row) if part)
            yield Instance(label, _fill(template, values, ""))


def _table(tree: Mapping[str, Any], name: str) -> dict[str, dict[str, Any]]:
    """Rows or variants by their labels; one that says nothing where there are none."""
    table = tree.get(name, {"": {}})
    if not isinstance(table, dict) or not table:
        raise RowError(name, "expected a mapping of labels, each to a mapping of names and values")
    for label, values in table.items():
        if not isinstance(values, dict):
            raise RowError(f"{name}.{label}", "expected a mapping of names and values")
    return table


def _check(used: set[str], rows: dict[str, dict[str, Any]], variants: dict[str, dict[str, Any]]) -> None:
    """RowError for a name that nobody gives a value, and for a value of which nothing is made."""
    given = {ROW, VARIANT}
    for table, kind in ((variants, "variants"), (rows, "rows")):
        for label, values in table.items():
            path = f"{kind}.{label}"
            for key, value in values.items():
                if kind == "rows" and key == ONLY:
                    _check_only(value, variants, path)
                    continue
                if kind == "rows" and key in variants:
                    if not isinstance(value, dict):
                        raise RowError(path, f"{key}: expected a mapping of names and values", key)
                    inner = value
                else:
                    inner = {key: value}
                for name in inner:
                    if name not in used:
                        raise RowError(path, f"{name!r} is not used, expected ${name} somewhere", key)
                    given.add(name)
    if missing := sorted(used - given):
        raise RowError("rows", f"${missing[0]} has no value in any row, expected one in some")


def _check_only(value: object, variants: dict[str, dict[str, Any]], path: str) -> None:
    if not isinstance(value, list) or not set(value) <= variants.keys():
        raise RowError(path, f"variants {value!r}, expected a list of {', '.join(variants)}", ONLY)


def _texts(node: object) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, (dict, list)):
        for value in node.values() if isinstance(node, dict) else node:
            yield from _texts(value)


class _Absent:
    """The type of `_ABSENT`."""


_ABSENT = _Absent()


def _fill(node: Any, values: Mapping[str, Any], path: str) -> Any:
    """A copy of the template with the values in their places."""
    if isinstance(node, dict):
        filled = {key: _fill(value, values, f"{path}.{key}".lstrip(".")) for key, value in node.items()}
        return {key: value for key, value in filled.items() if value is not _ABSENT}
    if isinstance(node, list):
        out: list[Any] = []
        for at, each in enumerate(node):
            value = _fill(each, values, f"{path}[{at}]")
            if isinstance(each, str) and isinstance(value, list):
                out += value
            elif value is not _ABSENT:
                out.append(value)
        return out
    if not isinstance(node, str):
        return node
    whole = _NAME.fullmatch(node)
    if whole is not None:
        return values.get(whole[1], _ABSENT)
    return _NAME.sub(lambda match: _text(match[1], values, path), node)


def _text(name: str, values: Mapping[str, Any], path: str) -> str:
    value = values.get(name, _ABSENT)
    if not isinstance(value, (str, int)):
        raise RowError(path, f"${name} in a text, expected a text or a number in every row")
    return str(value)
