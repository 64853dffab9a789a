"""What a command is: a coroutine of the world and its arguments; its types are its schema, in both directions.

    class BlockResize(Arguments, frozen=True): ...

    async def block_resize(world: World, arguments: BlockResize) -> None: ...

Arguments that are no structure (options of nodes, devices, exports) come as a mapping and are judged by those that
know them; `Options` says for introspection what they look like.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from typing import Annotated, NamedTuple, get_args, get_origin, get_type_hints

import msgspec

from devmodels.options import OptionError, one_line, shown


class CommandError(Exception):
    """A command cannot be carried out; the text is one line for the user, `kind` the error's class."""

    def __init__(self, text: str, kind: str = "GenericError") -> None:
        super().__init__(text)
        self.kind = kind


def device_not_found(name: str) -> CommandError:
    """No device has that name."""
    return CommandError(f"Device '{name}' not found", "DeviceNotFound")


class Arguments(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What arguments derive from; a member without a default has to be given."""


class Empty(Arguments, frozen=True):
    """No arguments."""


class Options(NamedTuple):
    """In `Annotated[Mapping[str, object], Options(…)]`: a structure that is one of several, told apart by a member.

    `base` are the members that all have, `tag` one of them, `variants` the structures by its value, where more is
    known than `base`.  Without a tag there may be members besides those of `base`.
    """

    base: type[msgspec.Struct]
    tag: str | None = None
    variants: Callable[[], Mapping[str, type[msgspec.Struct]]] = dict


Run = Callable[..., Awaitable[object]]


class Command(NamedTuple):
    """A command: `arguments` is their structure, or the description of a mapping, `returns` the type of the answer."""

    run: Run
    arguments: type[msgspec.Struct] | Options
    returns: object
    takes_arguments: bool

    async def __call__(self, world: object, given: Mapping[str, object]) -> object:
        """Judge the arguments, then do it; CommandError, OptionError or OSError where it cannot be done."""
        if isinstance(self.arguments, Options):
            result = await self.run(world, given)
        else:
            arguments = check(given, self.arguments)
            result = await (self.run(world, arguments) if self.takes_arguments else self.run(world))
        return {} if result is None else result


@cache
def command(run: Run) -> Command:
    """The command that a coroutine function is, by its annotations."""
    hints = get_type_hints(run, include_extras=True)
    returns = hints.pop("return")
    _, *given = hints.values()
    kind = given[0] if given else Empty
    if get_origin(kind) is Annotated:
        kind = next(extra for extra in get_args(kind)[1:] if isinstance(extra, Options))
    return Command(run, kind, returns, bool(given))


# --- arguments that do not fit, in QEMU's words

_MESSAGE = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<where>.*)`)?$", re.S)
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<name>.*)`$", re.S)
_MISSING = re.compile(r"^Object missing required field `(?P<name>.*)`$", re.S)
_TYPE = re.compile(r"^Expected `(?P<wanted>[^`]*)`, got `[^`]*`$")
_CHOICE = re.compile(r"^Invalid enum value (?P<value>.*)$", re.S)
_WORDS = {"str": "string", "bool": "boolean", "int": "integer", "float": "number", "null": "null"}


def check(given: Mapping[str, object], schema: type[msgspec.Struct]) -> msgspec.Struct:
    """`given` as `schema`; CommandError where it does not fit."""
    try:
        return msgspec.convert(dict(given), schema)
    except msgspec.ValidationError as error:
        raise CommandError(_explain(str(error), given)) from None


def _explain(message: str, given: Mapping[str, object]) -> str:
    match = _MESSAGE.match(message)
    assert match is not None
    what, where = match["what"], match["where"] or ""
    if unknown := _UNKNOWN.match(what):
        return f"Parameter '{one_line(_join(where, unknown['name']))}' is unexpected"
    if missing := _MISSING.match(what):
        return f"Parameter '{_join(where, missing['name'])}' is missing"
    if kind := _TYPE.match(what):
        wanted = [word for word in kind["wanted"].split(" | ") if word != "null"]
        return (
            f"Invalid parameter type for '{where}', expected: {' or '.join(_WORDS.get(w, w) for w in wanted)}"
        )
    if choice := _CHOICE.match(what):
        return f"Parameter '{where}' does not accept value {one_line(choice['value'])}"
    what = one_line(what)
    return f"Parameter '{where}': {shown(given.get(where))} is given; {what}" if where else what


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def strings(given: Mapping[str, object], *names: str) -> None:
    """CommandError where one of these members is there and no string."""
    for name in names:
        if name in given and not isinstance(given[name], str):
            raise CommandError(f"Invalid parameter type for '{name}', expected: string")


_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")


def is_identifier(name: object) -> bool:
    """Whether an id is well-formed: a letter, then letters, digits, `-`, `.`, `_`."""
    return isinstance(name, str) and _IDENTIFIER.fullmatch(name) is not None


def identifier(given: Mapping[str, object], name: str) -> None:
    """CommandError where this member is there and no well-formed id."""
    if name in given and not is_identifier(given[name]):
        raise CommandError(f"Parameter '{name}' expects an identifier")


def text_of(error: Exception) -> str:
    """What went wrong, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = one_line(str(error))
    return text.removeprefix("$: ").removeprefix("$.") if isinstance(error, OptionError) else text
