"""Whether the tables have a row for each command and each register that devices offer.

A command is offered by the table that its device works by, a register by its declaration.  A command belongs to the
clauses whose `commands` name it, a register to the clause that its declaration names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from devmodels.ahci.registers import GenericHostControl, PortRegisters
from devmodels.ahci.sata import AddressMap, IndexData, SataCapability
from devmodels.ata.disk.commands import COMMANDS as ATA_DISK
from devmodels.ata.packet.commands import COMMANDS as ATAPI
from devmodels.ide_cdrom.function import Timing, UltraTiming
from devmodels.ide_cdrom.registers import BusMasterRegisters, CommandBlock, ControlBlock
from devmodels.registers import Port, Register, RegisterFile
from devmodels.scsi.disk.commands import COMMANDS as SCSI_DISK
from devmodels.scsi.mmc.commands import COMMANDS as DRIVE
from tools.conformance.table import Clause, Table

COMMANDS: dict[str, Sequence[Any]] = {
    "ATA disk": ATA_DISK,
    "ATAPI": ATAPI,
    "SCSI disk": SCSI_DISK,
    "drive": DRIVE,
}
"""Tables of commands by what the tables in `conformance/` call them."""
REGISTERS: tuple[type[RegisterFile], ...] = (
    GenericHostControl,
    PortRegisters,
    SataCapability,
    IndexData,
    AddressMap,
    BusMasterRegisters,
    CommandBlock,
    ControlBlock,
    Timing,
    UltraTiming,
)
ELSEWHERE = ("PCI 3.0 ",)
"""Documents of which there is no table."""


def unaccounted(tables: Sequence[Table]) -> list[str]:
    """Each command and register without a row, and each command that a clause names and nobody offers, a line each."""
    clauses = [(table, clause) for table in tables for clause in table.clauses if clause.rows]
    named = {name for _, clause in clauses for name in clause.commands}
    offered = {f"{kind}: {each.name}" for kind, commands in COMMANDS.items() for each in commands}
    return [
        *(f"no row is about the command {name}" for name in sorted(offered - named)),
        *(f"nobody offers the command {name}" for name in sorted(named - offered)),
        *_registers({_cited(table, clause) for table, clause in clauses}),
    ]


def _registers(cited: set[str]) -> Iterator[str]:
    for file in REGISTERS:
        declared: list[Register | Port] = [*file.layout().registers, *file.layout().ports]
        for each in declared:
            if not each.clause.startswith(ELSEWHERE) and each.clause not in cited:
                yield f"no row is about {file.__name__}.{each.name}, {each.clause}"


def _cited(table: Table, clause: Clause) -> str:
    """A clause as code cites it."""
    return f"{table.document} §{clause.number}" if clause.number[0].isdigit() else clause.number
