"""The page of register maps: each file as a map of its bytes, a table, and the bits of what has fields."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from html import escape
from itertools import groupby

from devmodels.registers import Access, Port, RegisterFile
from devmodels.registers.table import FieldRow, RegisterRow
from devmodels.registers.table import table as rows_of
from tools.reference.bits import Bit, diagram
from tools.reference.declared import GROUPS, File
from tools.reference.page import Page, breakable, cell, table

LEAD = (
    "What a guest can read and write, drawn from the declarations that the devices answer accesses by. "
    "A register's bits are of these kinds:"
)
_ROW = 4
"""Bytes in a row of a map."""


def page() -> Page:
    """The page."""
    out = Page("registers", "Registers", LEAD)
    out.add(['<ul class="legend">'])
    out.add(f"<li>{kind(each)} {escape(each.value)}</li>" for each in Access)
    out.add(["</ul>"])
    for group in GROUPS:
        out.section(group.anchor, group.title)
        for file in group.files:
            _file(out, file)
    out.summary = _summary()
    return out


def _summary() -> str:
    rows = [row for group in GROUPS for file in group.files for row in rows_of(file.registers)]
    files = sum(len(group.files) for group in GROUPS)
    fields = sum(len(row.fields) for row in rows)
    return f"{files} register files: {len(rows)} registers with {fields} fields, as maps of bytes and of bits"


def kind(access: Access) -> str:
    """A kind of access as a coloured word."""
    return f'<span class="kind {access.name.lower()}">{access.name}</span>'


def _file(out: Page, file: File) -> None:
    out.section(file.anchor, file.title, 3)
    out.hit(file.title, f"registers, {file.place}", file.anchor)
    document = (inspect.getdoc(file.registers) or "").partition("\n\n")[0].replace("\n", " ")
    module = file.registers.__module__.replace(".", "/")
    place = file.place[0].upper() + file.place[1:]
    out.add([f'<p class="note">{cell(place)}. {cell(document)} <code>{module}.py</code></p>'])
    rows = list(rows_of(file.registers))
    out.add(_map(file, rows))
    out.add(_table(out, file, rows))
    for row in rows:
        if row.fields:
            out.add(_fields(out, file, row))


def anchor(file: File, *names: str) -> str:
    """Where a register, or a field of it, is on the page."""
    return ".".join((file.anchor, *names)).replace("[]", "")


# --- where registers lie


def _map(file: File, rows: list[RegisterRow]) -> Iterator[str]:
    owners = _owners(file.registers, rows)
    end = max(owners, default=-1) + 1
    yield '<div class="map"><span class="head"></span>'
    yield from (f'<span class="head">+{lane}</span>' for lane in reversed(range(_ROW)))
    skipped = False
    for start in range(0, -(-end // _ROW) * _ROW, _ROW):
        lanes = [owners.get(start + lane, ()) for lane in range(_ROW)]
        if not any(lanes):
            if not skipped:
                yield f'<span class="at">{start:02X}h</span><span class="gap reserved">…</span>'
            skipped = True
            continue
        skipped = False
        yield f'<span class="at">{start:02X}h</span>'
        for names, run in groupby(reversed(lanes)):
            width = len(list(run))
            style = f' style="grid-column:span {width}"' if width > 1 else ""
            if not names:
                yield f'<span class="reserved"{style}>&nbsp;</span>'
                continue
            look = _look(rows, names)
            words = " / ".join(_short(name) for name in names) + _half(rows, names[0], start)
            yield f'<a class="{look}" href="#{anchor(file, names[0])}"{style}>{breakable(words)}</a>'
    yield "</div>"


def _owners(registers: type[RegisterFile], rows: list[RegisterRow]) -> dict[int, tuple[str, ...]]:
    """The names of what lies at each byte: two where one is read only and the other write only."""
    owners: dict[int, tuple[str, ...]] = {}
    for row in rows:
        for at in range(row.offset, row.offset + row.width):
            owners[at] = (*owners.get(at, ()), row.name)
    taken = set(owners)
    for port in registers.layout().ports:
        for at in range(port.offset, port.end):
            if at in taken:
                break
            owners[at] = (port.name,)
    return owners


def _short(name: str) -> str:
    return name.rpartition("[].")[2]


def _half(rows: list[RegisterRow], name: str, start: int) -> str:
    """Which bits of a register that is longer than a row lie in this one."""
    row = next((each for each in rows if each.name == name and each.width > _ROW), None)
    if row is None:
        return ""
    low = 8 * (start - row.offset)
    return f" {low + 8 * _ROW - 1}:{low}"


def _look(rows: list[RegisterRow], names: tuple[str, ...]) -> str:
    kinds = {
        access.name.lower()
        for row in rows
        if row.name in names
        for access in ({each.access for each in row.fields} or {row.access})
    }
    return kinds.pop() if len(kinds) == 1 else "mixed"


# --- what they are


def _table(out: Page, file: File, rows: list[RegisterRow]) -> list[str]:
    head = ("Offset", "Name", "", "Kind", "Reset", "Bytes", "Accesses", "Clause")
    lines = [(row.offset, _register(out, file, row)) for row in rows]
    lines += [(port.offset, _port(out, file, port)) for port in file.registers.layout().ports]
    return table(head, (cells for _, cells in sorted(lines, key=lambda line: line[0])))


def _register(out: Page, file: File, row: RegisterRow) -> tuple[str, ...]:
    where = anchor(file, row.name)
    out.hit(row.name, f"register of {file.title}, {row.offset:02X}h {row.doc}", where)
    kinds = {each.access for each in row.fields} or {row.access}
    words = [row.doc] if row.doc else []
    if row.count > 1:
        words.append(f"one of {row.count}" + (f", {row.stride} bytes apart" if row.stride else ""))
    target = f"#{where}.bits" if row.fields else f"#{where}"
    return (
        f"<code>{row.offset:02X}h</code>",
        f'<a id="{where}" href="{target}"><code>{escape(row.name)}</code></a>',
        f'<span class="words">{cell("; ".join(words))}</span>',
        " ".join(kind(each) for each in Access if each in kinds),
        _value(row.reset, row.access),
        str(row.width),
        _widths(row.widths, lenient=file.registers._lenient),
        cell(row.clause),
    )


def _port(out: Page, file: File, port: Port) -> tuple[str, ...]:
    where = anchor(file, port.name)
    out.hit(port.name, f"port of {file.title}, {port.offset:02X}h {port.doc}", where)
    words = ["each access is a transfer", *([port.doc] if port.doc else [])]
    return (
        f"<code>{port.offset:02X}h</code>",
        f'<a id="{where}" href="#{where}"><code>{port.name}</code></a>',
        f'<span class="words">{cell("; ".join(words))}</span>',
        "port",
        "",
        "",
        _widths(port.widths),
        cell(port.clause),
    )


def _value(value: int, access: Access) -> str:
    if access is Access.HWINIT and not value:
        return "device's"
    return f"<code>{value:X}h</code>" if value else "0"


def _widths(widths: tuple[int, ...], *, lenient: bool = False) -> str:
    return "any" if lenient else ", ".join(map(str, widths))


# --- bits


def _fields(out: Page, file: File, row: RegisterRow) -> Iterator[str]:
    where = anchor(file, row.name)
    yield (
        f'<h4 id="{where}.bits"><a class="self" href="#{where}.bits"><code>{row.offset:02X}h</code> {escape(row.name)}'
        "</a></h4>"
    )
    stem = _stem(row)
    named = [
        Bit(
            each.high,
            each.low,
            each.name.removeprefix(stem),
            each.access.name.lower(),
            f"#{anchor(file, row.name, each.name)}",
        )
        for each in row.fields
    ]
    yield from diagram(8 * row.width, named, rest=row.access.name.lower())
    yield from table(
        ("Bits", "Field", "Kind", "Reset", ""), (_field(out, file, row, each) for each in row.fields)
    )


def _field(out: Page, file: File, row: RegisterRow, field: FieldRow) -> tuple[str, ...]:
    where = anchor(file, row.name, field.name)
    bits = f"{field.high}" if field.high == field.low else f"{field.high}:{field.low}"
    out.hit(field.name, f"bits {bits} of {row.name}, {file.title} {field.doc}", where)
    words = field.doc if field.clause == row.clause else f"{field.doc} ({field.clause})"
    return (
        bits,
        f'<code id="{where}">{escape(field.name)}</code>',
        kind(field.access),
        _value(field.reset, field.access),
        cell(words),
    )


def _stem(row: RegisterRow) -> str:
    """What all names of a register's fields begin with, which its drawing leaves out."""
    first = row.fields[0].name.partition("_")
    stem = first[0] + first[1]
    alike = first[2] and all(each.name.startswith(stem) and each.name != stem for each in row.fields)
    return stem if alike else ""
