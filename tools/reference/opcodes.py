"""The page of operation codes: each table of commands as a map of 16 by 16, and as a list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from itertools import takewhile
from typing import Any, NamedTuple

import construct

from devmodels.ata.disk.commands import COMMANDS as ATA_DISK
from devmodels.ata.packet.commands import COMMANDS as ATAPI_DEVICE
from devmodels.ata.table import Addressing, Protocol
from devmodels.ata.table import Command as AtaCommand
from devmodels.scsi.absent import ReportLunsUnit
from devmodels.scsi.disk.commands import COMMANDS as SCSI_DISK
from devmodels.scsi.mmc.commands import COMMANDS as DRIVE
from devmodels.scsi.table import Command as ScsiCommand
from devmodels.scsi.table import Data
from tools.reference.layouts import anchor_of
from tools.reference.page import Page, cell, table

LEAD = (
    "Every command, from the tables by which units and devices answer: the row is an operation code's high digit, the "
    'column its low one. Data: <span class="kind hwinit">none</span>, <span class="kind ro">to the host</span>, '
    '<span class="kind rw1c">to the device</span>; <span class="kind sc">protocols of their own</span>.'
)
_LOOKS = {"none": "hwinit", "in": "ro", "out": "rw1c", "own": "sc"}
_WAYS = {
    Protocol.NON_DATA: "none",
    Protocol.QUEUED: "none",
    Protocol.PIO_IN: "in",
    Protocol.DMA_IN: "in",
    Protocol.QUEUED_IN: "in",
    Protocol.PIO_OUT: "out",
    Protocol.DMA_OUT: "out",
    Protocol.QUEUED_OUT: "out",
}
_DATA = {Data.NONE: ("none", "–"), Data.IN: ("in", "to the host"), Data.OUT: ("out", "to the device")}


class Row(NamedTuple):
    """One command: `sub` is its service action, or the number of its subcommand; `layout` its CDB, if it has one."""

    opcode: int
    sub: int | None
    name: str
    way: str
    how: str
    clause: str
    addresses: str = ""
    layout: construct.Struct | None = None

    @property
    def code(self) -> str:
        """How it is written."""
        return f"{self.opcode:02X}" + ("" if self.sub is None else f"/{self.sub:02X}")


class Map(NamedTuple):
    """The commands of one kind of units or devices."""

    anchor: str
    title: str
    note: str
    rows: Sequence[Row]


def _scsi(commands: Sequence[ScsiCommand[Any]]) -> list[Row]:
    return [
        Row(
            each.opcode,
            each.action,
            each.name,
            *_DATA[each.data],
            each.reference,
            layout=each.layout.declaration,
        )
        for each in sorted(commands, key=lambda each: (each.opcode, each.action or 0))
    ]


def _ata(commands: Sequence[AtaCommand[Any]]) -> list[Row]:
    return [
        Row(
            each.opcode,
            each.value,
            each.name,
            _WAYS.get(each.protocol, "own"),
            each.protocol.value,
            each.reference,
            "" if each.addressing is Addressing.NONE else each.addressing.value,
        )
        for each in sorted(commands, key=lambda each: (each.opcode, each.value or 0))
    ]


MAPS = (
    Map("scsi-disk", "SCSI disks", "docs/scsi-commands.md names handlers and tests", _scsi(SCSI_DISK)),
    Map(
        "mmc",
        "CD, DVD and BD drives",
        "whether on a SCSI bus or in ATA packets; docs/scsi-commands.md, docs/ata-commands.md",
        _scsi(DRIVE),
    ),
    Map("well-known", "The well known unit REPORT LUNS", "SAM-5 §4.7.5.3", _scsi(ReportLunsUnit.commands)),
    Map("ata-disk", "ATA disks", "docs/ata-commands.md names handlers and tests", _ata(ATA_DISK)),
    Map("atapi", "ATAPI devices", "PACKET (A0h) carries the drives' commands above", _ata(ATAPI_DEVICE)),
)


def page() -> Page:
    """The page."""
    out = Page("opcodes", "Operation codes", LEAD)
    for each in MAPS:
        out.section(each.anchor, each.title)
        out.add([f'<p class="note">{len(each.rows)} commands; {escape(each.note)}.</p>'])
        out.add(_grid(each))
        last = "CDB" if each.rows[0].layout else "Addresses"
        out.add(table(("Code", "Command", "Data", last, "Clause"), _list(out, each)))
    counts = ", ".join(f"{each.title} ({len(each.rows)})" for each in MAPS)
    out.summary = f"Commands as maps of 16 × 16: {counts}"
    return out


def anchor(kind: Map, row: Row) -> str:
    """Where a command is on the page."""
    return f"{kind.anchor}-{row.code.replace('/', '-')}"


def _grid(kind: Map) -> Iterator[str]:
    by_code: dict[int, list[Row]] = {}
    for row in kind.rows:
        by_code.setdefault(row.opcode, []).append(row)
    yield '<div class="opcodes"><span class="at"></span>'
    yield from (f'<span class="at">_{digit:X}</span>' for digit in range(16))
    for opcode in range(256):
        if not opcode % 16:
            yield f'<span class="at">{opcode >> 4:X}_</span>'
        rows = by_code.get(opcode)
        if rows is None:
            yield '<span class="none"></span>'
            continue
        ways = {row.way for row in rows}
        look = _LOOKS[ways.pop()] if len(ways) == 1 else "mixed"
        title = escape(f"{opcode:02X}h {', '.join(row.name for row in rows)}")
        yield (
            f'<a class="{look}" href="#{anchor(kind, rows[0])}" title="{title}"><i>{opcode:02X}</i>'
            f"<b>{escape(_name(rows))}</b></a>"
        )
    yield "</div>"


def _name(rows: Sequence[Row]) -> str:
    """What stands in a cell: the name, or the words that all names begin with, or how many there are."""
    words = [row.name.partition(", ")[0].split() for row in rows]
    alike = takewhile(lambda each: len(set(each)) == 1, zip(*words, strict=False))
    common = " ".join(each[0] for each in alike)
    different = {" ".join(each) for each in words}
    if len(different) == 1:
        return different.pop()
    return f"{common} … ({len(rows)})" if common else f"{len(rows)} commands"


def _cdb(layout: construct.Struct) -> str:
    return f'<a href="scsi.html#{anchor_of(layout)}">{layout.sizeof()} bytes</a>'


def _list(out: Page, kind: Map) -> Iterator[tuple[str, ...]]:
    for row in kind.rows:
        where = anchor(kind, row)
        out.hit(row.name, f"{row.code}h, command of {kind.title}", where)
        how = f'<span class="kind {_LOOKS[row.way]}">{escape(row.how)}</span>'
        yield (
            f'<code id="{where}">{row.code}</code>',
            f'<span class="words">{escape(row.name)}</span>',
            how,
            row.addresses if row.layout is None else _cdb(row.layout),
            cell(row.clause),
        )
