"""Options given by a user, checked by a schema: what does not fit is one line with where, what, and what instead.

A schema is a `msgspec.Struct`.  `typing.Annotated[T, msgspec.Meta(description="…")]` says in words what is expected.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Literal, TypeVar, Union, get_args, get_origin

import msgspec

S = TypeVar("S", bound=msgspec.Struct)
ParseNumber = Callable[[str], int | None]
"""What a text is as a number; None where it is none."""

_MESSAGE = r"(?s)^(?P<what>.*?)(?: - at `\$\.?(?P<where>.*)`)?$"
_UNKNOWN = r"(?s)^Object contains unknown field `(?P<name>.*)`$"
_MISSING = r"(?s)^Object missing required field `(?P<name>.*)`$"
_INDEX = r"\[(?P<number>[0-9]+)\]"
_NUMBER = r"(?P<digits>0x[0-9a-fA-F]+|[0-9]+)(?P<unit>[kKMGT]?)"
_DECIMAL = r"[0-9]+(\.[0-9]+)?"
"""Expressions are compiled where they are first used: most programs end without an error."""
_UNITS = {"": 0, "k": 10, "K": 10, "M": 20, "G": 30, "T": 40}
_SHOWN = 60


class OptionError(ValueError):
    """An option is wrong; the text is one line for the user."""


def convert(given: Mapping[str, object], schema: type[S], *, what: str) -> S:
    """`given` as `schema`; OptionError, beginning with `what`, where it does not fit."""
    types_of(schema)
    try:
        return msgspec.convert(dict(given), schema)
    except msgspec.ValidationError as error:
        raise OptionError(f"{what}: {_explain(str(error), given, schema)}") from None
    except UnicodeEncodeError as error:
        # An argument of the command line with other bytes in it.
        raise OptionError(
            f"{what}: {_place(given, error.object)}: {shown(error.object)} is given; expected UTF-8"
        ) from None


def _place(given: Mapping[str, object], text: str) -> str:
    """Where in `given` the string `text` stands, such as `inner.kind`."""
    for name, value in given.items():
        if isinstance(value, Mapping):
            if found := _place(value, text):
                return f"{name}.{found}"
        elif text in (name, value):
            return name
    return ""


def decode(
    text: str, schema: type[msgspec.Struct] | None, *, what: str, implied: str | None = None
) -> dict[str, object]:
    """JSON (`{"key": …}`) or `key=value,…` as a mapping; strings of the latter become what `schema` wants.

    A first value without a key has the key `implied`.  OptionError, beginning with `what`, where the text is neither.
    """
    try:
        if text.lstrip().startswith("{"):
            return json_object(text.encode())
        if implied is not None and "=" not in text.partition(",")[0]:
            text = f"{implied}={text}"
        pairs = parse_keyval(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise OptionError(f"{what}: {one_line(str(error))}; expected a JSON object") from None
    except OptionError as error:
        raise OptionError(f"{what}: {error}") from None
    return pairs if schema is None else coerce(pairs, schema)


def json_object(text: bytes) -> dict[str, object]:
    """A JSON object whose strings may stand in single quotes, as QEMU takes them; msgspec.DecodeError."""
    try:
        return msgspec.json.decode(text, type=dict[str, object])
    except msgspec.DecodeError:
        if b"'" not in text:
            raise
        from devmodels.singlequotes import double_quoted  # who writes so does it in a shell, and few do

        return msgspec.json.decode(double_quoted(text), type=dict[str, object])


def id_taken(name: object) -> str:
    """QEMU's words for an object whose id another one has."""
    return f"attempt to add duplicate property '{name}' to object (type 'container')"


def shown(value: object) -> str:
    """A given value as JSON, cut where it is long."""
    try:
        text = msgspec.json.encode(value).decode()
    except (TypeError, ValueError):
        text = repr(value)
    return one_line(text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "...")


def one_line(text: str) -> str:
    """`text` with its line breaks as spaces."""
    return " ".join(text.split())


# --- what does not fit


def _explain(message: str, given: Mapping[str, object], schema: type[msgspec.Struct]) -> str:
    match = re.match(_MESSAGE, message)
    assert match is not None
    what, where = one_line(match["what"]), match["where"] or ""
    # `rules[1].event` is the item 1 of `rules` and then its `event`.
    path = where.replace("[", ".[").split(".") if where else []
    if unknown := re.match(_UNKNOWN, what):
        inner = _struct(_type_at(schema, path, given), _value_at(given, path))
        names = [] if inner is None else sorted(types_of(inner))
        return f"{_join(where, unknown['name'])}: no such option; expected one of {', '.join(names)}"
    if missing := re.match(_MISSING, what):
        kind = _type_at(schema, [*path, missing["name"]], given)
        return f"{_join(where, missing['name'])}: missing; expected {_expected(kind, what)}"
    if not path:
        return what
    value, kind = _value_at(given, path), _type_at(schema, path, given)
    if isinstance(value, Mapping) and _structs(kind):
        return f"{where}: {what}"  # A structure has found that its members do not go together.
    return f"{where}: {shown(value)} is given; expected {_expected(kind, what)}"


def _value_at(given: object, path: list[str]) -> object:
    for key in path:
        given = _member(given, key)
    return given


def _member(given: object, key: str) -> object:
    """What is in `given` under `key`, or at that place of a list; None where nothing is."""
    if isinstance(given, Mapping):
        return given.get(key)
    if isinstance(given, Sequence) and (index := re.fullmatch(_INDEX, key)):
        return given[int(index["number"])]
    return None


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _type_at(schema: type[msgspec.Struct], path: list[str], given: object) -> object:
    """The type of the option at `path`, or None where there is none."""
    kind: object = schema
    for name in path:
        if re.fullmatch(_INDEX, name):
            kind, given = _item(kind), _member(given, name)
            continue
        struct = _struct(kind, given)
        if struct is None:
            return None
        types = dict(types_of(struct))
        tag = struct.__struct_config__.tag_field
        if tag is not None:
            types[tag] = Literal[tuple(each.__struct_config__.tag for each in _structs(kind))]
        kind = types.get(name)
        given = _member(given, name)
    return kind


def _structs(kind: object) -> list[type[msgspec.Struct]]:
    """The structures among the alternatives of a type."""
    return [k for k in _kinds(kind) if isinstance(k, type) and issubclass(k, msgspec.Struct)]


def _struct(kind: object, given: object) -> type[msgspec.Struct] | None:
    """The structure among the alternatives of a type: the one that `given` says it is, or the first."""
    structs = _structs(kind)
    for struct in structs:
        config = struct.__struct_config__
        if (
            isinstance(given, Mapping)
            and config.tag is not None
            and given.get(config.tag_field) == config.tag
        ):
            return struct
    return next(iter(structs), None)


def _item(kind: object) -> object:
    """The type of a list's items, or None where no alternative is a list."""
    return next((get_args(k)[0] for k in _kinds(kind) if get_origin(k) in (list, tuple)), None)


def _kinds(kind: object) -> list[object]:
    """The alternatives of a type: `int | None` is an int; an annotated type is what it annotates."""
    origin = get_origin(kind)
    if origin is Annotated:
        return _kinds(get_args(kind)[0])
    if origin in (Union, UnionType):
        return [inner for part in get_args(kind) for inner in _kinds(part)]
    return [] if kind is NoneType else [kind]


def _expected(kind: object, otherwise: str) -> str:
    """A type in words; `otherwise` is a message of msgspec's, for types without."""
    for meta in _metas(kind):
        if meta.description is not None:
            return meta.description
        if meta.ge is not None and meta.le is not None:
            return f"an integer from {meta.ge} to {meta.le}"
    words = [word for inner in _kinds(kind) if (word := _word(inner))]
    if words:
        return " or ".join(words)
    return re.sub(r"^Expected |, got `.*`$", "", otherwise).replace("`", "")


def _metas(kind: object) -> list[msgspec.Meta]:
    found = [extra for extra in getattr(kind, "__metadata__", ()) if isinstance(extra, msgspec.Meta)]
    if get_origin(kind) in (Union, UnionType):
        found += [meta for part in get_args(kind) for meta in _metas(part)]
    return found


def _word(kind: object) -> str:
    if get_origin(kind) is Literal:
        choices = ", ".join(shown(choice) for choice in get_args(kind))
        return f"one of {choices}" if len(get_args(kind)) > 1 else choices
    if kind is bool:
        return "on or off (in JSON: true or false)"
    if kind is int:
        return "an integer"
    if kind is float:
        return "a number"
    if kind is str:
        return "a string"
    if get_origin(kind) in (list, tuple):
        return "a list"
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return f"an object of {', '.join(types_of(kind))}"
    return ""


# --- key=value


def parse_keyval(text: str) -> dict[str, object]:
    """QEMU's `key=value,key.sub=value` as nested mappings of strings; `,,` stands for a comma in a value.

    OptionError where a piece has no `=` or a key is used twice, or both for a value and for a mapping.
    """
    result: dict[str, object] = {}
    for piece in text.replace(",,", "\0").split(","):
        key, equals, value = piece.replace("\0", ",").partition("=")
        if not equals or not key:
            raise OptionError(f"{shown(piece)} is given; expected key=value")
        *path, last = key.split(".")
        place = result
        for part in path:
            inner = place.setdefault(part, {})
            if not isinstance(inner, dict):
                raise OptionError(f"{key}: {part} has a value already")
            place = inner
        if last in place:
            raise OptionError(f"{key}: given twice")
        place[last] = value
    return result


def parse_size(text: str) -> int | None:
    """A number, decimal or 0x…, perhaps with k, M, G or T for powers of 1024; None where it is none."""
    number = re.fullmatch(_NUMBER, text)
    if number is None:
        return None
    return int(number["digits"], 0 if number["digits"].startswith("0x") else 10) << _UNITS[number["unit"]]


def coerce(
    given: Mapping[str, object], schema: type[msgspec.Struct], number: ParseNumber = parse_size
) -> dict[str, object]:
    """Strings of `parse_keyval` as the types that `schema` wants.

    A boolean is on or off, an integer what `number` takes for one.  What does not look like its type stays a string,
    for `convert` to refuse.  A list is a mapping from 0, 1, … to its items (`rules.0.event=read`).
    """
    out = dict(given)
    for name, kind in types_of(schema).items():
        value = given.get(name)
        if isinstance(value, dict | str):
            out[name] = _coerced(value, kind, number)
    return out


@cache
def types_of(schema: type[msgspec.Struct]) -> dict[str, object]:
    """The options of `schema` with their types.

    These take the place of its annotations, which are words: who asks msgspec for something of the schema, or of one
    that inherits from it, has it compile them once more.
    """
    fields = msgspec.structs.fields(schema)
    types = {field.name: field.type for field in fields}
    for kind in schema.__mro__:
        words = vars(kind).get("__annotations__", {})
        words.update({name: types.pop(name) for name in words if name in types})
    return {field.encode_name: field.type for field in fields}


def _coerced(value: object, kind: object, parse: ParseNumber) -> object:
    kinds = _kinds(kind)
    if isinstance(value, dict):
        item, inner = _item(kind), _struct(kind, value)
        if item is not None and set(value) == set(map(str, range(len(value)))):
            return [_coerced(value[str(number)], item, parse) for number in range(len(value))]
        return value if inner is None else coerce(value, inner, parse)
    if not isinstance(value, str):
        return value
    if bool in kinds and value in ("on", "off"):
        return value == "on"
    if int in kinds and (number := parse(value)) is not None:
        return number
    if float in kinds and re.fullmatch(_DECIMAL, value):
        return float(value)
    return value
