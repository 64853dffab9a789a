"""Options of block nodes: the words of QEMU's `-blockdev`, checked by a schema.

A driver's options are a `NodeOptions` subclass.  What does not fit raises `BlockOptionError`, whose text is one line:
where (`$.cache.direct`), what was expected, what was given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar, get_args

import msgspec

Discard = Literal["ignore", "unmap"]
DetectZeroes = Literal["off", "on", "unmap"]
NodeName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,30}$")]
Size = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 512)]


class BlockOptionError(ValueError):
    """An option is wrong, or what it names cannot be opened; the text is one line for the user."""


class CacheOptions(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, kw_only=True, frozen=True):
    """`direct`: past the host's page cache (O_DIRECT).  `no-flush`: flushes are not passed on."""

    direct: bool = False
    no_flush: bool = False


class NodeOptions(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, kw_only=True, frozen=True):
    """What every driver takes."""

    driver: str
    node_name: NodeName | None = None
    read_only: bool = False
    discard: Discard = "ignore"
    detect_zeroes: DetectZeroes = "off"
    cache: CacheOptions = CacheOptions()
    force_share: bool = False


O = TypeVar("O", bound=NodeOptions)  # noqa: E741


def decode(text: str) -> dict[str, object]:
    """The mapping in a JSON text; BlockOptionError where it is none."""
    try:
        return msgspec.json.decode(text, type=dict[str, object])
    except msgspec.DecodeError as error:
        raise BlockOptionError(
            f"$: {_one_line(str(error))}; expected a JSON object of block options"
        ) from None


def check(given: Mapping[str, object], schema: type[O]) -> O:
    """`given` as `schema`; BlockOptionError where it does not fit, or where two options contradict each other."""
    try:
        options = msgspec.convert(dict(given), schema)
    except msgspec.ValidationError as error:
        raise BlockOptionError(_explain(str(error), given, schema)) from None
    if options.detect_zeroes == "unmap" and options.discard != "unmap":
        raise BlockOptionError('$.detect-zeroes: "unmap" is given; expected with it discard "unmap"')
    if options.force_share and not options.read_only:
        raise BlockOptionError("$.force-share: true is given; expected with it read-only true")
    return options


def known_options(schema: type[msgspec.Struct]) -> list[str]:
    """The option names that `schema` takes."""
    return [field.encode_name for field in msgspec.structs.fields(schema)]


def shown(value: object) -> str:
    """A given value as JSON, cut where it is long."""
    try:
        text = msgspec.json.encode(value).decode()
    except (TypeError, ValueError):
        text = repr(value)
    return _one_line(text if len(text) <= 60 else text[:57] + "...")


def _one_line(text: str) -> str:
    return " ".join(text.split())


_MESSAGE = re.compile(r"^(?P<what>.*?)(?: - at `(?P<where>\$.*)`)?$", re.S)
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<name>.*)`$", re.S)
_MISSING = re.compile(r"^Object missing required field `(?P<name>.*)`$", re.S)


def _explain(message: str, given: Mapping[str, object], schema: type[NodeOptions]) -> str:
    match = _MESSAGE.match(message)
    assert match is not None
    what, where = match["what"], match["where"] or "$"
    inner = CacheOptions if where.startswith("$.cache") else schema
    if unknown := _UNKNOWN.match(what):
        known = ", ".join(known_options(inner))
        return _one_line(f"{where}.{unknown['name']}: no such option; expected one of {known}")
    if missing := _MISSING.match(what):
        return f"{where}.{missing['name']}: missing; driver {shown(given.get('driver'))} needs it"
    value: object = given
    for key in where.split(".")[1:]:
        value = value.get(key) if isinstance(value, dict) else None
    return f"{where}: {shown(value)} is given; expected {_expected(what, where, inner)}"


def _expected(what: str, where: str, schema: type[msgspec.Struct]) -> str:
    name = where.rsplit(".", 1)[-1]
    for field in msgspec.structs.fields(schema):
        if field.encode_name == name and (choices := get_args(field.type)):
            if all(isinstance(choice, str) for choice in choices):
                return "one of " + ", ".join(f'"{choice}"' for choice in choices)
            if name == "node-name":
                return "a letter and then up to 30 letters, digits, '-', '.', '_'"
    what = re.sub(r", got `.*`$", "", what)
    return re.sub(r"^Expected (`object`)?", lambda m: "an object" if m[1] else "", what).strip("` ")
