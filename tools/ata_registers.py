"""Write docs/ata-registers.md: every register of HBA, port, task file and bus master, as it is declared.

python -m tools.ata_registers
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from devmodels.ahci.registers import GenericHostControl, PortRegisters
from devmodels.ide_cdrom.registers import BusMasterRegisters, CommandBlock, ControlBlock
from devmodels.registers import Access, RegisterFile
from devmodels.registers.table import RegisterRow, table

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "ata-registers.md"
FILES: dict[str, type[RegisterFile]] = {
    "HBA": GenericHostControl,
    "Port of an HBA": PortRegisters,
    "Command block of an IDE channel": CommandBlock,
    "Control block of an IDE channel": ControlBlock,
    "Bus master of an IDE channel": BusMasterRegisters,
}

HEAD = """# The registers of AHCI and IDE

Written by `tools/ata_registers.py` from the declarations that devices work by. Bits that are not named have the kind of
their register. Every bit is tried as its kind says, by accesses of every width, on the declarations
(`tests/unit/ahci/test_registers.py`, `tests/unit/ide_cdrom/test_registers.py`) and as a guest reaches it in a machine
(`tests/unit/ata/test_every_register.py`, which counts: `pytest -s`); those that make a device act have tests of their
own.
"""


def bits(row: RegisterRow) -> Counter[Access]:
    """How many bits of each kind a register has."""
    found: Counter[Access] = Counter()
    for each in row.fields:
        found[each.access] += each.high - each.low + 1
    found[row.access] += 8 * row.width - found.total()
    return +found


def _summary() -> Iterator[str]:
    kinds = [
        kind for kind in Access if any(bits(row)[kind] for file in FILES.values() for row in table(file))
    ]
    yield "| | Registers | Bits | " + " | ".join(kind.name for kind in kinds) + " |"
    yield "|---" * (len(kinds) + 3) + "|"
    for title, file in FILES.items():
        rows = list(table(file))
        total = sum((bits(row) for row in rows), Counter[Access]())
        cells = " | ".join(str(total[kind]) for kind in kinds)
        yield f"| {title} | {len(rows)} | {total.total()} | {cells} |"


def _reference(file: type[RegisterFile]) -> Iterator[str]:
    yield "| Offset | Name | Bits | Kind | After power-on | Clause | |"
    yield "|---|---|---|---|---|---|---|"
    for row in table(file):
        kind = row.access.name if not row.fields else ""
        reset = f"{row.reset:X}h" if row.reset else "0"
        yield f"| {row.offset:02X}h | **{row.name}** | {8 * row.width} | {kind} | {reset} | {row.clause} | {row.doc} |"
        for each in row.fields:
            where = str(each.low) if each.high == each.low else f"{each.high}:{each.low}"
            value = f"{each.reset:X}h" if each.reset else "" if each.access is Access.HWINIT else "0"
            yield f"| | {each.name} | {where} | {each.access.name} | {value} | | {each.doc} |"


def page() -> str:
    """The page."""
    lines = [HEAD, *_summary(), "", "| Kind | |", "|---|---|"]
    lines += [f"| {kind.name} | {kind.value} |" for kind in Access]
    for title, file in FILES.items():
        lines += ["", f"## {title}", "", *_reference(file)]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the page."""
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
