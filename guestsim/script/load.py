"""Reading scripts: YAML files, whose every mistake is told in one line with file, line, place and what was expected."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args, get_origin

import msgspec
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from guestsim.script.reader import reader
from guestsim.script.rows import Instance, RowError, expand
from guestsim.script.schema import ACTIONS, Script
from guestsim.script.values import decode_hook

if TYPE_CHECKING:
    from collections.abc import Iterator

SUFFIX = ".guest.yaml"
MAX_VALUES = 1_000_000
"""More than anybody writes; aliases of aliases are many more at once."""

KEPT = 1024
"""Scripts that stay as they were read: a test session runs the same one in many ways."""

_PATH = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_PART = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]|\[\.\.\.\]")
_EXPECTED = re.compile(r"^Expected `(?P<expected>.*)`, got `(?P<given>.*)`$")
_BOUND = re.compile(r"^Expected `(?P<kind>int|float|str|array)` (?P<bound>[<>]=? .*)$")
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<name>.*)`$")
_MISSING = re.compile(r"^Object missing required field `(?P<name>.*)`$")
_CHOICE = re.compile(r"^Invalid enum value (?P<given>.*)$")
_WORDS = {"object": "mapping", "array": "list", "str": "text", "int": "number", "bool": "true or false"}
_ACTION_NAMES = frozenset(name.replace("_", "-") for name in ACTIONS)


class ScriptError(Exception):
    """A script is wrong; the text is the one line that a user sees."""

    def __init__(self, file: str, line: int, where: str, problem: str) -> None:
        place = f"{where}: " if where else ""
        super().__init__(f"{file}:{line}: {place}{' '.join(problem.split())}")


class Source:
    """A script's file with the lines of its parts. `path` is a part's place, as in `steps[3].read.length`."""

    __slots__ = ("_first", "_tree", "file")

    def __init__(self, file: str, tree: object = None, line: int = 1) -> None:
        self.file = file
        self._tree = tree
        self._first = tree.lc.line + 1 if isinstance(tree, CommentedMap) else line

    def line(self, path: str, key: str | None = None) -> int:
        """The line of a part, or of `key` inside it; of what surrounds it where it has none of its own."""
        node = self._tree
        line = self._first
        for part in (*_parts(path), *((key,) if key is not None else ())):
            if isinstance(node, CommentedMap) and part in node:
                line = node.lc.key(part)[0] + 1
            elif isinstance(node, CommentedSeq) and isinstance(part, int) and part < len(node):
                line = node.lc.item(part)[0] + 1
            else:
                break
            node = node[part]
        return line

    def value(self, path: str) -> object:
        """What is given for a part; None where there is none."""
        node = self._tree
        for part in _parts(path):
            try:
                node = node[part]  # type: ignore[index]
            except (TypeError, LookupError):
                return None
        return node

    def error(self, path: str, problem: str, key: str | None = None) -> ScriptError:
        """An error about a part."""
        return ScriptError(self.file, self.line(path, key), path, problem)


def load(path: Path) -> tuple[Script, Source]:
    """Read and check a YAML script, the first one where there are rows; ScriptError says what is wrong with it."""
    return load_all(path)[0]


def load_all(path: Path) -> tuple[tuple[Script, Source], ...]:
    """Read and check the scripts of a YAML file; ScriptError says what is wrong with it."""
    file = str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ScriptError(file, 1, "", f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ScriptError(file, 1, "", f"is not UTF-8 text: {error.reason}") from error
    return parse_all(text, file)


def parse(text: str, file: str) -> tuple[Script, Source]:
    """Check the text of a YAML script; ScriptError says what is wrong with it."""
    return parse_all(text, file)[0]


@lru_cache(maxsize=KEPT)
def parse_all(text: str, file: str) -> tuple[tuple[Script, Source], ...]:
    """Check the text of a YAML script, or of several with rows; ScriptError says what is wrong with it."""
    try:
        tree = reader().load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = " ".join(part for part in (error.context, error.problem) if part)
        raise ScriptError(file, mark.line + 1 if mark else 1, "", f"not YAML: {problem}") from error
    except (YAMLError, ValueError) as error:
        raise ScriptError(file, 1, "", f"not YAML: {error}") from error
    except RecursionError:
        raise ScriptError(file, 1, "", "nested too deeply") from None
    source = Source(file, tree)
    if not isinstance(tree, CommentedMap):
        raise ScriptError(file, 1, "", "expected a mapping with name, machine, drives, devices and steps")
    if _values(tree, {}) > MAX_VALUES:
        raise ScriptError(file, 1, "", f"more than {MAX_VALUES} values once every alias is written out")
    try:
        return tuple((_convert(each, source), source) for each in expand(tree))
    except RowError as error:
        raise source.error(error.path, str(error), error.key) from None


def _convert(instance: Instance, source: Source) -> Script:
    try:
        return msgspec.convert(_plain(instance.tree, ""), Script, dec_hook=decode_hook)
    except msgspec.ValidationError as error:
        told = _explain(error, source)
        if instance.label:
            told.args = (f"{told} (in the row {instance.label})",)
        raise told from None
    except UnicodeError as error:
        raise ScriptError(source.file, 1, "", f"a text that is no Unicode: {error}") from None


def _parts(path: str) -> Iterator[str | int]:
    for match in _PART.finditer(path):
        if match[2] is not None:
            yield int(match[2])
        elif match[1] is not None:
            yield match[1]


def _values(node: object, known: dict[int, int]) -> int:
    """How many values a tree has, what an alias repeats counted each time; too many where one repeats itself."""
    if not isinstance(node, (dict, list)):
        return 1
    count = known.get(id(node))
    if count is None:
        known[id(node)] = MAX_VALUES + 1
        inner = node.values() if isinstance(node, dict) else node
        count = known[id(node)] = 1 + sum(_values(each, known) for each in inner)
    return count


def _plain(node: object, key: str) -> object:
    """The tree as plain values. A bare word in a list of steps is a step, and a step without parameters has none."""
    if isinstance(node, dict):
        return {
            str(name): {} if value is None and name in _ACTION_NAMES else _plain(value, str(name))
            for name, value in node.items()
        }
    if isinstance(node, list):
        steps = key in ("steps", "together", "submit", "parallel")
        return [
            {item: {}} if steps and isinstance(item, str) and item in _ACTION_NAMES else _plain(item, key)
            for item in node
        ]
    if isinstance(node, bool) or node is None:
        return node
    for kind in (int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return str(node)


def _explain(error: msgspec.ValidationError, source: Source) -> ScriptError:
    """A line in our own words for what msgspec found."""
    match = _PATH.match(str(error))
    assert match is not None
    what, path = match["what"], match["path"] or ""
    if found := _UNKNOWN.match(what):
        known = ", ".join(_known(path))
        return source.error(path, f"unknown key {found['name']!r}, expected one of {known}", found["name"])
    if found := _MISSING.match(what):
        return source.error(path, f"{found['name']} is missing")
    if found := _EXPECTED.match(what):
        return source.error(path, f"given {_say(found['given'])}, expected {_say(found['expected'])}")
    if found := _BOUND.match(what):
        return source.error(path, f"{source.value(path)}, expected a number {found['bound']}")
    if found := _CHOICE.match(what):
        return source.error(
            path, f"given {found['given']}, expected one of {', '.join(_choices(_hint(path)))}"
        )
    return source.error(path, what)


def _say(kinds: str) -> str:
    if kinds == "null":
        return "nothing"
    words = [_WORDS.get(kind.strip(), kind.strip()) for kind in kinds.split("|") if kind.strip() != "null"]
    return " or ".join(words)


def _hint(path: str) -> object:
    """The type of what lies at `path`."""
    hint: object = Script
    for part in _parts(path):
        if isinstance(part, int):
            hint = _element(hint) or hint
            continue
        kind = _structure(hint)
        if kind is not None:
            fields = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
            hint = fields.get(part, object)
    return hint


def _known(path: str) -> list[str]:
    """The keys that the structure at `path` may have."""
    kind = _structure(_hint(path))
    return [field.encode_name for field in msgspec.structs.fields(kind)] if kind is not None else []


def _structure(hint: object) -> type[msgspec.Struct] | None:
    """The structure inside a type such as `list[Step] | None`."""
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return hint
    inner = (_structure(argument) for argument in get_args(hint))
    return next((kind for kind in inner if kind is not None), None)


def _element(hint: object) -> object:
    """The type of the elements of a list in a type such as `Step | list[Step]`; None where there is none."""
    if get_origin(hint) is list:
        return get_args(hint)[0]
    return next((found for argument in get_args(hint) if (found := _element(argument)) is not None), None)


def _choices(hint: object) -> list[str]:
    """The values of a Literal inside a type."""
    if get_origin(hint) is Literal:
        return [str(value) for value in get_args(hint)]
    return [choice for argument in get_args(hint) for choice in _choices(argument)]
