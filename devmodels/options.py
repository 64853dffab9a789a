"""Options given by a user, checked by a schema: what does not fit is one line with where, what, and what instead."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

S = TypeVar("S", bound=msgspec.Struct)

_MESSAGE = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<where>.*)`)?$", re.S)
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<name>.*)`$", re.S)
_MISSING = re.compile(r"^Object missing required field `(?P<name>.*)`$", re.S)


class OptionError(ValueError):
    """An option is wrong; the text is one line for the user."""


def convert(given: Mapping[str, object], schema: type[S], *, what: str) -> S:
    """`given` as `schema`; OptionError, beginning with `what`, where it does not fit."""
    try:
        return msgspec.convert(dict(given), schema)
    except msgspec.ValidationError as error:
        raise OptionError(f"{what}: {_explain(str(error), schema)}") from None


def _explain(message: str, schema: type[msgspec.Struct]) -> str:
    match = _MESSAGE.match(" ".join(message.split()))
    assert match is not None
    text, where = match["what"], match["where"] or ""
    if unknown := _UNKNOWN.match(text):
        names = ", ".join(sorted(field.encode_name for field in msgspec.structs.fields(schema)))
        return f"no option {_join(where, unknown['name'])}; expected one of {names}"
    if missing := _MISSING.match(text):
        return f"option {_join(where, missing['name'])} is missing"
    return f"{where}: {text}" if where else text


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def parse_keyval(text: str) -> dict[str, object]:
    """QEMU's `key=value,key.sub=value` as nested mappings of strings; `,,` stands for a comma in a value.

    OptionError where a piece has no `=` or a key is used both for a value and for a mapping.
    """
    result: dict[str, object] = {}
    for piece in text.replace(",,", "\0").split(","):
        key, equals, value = piece.partition("=")
        if not equals or not key:
            raise OptionError(f"{piece!r}: expected key=value")
        *path, last = key.split(".")
        place = result
        for part in path:
            inner = place.setdefault(part, {})
            if not isinstance(inner, dict):
                raise OptionError(f"{key}: {part} has a value already")
            place = inner
        if last in place:
            raise OptionError(f"{key}: given twice")
        place[last] = value.replace("\0", ",")
    return result


def coerce(given: Mapping[str, object], schema: type[msgspec.Struct]) -> dict[str, object]:
    """Strings of `parse_keyval` as the types that `schema` wants: on and off for a boolean, digits for an integer.

    What does not look like its type stays a string, for `convert` to refuse.
    """
    hints = get_type_hints(schema)
    out = dict(given)
    for field in msgspec.structs.fields(schema):
        value = given.get(field.encode_name)
        kinds = _kinds(hints[field.name])
        if isinstance(value, dict):
            inner = next((k for k in kinds if isinstance(k, type) and issubclass(k, msgspec.Struct)), None)
            if inner is not None:
                out[field.encode_name] = coerce(value, inner)
        elif isinstance(value, str):
            if bool in kinds and value in ("on", "off"):
                out[field.encode_name] = value == "on"
            elif int in kinds and re.fullmatch(r"[0-9]+|0x[0-9a-fA-F]+", value):
                out[field.encode_name] = int(value, 0)
    return out


def _kinds(hint: object) -> tuple[object, ...]:
    """The alternatives of a type: `int | None` is int and NoneType; a Literal is none of ours."""
    if get_origin(hint) is Literal:
        return ()
    args = get_args(hint)
    return args if args else (hint,)
