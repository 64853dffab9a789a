"""What channels do one way or another: as ATA/ATAPI-7 and SFF-8038i have it, or as QEMU 7.2's.

A field says what is done where it is true; `STRICT` has none of it.
"""

from __future__ import annotations

import msgspec

from devmodels.conformance import ViolationLog


class Habits(msgspec.Struct, frozen=True):
    """Departures from ATA/ATAPI-7 and SFF-8038i, each with the clause."""

    ready_while_busy: bool = False
    """The status has DRDY besides BSY, and with data of the medium DSC (ATA/ATAPI-6 §7.15)."""
    busy_with_data: bool = False
    """BSY and DRQ are both set while blocks of a packet's go by DMA (ATA/ATAPI-7 vol. 2 §11.8)."""
    whole_words: bool = False
    """Half a word is not read, so that a data block of an odd length never ends (ATA/ATAPI-7 vol. 1 §6.24.4)."""
    ends_inactive: bool = False
    """When a packet's data have gone, or a command has failed, no transfer is active, whatever regions are left
    (SFF-8038i §2.2)."""
    undiagnosed: bool = False
    """After a hardware reset the error register has no result, and every device is ready (§11.2)."""
    absent_registers: bool = False
    """A device that is not there has registers of its own (ATA/ATAPI-6 §9.16.1)."""
    lone_diagnostics: bool = False
    """EXECUTE DEVICE DIAGNOSTIC is heard and done by the selected device, if there is one (ACS-3 §7.9)."""
    short_reset: bool = False
    """SRST resets when it is written, and does not stand (ATA/ATAPI-7 vol. 2 §11.3)."""
    one_interrupt: bool = False
    """INTRQ is the channel's: either device raises it where nIEN is 0 by then, and every look at a status or a command
    takes it back (ATA/ATAPI-7 vol. 2 §11.2)."""
    resets_interrupt: bool = False
    """SRST ends with an interrupt, unless both devices take packets (ATA/ATAPI-7 vol. 2 §11.3)."""
    keeps_selection: bool = False
    """SRST leaves the device selected that was (ATA/ATAPI-7 vol. 2 §11.3)."""

    loose_registers: bool = False
    """The bus master's registers hold what QEMU's do (SFF-8038i §2)."""
    table: int = 0x1_0000
    """The longest table, in bytes (SFF-8038i §1.2)."""
    zeroes: bool = False
    """Of a table that is not in memory all entries are zeroes, and that is no error (§2.2)."""
    moves_nowhere: bool = False
    """A function that may not master the bus reads zeroes, and writes nothing (PCI 3.0 §6.2.2)."""
    gives_up: bool = False
    """Where a table is shorter than a command's data the command is over, and nobody is told (SFF-8038i §2.2)."""


STRICT = Habits()
AS_QEMU = Habits(
    ready_while_busy=True,
    busy_with_data=True,
    whole_words=True,
    ends_inactive=True,
    undiagnosed=True,
    absent_registers=True,
    lone_diagnostics=True,
    short_reset=True,
    one_interrupt=True,
    resets_interrupt=True,
    keeps_selection=True,
    loose_registers=True,
    table=0x1000,
    zeroes=True,
    moves_nowhere=True,
    gives_up=True,
)


def habits_of(violations: ViolationLog) -> Habits:
    """Those of its profile."""
    return AS_QEMU if violations.as_qemu else STRICT
