"""Reading YAML for scripts: what keeps the lines of all parts, as a round trip does, and no comments.

A test session reads hundreds of scripts, and most of that time is the scanner's.  What is added here says the same as
ruamel.yaml's own parts, sooner: a look at the next token is not a search for keys, a word is found at once, and parts
that know each other do not ask for each other.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.constructor import ConstructorError, RoundTripConstructor
from ruamel.yaml.parser import Parser
from ruamel.yaml.scanner import Scanner
from ruamel.yaml.tokens import ScalarToken

if TYPE_CHECKING:
    from ruamel.yaml.nodes import Node

_KEY = re.compile(r"[\w$./-]++(?=:[ \n])", re.ASCII)
_ITEM = re.compile(r"[\w$./-]++(?=:[ \n]|[,\]}])", re.ASCII)
"""A plain scalar of one word that ends here: before a colon, and in brackets before a comma or a bracket too."""


def reader() -> YAML:
    """A reader for one text."""
    made = YAML()
    made.Scanner, made.Parser, made.Composer, made.Constructor = _Scanner, _Parser, _Composer, _Constructor
    return made


class _Scanner(Scanner):
    """Looks for what may be a key once for each token that is found, not at every look at the next one."""

    _nearest: int | None = None
    """The number of the first token that may turn out to be a key."""

    @cached_property
    def reader(self) -> Any:
        return self.loader.reader

    def fetch_more_tokens(self) -> None:
        super().fetch_more_tokens()
        self.stale_possible_simple_keys()
        self._nearest = self.next_possible_simple_key()

    def need_more_tokens(self) -> bool:
        return not self.done and (not self.tokens or self._nearest == self.tokens_taken)

    def check_token(self, *choices: type) -> bool:
        while not self.done and (not self.tokens or self._nearest == self.tokens_taken):
            self.fetch_more_tokens()
        return bool(self.tokens) and (not choices or isinstance(self.tokens[0], choices))

    def scan_plain(self) -> Any:
        text = self.reader
        found = (_ITEM if self.flow_context else _KEY).match(text.buffer, text.pointer)
        if found is None:
            return super().scan_plain()
        start, length = text.get_mark(), found.end() - found.start()
        text.pointer += length
        text.index += length
        text.column += length
        return ScalarToken(found[0], True, start, text.get_mark())


class _Parser(Parser):
    @cached_property
    def scanner(self) -> Any:
        return self.loader.scanner


class _Composer(Composer):
    @cached_property
    def parser(self) -> Any:
        return self.loader.parser

    @cached_property
    def resolver(self) -> Any:
        return self.loader.resolver


class _Constructor(RoundTripConstructor):
    def check_mapping_key(self, node: Node, key_node: Node, mapping: Any, key: object, value: object) -> bool:
        try:
            hash(key)
        except TypeError:
            context, problem = (
                "while constructing a mapping",
                "found a key that has a mapping or a list in it",
            )
            raise ConstructorError(context, node.start_mark, problem, key_node.start_mark) from None
        return bool(super().check_mapping_key(node, key_node, mapping, key, value))
