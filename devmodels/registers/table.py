"""A register file as a table: rows from which a reference is drawn, or by which a test walks every register."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from devmodels.registers.declare import POWER_ON, Access, Bank, Reset
from devmodels.registers.file import RegisterFile


class FieldRow(msgspec.Struct, frozen=True):
    """Bits `high` down to `low`; `reset` is the value after power-on."""

    name: str
    high: int
    low: int
    access: Access
    reset: int
    clause: str
    doc: str


class RegisterRow(msgspec.Struct, frozen=True):
    """One register.

    `name` is a path: `port[].command` lies in an array of `count` elements, `stride` bytes apart (0: a bank, whose
    elements share one window), and `offset` is the first element's.  `access` belongs to the bits that no field
    names, `reset` is the whole register's after power-on.
    """

    name: str
    offset: int
    width: int
    access: Access
    reset: int
    widths: tuple[int, ...]
    clause: str
    doc: str
    fields: tuple[FieldRow, ...]
    count: int = 1
    stride: int = 0


def table(registers: type[RegisterFile]) -> Iterator[RegisterRow]:
    """The rows of a register file in the order of their offsets, arrays included (as one element each)."""
    yield from sorted(_rows(registers), key=lambda row: row.offset)


def _rows(registers: type[RegisterFile]) -> Iterator[RegisterRow]:
    layout = registers.layout()
    for register, initial in zip(layout.registers, layout.initial, strict=True):
        fields = tuple(
            FieldRow(
                field.name,
                field.high,
                field.low,
                field.access,
                _power_on(field.reset),
                field.clause,
                field.doc,
            )
            for field in sorted(register.fields, key=lambda field: -field.high)
        )
        yield RegisterRow(
            register.name,
            register.offset,
            register.width,
            register.access,
            initial,
            layout.legal_widths(register),
            register.clause,
            register.doc,
            fields,
        )
    for block in layout.blocks:
        stride = 0 if isinstance(block, Bank) else block.stride
        for row in _rows(block.element):
            yield msgspec.structs.replace(
                row,
                name=f"{block.name}[].{row.name}",
                offset=block.offset + row.offset,
                count=block.count,
                stride=stride,
            )


def _power_on(reset: Reset) -> int:
    return reset if isinstance(reset, int) else reset.get(POWER_ON, 0)
