"""Structures in memory: command list, command table, received FIS area (AHCI 1.3.1 §4.2)."""

from __future__ import annotations

from devmodels.wire import Codec

COMMAND_HEADER = Codec.ints(
    lambda c: c.Struct(
        "flags" / c.Int16ul,
        "prdtl" / c.Int16ul,
        "prdbc" / c.Int32ul,
        "ctba" / c.Int32ul,
        "ctbau" / c.Int32ul,
        "reserved" / c.Padding(16),
    )
)
"""One of the 32 entries of a command list (AHCI 1.3.1 §4.2.2)."""

PRD = Codec.ints(
    lambda c: c.Struct("dba" / c.Int32ul, "dbau" / c.Int32ul, "reserved" / c.Padding(4), "dbc" / c.Int32ul)
)
"""One entry of a physical region descriptor table (AHCI 1.3.1 §4.2.3.3)."""
HEADER_SIZE, PRD_SIZE = 32, 16

CFL = 0x001F
"""Bits of a command header's flags: length of the command FIS in dwords …"""
ATAPI = 0x0020
WRITE = 0x0040
PREFETCHABLE = 0x0080
RESET = 0x0100
BIST = 0x0200
CLEAR_BUSY = 0x0400
PMP_SHIFT = 12

PRDBC_OFFSET = 4
CTBA_ALIGN = 0x80
MIN_CFL, MAX_CFL = 2, 16

CFIS_SIZE = 64
ACMD_OFFSET, ACMD_SIZE = 0x40, 16
PRDT_OFFSET = 0x80

DBC = 0x003F_FFFF
"""Bits of a PRD's last dword: bytes minus one …"""
DBC_INTERRUPT = 1 << 31

DSFIS, PSFIS, RFIS, SDBFIS, UFIS = 0x00, 0x20, 0x40, 0x58, 0x60
"""Offsets in the received FIS area: DMA Setup, PIO Setup, Register – Device to Host, Set Device Bits, unknown ones."""
RECEIVED_SIZE = 0x100
