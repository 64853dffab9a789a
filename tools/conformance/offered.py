"""Whether the tables have a row for each command, register and field of a configuration that devices offer.

A command is offered by the table that its device works by, a register by its declaration, a field by its structure.  A
command belongs to the clauses whose `commands` name it.  A register belongs to the clause that its declaration names;
where that is about several, its `registers` name them, fields as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from devmodels.ata.disk.commands import COMMANDS as ATA_DISK
from devmodels.ata.packet.commands import COMMANDS as ATAPI
from devmodels.scsi.disk.commands import COMMANDS as SCSI_DISK
from devmodels.scsi.mmc.commands import COMMANDS as DRIVE
from devmodels.virtio_blk.layout import CONFIG as BLK_CONFIG
from devmodels.virtio_scsi.layout import CONFIG as SCSI_CONFIG
from devmodels.wire import Codec
from tools.conformance.table import Clause, Table
from tools.reference.declared import named

COMMANDS: dict[str, Sequence[Any]] = {
    "ATA disk": ATA_DISK,
    "ATAPI": ATAPI,
    "SCSI disk": SCSI_DISK,
    "drive": DRIVE,
}
"""Tables of commands by what the tables in `conformance/` call them."""
CONFIGURATIONS: dict[str, Codec[int]] = {
    "virtio_blk_config": BLK_CONFIG,
    "virtio_scsi_config": SCSI_CONFIG,
}
"""Structures of configuration spaces by their names."""


def unaccounted(tables: Sequence[Table]) -> list[str]:
    """Each command, register and field without a row, and each that a clause names and nobody offers, a line each."""
    clauses = [(table, clause) for table in tables for clause in table.clauses if clause.rows]
    commands = {name for _, clause in clauses for name in clause.commands}
    offered = {f"{kind}: {each.name}" for kind, table in COMMANDS.items() for each in table}
    registers = {name for _, clause in clauses for name in clause.registers}
    alone = {_cited(table, clause) for table, clause in clauses if not clause.registers}
    found = list(_registers())
    return [
        *(f"no row is about the command {name}" for name in sorted(offered - commands)),
        *(f"nobody offers the command {name}" for name in sorted(commands - offered)),
        *(
            f"no row is about {name}, {clause}"
            for name, clause in found
            if clause not in alone and name not in registers
        ),
        *(f"nobody offers the register {name}" for name in sorted(registers - {name for name, _ in found})),
    ]


def _registers() -> Iterator[tuple[str, str]]:
    """Each register and each field of a configuration, and its clause."""
    for name, register in named():
        yield name, register.clause
    for structure, codec in CONFIGURATIONS.items():
        for field in codec.offsets:
            if not field.startswith("unused"):
                yield f"{structure}.{field}", structure


def _cited(table: Table, clause: Clause) -> str:
    """A clause as code cites it."""
    return f"{table.document} §{clause.number}" if clause.number[0].isdigit() else clause.number
