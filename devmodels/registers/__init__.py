"""Registers are data: a register file is a class body that reads like its specification's own table.

    class Timer(RegisterFile, size=0x10, widths=(1, 2, 4)):
        control = Register(0x00, 4, clause="Timer 2.1")
        enable = control.bit(0, RW)
        restart = control.bit(1, SC)
        count = Register(0x04, 4, RO, clause="Timer 2.2")
        status = Register(0x08, 4, clause="Timer 2.3")
        expired = status.bit(0, RW1C)
        channel = Blocks(Channel, 0x10, count=4)

        @enable.on_change
        def _enabled(self, value: int) -> None: ...

`declare` holds the declarations, `file` the class that answers accesses, `table` the iterator from which references
are drawn, `check` the generic test of every bit.
"""

from devmodels.registers.arrays import BlockArray, IllegalAccess
from devmodels.registers.declare import (
    HWINIT,
    POWER_ON,
    RC,
    RESERVED,
    RO,
    RW,
    RW1C,
    RW1S,
    SC,
    WO,
    Access,
    Bank,
    Blocks,
    Field,
    Port,
    Register,
)
from devmodels.registers.file import RegisterFile

__all__ = [
    "HWINIT",
    "POWER_ON",
    "RC",
    "RESERVED",
    "RO",
    "RW",
    "RW1C",
    "RW1S",
    "SC",
    "WO",
    "Access",
    "Bank",
    "BlockArray",
    "Blocks",
    "Field",
    "IllegalAccess",
    "Port",
    "Register",
    "RegisterFile",
]
