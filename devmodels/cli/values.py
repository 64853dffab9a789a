"""Commands that take text as it is: Typer has every value looked at by pydantic, which takes longer to import than
most of what a daemon needs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from typer.core import TyperCommand, TyperGroup, TyperOption

_AS_THEY_ARE = (str, int, bool)


class PlainCommand(TyperCommand):
    """A command whose options are text, mostly; values of others are converted and judged as ever."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        _make_plain(self.params)

    def get_help_option(self, ctx: Any) -> Any:
        """`--help`."""
        return _make_plain([super().get_help_option(ctx)])[0]


class PlainGroup(TyperGroup):
    """The same for what is said before a command."""

    def get_help_option(self, ctx: Any) -> Any:
        """`--help`."""
        return _make_plain([super().get_help_option(ctx)])[0]


def _make_plain(parameters: Iterable[Any]) -> list[Any]:
    found = list(parameters)
    for parameter in found:
        if type(parameter) is TyperOption:
            parameter.__class__ = _Option
    return found


class _Option(TyperOption):
    def process_value(self, ctx: Any, value: Any) -> Any:
        """The value as the command gets it."""
        wanted = self.type_descriptor.annotation
        if value is None and not self.required:
            value = () if self.multiple else None
        elif wanted == list[str] and isinstance(value, (list, tuple)) and {*map(type, value)} == {str}:
            value = list(value)
        elif wanted not in _AS_THEY_ARE or type(value) is not wanted:
            return super().process_value(ctx, value)
        return value if self.callback is None else self.callback(ctx, self, value)
