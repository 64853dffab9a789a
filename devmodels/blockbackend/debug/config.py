"""blkdebug's configuration files: sections of `name = "value"`, one rule each (QEMU: docs/devel/blkdebug.txt).

    # the second write fails
    [set-state]
    event = "write_aio"
    state = "1"
    new_state = "2"

    [inject-error]
    event = "write_aio"
    state = "2"
    errno = "28"

A section may have a name, `[inject-error "full"]`, that no other one of its kind has.  Numbers are as in C: 28, 0x1c,
034.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple, TypeVar, get_args

import msgspec

from devmodels.blockbackend.debug.rules import InjectErrorOptions, SetStateOptions
from devmodels.options import OptionError, convert, shown

_SECTION = re.compile(r'\[(?P<kind>[^\s"\]]+)(?:\s+"(?P<name>[^"]*)")?\]')
_SETTING = re.compile(r'(?P<key>[^\s="]+)\s*=\s*"(?P<value>[^"]*)"')
_NUMBER = re.compile(r"-?(?:0x(?P<hex>[0-9a-fA-F]+)|(?P<octal>0[0-7]*)|(?P<decimal>[1-9][0-9]*))")
_SWITCHES = {
    **dict.fromkeys(("on", "yes", "true", "y"), True),
    **dict.fromkeys(("off", "no", "false", "n"), False),
}

_KINDS: dict[str, type[InjectErrorOptions] | type[SetStateOptions]] = {
    "inject-error": InjectErrorOptions,
    "set-state": SetStateOptions,
}

S = TypeVar("S", bound=msgspec.Struct)


class Config(NamedTuple):
    """The rules of a file, each kind in order."""

    errors: list[InjectErrorOptions]
    states: list[SetStateOptions]


class _Section:
    """What stands between two headings: its values and the lines that they are on."""

    def __init__(self, kind: str, name: str | None, line: int) -> None:
        self.kind = kind
        self.name = name
        self.line = line
        self.values: dict[str, str] = {}
        self.lines: dict[str, int] = {}


def parse(text: str, filename: str) -> Config:
    """The rules in `text`; OptionError, one line that begins with `filename:line:`, where it is wrong."""
    config = Config([], [])
    for section in _sections(text.splitlines(), filename):
        if section.kind == "inject-error":
            config.errors.append(_rule(section, InjectErrorOptions, filename))
        else:
            config.states.append(_rule(section, SetStateOptions, filename))
    return config


def _sections(lines: Iterable[str], filename: str) -> Iterable[_Section]:
    section: _Section | None = None
    names: set[tuple[str, str]] = set()
    for number, full in enumerate(lines, 1):
        line = full.strip()
        if not line or line.startswith("#"):
            continue
        where = f"{filename}:{number}"
        if heading := _SECTION.fullmatch(line):
            if section is not None:
                yield section
            kind, name = heading["kind"], heading["name"]
            if kind not in _KINDS:
                raise OptionError(f"{where}: {shown(line)} is given; expected [inject-error] or [set-state]")
            if name is not None:
                if (kind, name) in names:
                    raise OptionError(
                        f"{where}: {shown(name)} is given; expected a name that no other {kind} has"
                    )
                names.add((kind, name))
            section = _Section(kind, name, number)
        elif setting := _SETTING.fullmatch(line):
            if section is None:
                raise OptionError(
                    f"{where}: {shown(line)} is given; expected first [inject-error] or [set-state]"
                )
            # Of two values for one name the last one counts, as in QEMU.
            section.values[setting["key"]] = setting["value"]
            section.lines[setting["key"]] = number
        else:
            raise OptionError(f'{where}: {shown(line)} is given; expected a [section] or name = "value"')
    if section is not None:
        yield section


def _rule(section: _Section, schema: type[S], filename: str) -> S:
    """The section as a rule; the error names the line that is wrong."""
    kinds = {field.encode_name: field.type for field in msgspec.structs.fields(schema)}
    given = {key: _value(value, kinds.get(key)) for key, value in section.values.items()}
    try:
        return convert(given, schema, what="")
    except OptionError as error:
        text = str(error).removeprefix(": ")
        line = section.lines.get(text.partition(":")[0], section.line)
        raise OptionError(f"{filename}:{line}: {text}") from None


def _value(text: str, kind: object) -> str | int | bool:
    """A value as its type wants it; what does not look like that stays text, for the schema to refuse."""
    if kind is bool:
        return _SWITCHES.get(text, text)
    wants_number = any(each is int for each in (kind, *get_args(kind)))
    if wants_number and (number := _NUMBER.fullmatch(text)):
        digits, base = next((number[name], base) for name, base in _BASES if number[name] is not None)
        return int(digits, base) * (-1 if text.startswith("-") else 1)
    return text


_BASES = (("hex", 16), ("octal", 8), ("decimal", 10))
