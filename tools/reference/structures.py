"""The pages of structures: what lies in a guest's memory and goes over sockets, and SCSI's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum, IntFlag
from html import escape

from tools.reference.layouts import MEMORY, SCSI, Bits, Module, Part, Structure, enumerations, structures
from tools.reference.opcodes import MAPS, anchor
from tools.reference.page import Page, breakable, cell

_ROW = 4
"""Bytes in a row of a drawing."""
LEAD = (
    "Structures in a guest's memory and on sockets, drawn from the declarations that the code packs and unpacks them "
    "by. Little-endian ones have their lowest byte on the right, as registers have; iSCSI's are big-endian and have "
    "their first byte on the left."
)
SCSI_LEAD = (
    "CDBs, parameter lists, and what commands return, drawn from their declarations: a row is a byte, or a field of "
    "several bytes, the most significant first. What is hatched is reserved."
)


def memory() -> Page:
    """The page of structures that are not SCSI's."""
    out = Page("structures", "Structures", LEAD)
    _modules(out, MEMORY, _dwords)
    total = sum(len(structures(module)) for module in MEMORY)
    numbers = sum(len(names) for module in MEMORY for names in enumerations(module))
    out.summary = (
        f"{total} structures byte by byte, {numbers} numbers with their names: rings, requests, FISes, PRDs, iSCSI, "
        "vhost-user, vfio-user"
    )
    return out


def scsi() -> Page:
    """The page of SCSI's."""
    out = Page("scsi", "SCSI structures", SCSI_LEAD)
    _modules(out, SCSI, _bytes)
    cdbs = sum(len(structures(module)) for module in SCSI if module.name.endswith("cdb"))
    total = sum(len(structures(module)) for module in SCSI)
    out.summary = f"{cdbs} CDBs and {total - cdbs} structures of parameters and data, bit by bit"
    return out


def _modules(out: Page, modules: Sequence[Module], draw: Callable[[Structure], Iterator[str]]) -> None:
    for module in modules:
        out.section(module.anchor, module.title)
        out.add([f'<p class="note"><code>{module.name.replace(".", "/")}.py</code></p><div class="many">'])
        for each in structures(module):
            words = f"{module.document} {each.words}".strip()
            out.hit(each.name, f"{each.size} bytes, {module.title}: {words}", each.anchor)
            name = f'<a class="self" href="#{each.anchor}"><code>{each.name}</code></a>'
            out.add([f'<div class="one" id="{each.anchor}"><h4>{name} <small>{each.size} bytes</small></h4>'])
            notes = [cell(words), *_commands(each)]
            out.add(f'<p class="note">{note}</p>' for note in notes if note)
            out.add(draw(each))
            out.add(["</div>"])
        for names in enumerations(module):
            _numbers(out, module, names)
        out.add(["</div>"])


def _numbers(out: Page, module: Module, names: type[IntEnum | IntFlag]) -> None:
    """A box of numbers that have names."""
    words = " ".join((inspect.getdoc(names) or "").split())
    where = f"{module.anchor}.{names.__name__}"
    title = f'<a class="self" href="#{where}"><code>{names.__name__}</code></a>'
    out.add(
        [
            f'<div class="one" id="{where}"><h4>{title}</h4><p class="note">{cell(words)}</p>',
            '<div class="numbers">',
        ]
    )
    for each in names:
        value = f"{each.value:X}h" if each.value > 9 or issubclass(names, IntFlag) else f"{each.value}"
        out.hit(str(each.name), f"{value}, {module.title} {names.__name__}", where)
        out.add([f"<code>{value}</code><code>{each.name}</code>"])
    out.add(["</div></div>"])


def _commands(structure: Structure) -> Iterator[str]:
    """Links to the commands that have this CDB."""
    using = [(kind, row) for kind in MAPS for row in kind.rows if row.layout is structure.declaration]
    links: dict[str, str] = {}
    for kind, row in using:
        links.setdefault(f"{escape(row.name)} ({row.code}h)", f"opcodes.html#{anchor(kind, row)}")
    if links:
        yield ", ".join(f'<a href="{href}">{name}</a>' for name, href in links.items())


# --- four bytes a row


def _dwords(structure: Structure) -> Iterator[str]:
    big = structure.big_endian
    lanes = range(_ROW) if big else reversed(range(_ROW))
    yield '<div class="map"><span class="head"></span>'
    yield from (f'<span class="head">+{lane}</span>' for lane in lanes)
    rows = -(-structure.size // _ROW)
    for row in range(rows):
        area = f"{row + 2}/1/span 1/span 1"
        yield f'<span class="at" style="grid-area:{area}">{_ROW * row:02X}h</span>'
    for part in structure.parts:
        for at, size, height, name in _pieces(part):
            column = at % _ROW if big else _ROW - at % _ROW - size
            area = f"{at // _ROW + 2}/{column + 2}/span {height}/span {size}"
            look = "part" if part.name else "reserved"
            yield f'<span class="{look}" style="grid-area:{area}">{breakable(name) or "&nbsp;"}</span>'
    yield "</div>"


def _pieces(part: Part) -> Iterator[tuple[int, int, int, str]]:
    """How a part lies in rows: offset, bytes in the row, rows, name; whole rows together."""
    at, left, done = part.offset, part.size, 0
    split = part.offset % _ROW + part.size > _ROW and (part.offset % _ROW or part.size % _ROW)
    while left:
        room = _ROW - at % _ROW
        height = left // _ROW if room == _ROW and left >= _ROW else 1
        size = min(room, left)
        taken = size * height
        name = part.name
        if split and name:
            name = f"{name} {done}–{done + taken - 1}" if taken > 1 else f"{name} {done}"
        yield at, size, height, name
        at, left, done = at + taken, left - taken, done + taken


# --- a byte a row


def _bytes(structure: Structure) -> Iterator[str]:
    yield '<div class="octets"><span class="head"></span>'
    yield from (f'<span class="head">{bit}</span>' for bit in reversed(range(8)))
    for part in structure.parts:
        last = part.offset + part.size - 1
        label = f"{part.offset}" if part.size == 1 else f"{part.offset}–{last}"
        if part.bits and part.size > 1:
            yield from _wide_bits(part)
            continue
        yield f'<span class="at">{label}</span>'
        yield from (_bits(each) for each in part.bits or (Bits(part.name, 7, 0),))
    yield "</div>"


def _wide_bits(part: Part) -> Iterator[str]:
    """Bit fields over several bytes, a row for each byte; a field that goes on is named in each."""
    for number in range(part.size):
        base = 8 * (part.size - number - 1)
        yield f'<span class="at">{part.offset + number}</span>'
        for each in part.bits:
            high, low = min(each.high, base + 7), max(each.low, base)
            if low <= high:
                yield _bits(Bits(each.name, high - base, low - base))


def _bits(bits: Bits) -> str:
    width = bits.high - bits.low + 1
    style = f' style="grid-column:span {width}"' if width > 1 else ""
    look = "part" if bits.name else "reserved"
    small = " small" if len(bits.name) > 6 * width else ""
    return f'<span class="{look}{small}"{style}>{breakable(bits.name) or "&nbsp;"}</span>'
