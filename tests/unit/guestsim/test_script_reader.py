"""The reader of scripts says what ruamel.yaml's own parts say: the same tree with the same lines, or the same error."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.parser import Parser
from ruamel.yaml.scanner import Scanner

from guestsim.script import reader

FOLDER = Path(__file__).parents[2] / "scripts"


def plain_reader() -> YAML:
    made = YAML()
    made.Scanner, made.Parser, made.Constructor = Scanner, Parser, reader.reader().Constructor
    return made


def lines(node: object) -> object:
    """A tree with the place of each part."""
    if isinstance(node, CommentedMap):
        return [(repr(key), node.lc.key(key), node.lc.value(key), lines(node[key])) for key in node]
    if isinstance(node, CommentedSeq):
        return [(node.lc.item(at), lines(each)) for at, each in enumerate(node)]
    return repr(node)


def read(by: YAML, text: str) -> object:
    try:
        return lines(by.load(text))
    except (YAMLError, ValueError) as error:
        return type(error), str(error)


def is_read_alike(text: str) -> None:
    assert read(reader.reader(), text) == read(plain_reader(), text)


@pytest.mark.parametrize("name", ["scatter", "hostile/reset-storm", "ide/media"])
def test_a_script_is_read_alike(name: str) -> None:
    path = FOLDER / f"{name}.guest.yaml"
    is_read_alike(path.read_text())


PIECES = [
    "a",
    "b-1",
    "$x",
    "0x1F",
    "a.b/c",
    " ",
    "  ",
    "\n",
    "\n  ",
    ": ",
    ":",
    ",",
    ", ",
    "- ",
    "? ",
    "#",
    " # c",
]
PIECES += [
    "{",
    "}",
    "[",
    "]",
    "'",
    '"',
    "&k ",
    "*k",
    "!t ",
    "|\n",
    ">\n",
    "%",
    "\t",
    "\r",
    "---\n",
    "...\n",
    "é",
]
PIECES += ["key: word\n", "{a: b, c: [d, e]}\n", "x" * 1100, "\x85", "\ufeff"]


@example(["a: b, c\n", "d: e:f\n"])
@example(["{a: b,c: d}"])
@example(["{a:b, c:d}"])
@example(["[a, b: c, d]"])
@example(["a: b\n", "c\n", "d: e\n"])
@example(["a: b\n", "  c\n", "d: e\n"])
@example(["x" * 1100, ": y\n"])
@example(["{", "x" * 1100, ": y}"])
@example(["é: é\n"])
@example(["{a: &k b, c: *k}"])
@given(st.lists(st.sampled_from(PIECES), max_size=30))
def test_any_text_is_read_alike(pieces: list[str]) -> None:
    is_read_alike("".join(pieces))
