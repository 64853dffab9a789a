"""A program as a script: steps with what a right device answers them, as plain values and as YAML."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from io import StringIO
from itertools import groupby
from typing import TYPE_CHECKING

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarint import HexInt

from guestsim.drivers.layouts import ID_BYTES, SECTOR, WRITE_ZEROES_UNMAP, BlkStatus, BlkType
from guestsim.portable.shrink.model import Known, expected
from guestsim.portable.shrink.program import HEADER, Ask, Fixed, Group, Plain, Program
from guestsim.script.schema import ACTIONS, Script
from guestsim.script.values import HexBytes, Pattern, decode_hook

if TYPE_CHECKING:
    from collections.abc import Mapping

_HEXADECIMAL = ("pattern", "reserved")
_UNITS = ((1 << 30, "G"), (1 << 20, "M"), (1 << 10, "k"))
_SIMPLE_RANGES = {
    BlkType.DISCARD: "discard",
    BlkType.WRITE_ZEROES: "zero",
    BlkType.SECURE_ERASE: "secure-erase",
}


def script_of(plain: Plain) -> Script:
    """Check a script's plain values; ValueError (msgspec's) where they are none."""
    return msgspec.convert(plain, Script, dec_hook=decode_hook)


def render(program: Program) -> Plain:
    """The whole script, as plain values."""
    drive: Plain = program.head["drives"][0]  # type: ignore[index]
    content = [
        {"at": size_text(one.at), "length": size_text(one.length), **words(one.data)}
        for one in program.content
    ]
    drive = {**drive, "size": size_text(program.size)}
    if content:
        drive["content"] = content
    return {**program.head, "drives": [drive], "steps": list(_steps(program))}


def _steps(program: Program) -> Iterator[Plain]:
    answers = iter(expected(program))
    waiting: list[str] | None = None
    for entry in program.entries:
        if waiting is not None and not (isinstance(entry, Group) and not entry.wait):
            yield _wait_for(waiting)
            waiting = None
        if isinstance(entry, Fixed):
            yield entry.step
            continue
        asks = [(_step(ask), _expect(ask, next(answers))) for ask in entry.asks]
        violations = [clause for ask in entry.asks for clause in ask.violations]
        queue = {"queue": entry.queue} if entry.queue else {}
        if len(asks) == 1 and entry.wait:
            ((step, expect),) = asks
            yield {**step, **queue, "expect": {**expect, **_violation(violations)}}
            continue
        steps = [{**step, "expect": expect} for step, expect in asks]
        if entry.wait:
            beside = {"expect": _violation(violations)} if violations else {}
            yield {"together": steps, **queue, **beside}
        else:
            yield {"submit": steps, **queue}
            waiting = (waiting or []) + violations
    if waiting is not None:
        yield _wait_for(waiting)


def _wait_for(violations: Sequence[str]) -> Plain:
    return {"wait-for": "answers", **({"expect": _violation(violations)} if violations else {})}


def _violation(clauses: Sequence[str]) -> Plain:
    different = list(dict.fromkeys(clauses))
    return {"violation": different[0] if len(different) == 1 else different} if different else {}


# --- one request


def _step(ask: Ask) -> Plain:
    """The step of a request: a plain one where there is one for it."""
    if ask.ioprio or ask.readable_split or ask.writable_split or not ask.ok:
        return {"request": _literal(ask)}
    at = size_text(ask.sector * SECTOR)
    if ask.type == BlkType.IN and not ask.sent and not ask.room % SECTOR:
        return {"read": {"at": at, "length": size_text(ask.room)}}
    if ask.type == BlkType.OUT and not ask.room and ask.payload is not None:
        return {"write": {"at": at, "length": size_text(ask.sent), **words(ask.payload)}}
    if ask.type == BlkType.FLUSH and not ask.sent and not ask.room and not ask.sector:
        return {"flush": {}}
    if ask.type == BlkType.GET_ID and not ask.sent and ask.room == ID_BYTES and not ask.sector:
        return {"get-id": {}}
    name = _SIMPLE_RANGES.get(BlkType(ask.type)) if ask.type in set(BlkType) else None
    if name is not None and len(ask.ranges) == 1 and not ask.sector and not ask.room:
        ((sector, count, flags),) = ask.ranges
        unmap = {"unmap": True} if flags == WRITE_ZEROES_UNMAP and name == "zero" else {}
        if not flags or unmap:
            return {name: {"at": size_text(sector * SECTOR), "length": size_text(count * SECTOR), **unmap}}
    return {"request": _literal(ask)}


def _literal(ask: Ask) -> Plain:
    kind = BlkType(ask.type).name if ask.type in set(BlkType) else ask.type
    step: Plain = {"type": kind, "sector": ask.sector}
    if ask.ioprio:
        step["reserved"] = ask.ioprio
    if ask.ranges:
        step["ranges"] = [
            {"sector": sector, "sectors": count, **({"flags": flags} if flags else {})}
            for sector, count, flags in ask.ranges
        ]
    elif ask.payload is not None:
        step["data"] = {"length": ask.sent, **words(ask.payload)}
    step["writable"] = ask.room + 1
    if ask.readable_split is not None:
        step["readable-split"] = list(ask.readable_split)
    elif ask.sent:
        step["readable-split"] = [HEADER, ask.sent]
    if ask.writable_split is not None:
        step["writable-split"] = list(ask.writable_split)
    elif ask.room:
        step["writable-split"] = [ask.room, 1]
    return step


def _expect(ask: Ask, known: Sequence[Known]) -> Plain:
    expect: Plain = {}
    if not ask.ok:
        expect["status"] = BlkStatus(ask.status).name if ask.status in set(BlkStatus) else ask.status
    expect["used-length"] = ask.used_length
    parts = [(one.at + at, length, pattern) for one in known for at, length, pattern in parts_of(one.data)]
    if len(parts) == 1 and parts[0][1] == ask.room:
        expect["data"] = words(parts[0][2])
    elif parts:
        expect["data"] = [
            {"at": size_text(at), "length": size_text(length), **words(pattern)}
            for at, length, pattern in parts
        ]
    return expect


# --- values


def pattern_of(data: bytes) -> Pattern:
    """The shortest way to say `data`, which is not empty."""
    first = data[0]
    if data.count(first) == len(data):
        return Pattern(pattern=first)
    if len(data) % 4 == 0 and len(data) > 8:
        (start, second) = struct.unpack_from("<II", data)
        if second == (start + 1) & 0xFFFF_FFFF and Pattern(counting=start).data(len(data)) == data:
            return Pattern(counting=start)
    return Pattern(hex=HexBytes(data))


def parts_of(data: bytes) -> list[tuple[int, int, Pattern]]:
    """The shortest way to say `data` part by part: where each begins, its length, its pattern."""
    whole = pattern_of(data)
    if whole.hex is None:
        return [(0, len(data), whole)]
    parts: list[tuple[int, int, Pattern]] = []
    for at in range(0, len(data), SECTOR):
        sector = data[at : at + SECTOR]
        pattern = pattern_of(sector)
        if parts and _goes_on(parts[-1], pattern):
            start, length, first = parts.pop()
            parts.append((start, length + len(sector), first))
        else:
            parts.append((at, len(sector), pattern))
    return [
        (
            start,
            length,
            Pattern(hex=HexBytes(data[start : start + length])) if pattern.hex is not None else pattern,
        )
        for start, length, pattern in parts
    ]


def _goes_on(part: tuple[int, int, Pattern], pattern: Pattern) -> bool:
    """Whether `pattern` in the next sector is that of `part`, continued."""
    _, length, before = part
    if before.counting is not None and pattern.counting is not None:
        return pattern.counting == (before.counting + length // 4) & 0xFFFF_FFFF
    if before.hex is not None or pattern.hex is not None:
        return before.hex is not None and pattern.hex is not None
    return before.pattern == pattern.pattern is not None


def words(pattern: Pattern) -> Plain:
    """A pattern as a script has it."""
    if pattern.pattern is not None:
        return {"pattern": pattern.pattern}
    if pattern.counting is not None:
        return {"counting": pattern.counting}
    if pattern.random is not None:
        return {"random": pattern.random}
    assert pattern.hex is not None
    return {"hex": pattern.hex.hex()}


def size_text(number: int) -> str | int:
    """A number of bytes, with a unit where it is a whole number of them."""
    for unit, name in _UNITS:
        if number and number % unit == 0:
            return f"{number // unit}{name}"
    return number


# --- YAML


def to_yaml(plain: Mapping[str, object], remarks: Sequence[str]) -> str:
    """A script's text, with remarks at its beginning; what is repeated is said once."""
    whole = {**plain, "steps": compressed(plain["steps"])}  # type: ignore[arg-type]
    yaml = YAML()
    yaml.width = 118
    yaml.indent(mapping=2, sequence=4, offset=2)
    tree = CommentedMap()
    for name, value in whole.items():
        tree[name] = _block(value) if isinstance(value, list) else _flow(value)
    out = StringIO()
    yaml.dump(tree, out)
    return "".join(f"# {line}\n" for line in remarks) + out.getvalue()


def compressed(steps: Sequence[Plain]) -> list[Plain]:
    """Steps with those that come again and again put into `repeat`."""
    found: list[Plain] = []
    for _, same in groupby(steps, key=repr):
        alike = list(same)
        if len(alike) > 2:
            found.append({"repeat": {"times": len(alike), "steps": [alike[0]]}})
        else:
            found += alike
    return found


def _block(values: Sequence[object]) -> CommentedSeq:
    """A list, one item under the other; what is inside a step's action is in one line with it."""
    items = CommentedSeq()
    for value in values:
        item = _flow(value)
        if isinstance(item, CommentedMap) and _is_step(item):
            item.fa.set_block_style()
            if "repeat" in item:
                item["repeat"].fa.set_block_style()
                item["repeat"]["steps"] = _block(value["repeat"]["steps"])  # type: ignore[index]
            for name in ("together", "submit"):
                if name in item:
                    item[name] = _block(value[name])  # type: ignore[index]
        items.append(item)
    return items


def _is_step(item: CommentedMap) -> bool:
    return next(iter(item), "").replace("-", "_") in ACTIONS


def _flow(value: object, name: str = "") -> object:
    """A value in one line; what people read in hexadecimal is so."""
    if isinstance(value, dict):
        tree = CommentedMap((key, _flow(inner, key)) for key, inner in value.items())
        tree.fa.set_flow_style()
        return tree
    if isinstance(value, list | tuple):
        items = CommentedSeq([_flow(inner) for inner in value])
        items.fa.set_flow_style()
        return items
    if name in _HEXADECIMAL and isinstance(value, int):
        return HexInt(value, width=2)
    return value
