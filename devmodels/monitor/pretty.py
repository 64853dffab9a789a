"""JSON over several lines, as QEMU's monitor writes it with `pretty=on`."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


def pretty(message: object) -> bytes:
    """Each member and item on a line of its own, four spaces deeper; the lines end as all of a monitor's."""
    return pretty_json(msgspec.json.encode(message))


def pretty_json(line: bytes) -> bytes:
    """The same of what is JSON already."""
    text = _text(msgspec.json.decode(line), "")
    return f"{text}\n".replace("\n", "\r\n").encode()


def _text(value: object, indent: str) -> str:
    deeper = f"{indent}    "
    if isinstance(value, dict):
        members = (f"{_text(key, '')}: {_text(each, deeper)}" for key, each in value.items())
        return _lines("{}", members, indent)
    if isinstance(value, list):
        return _lines("[]", (_text(each, deeper) for each in value), indent)
    return msgspec.json.encode(value).decode()


def _lines(brackets: str, items: Iterable[str], indent: str) -> str:
    inside = ",".join(f"\n{indent}    {each}" for each in items)
    return f"{brackets[0]}{inside}\n{indent}{brackets[1]}"
