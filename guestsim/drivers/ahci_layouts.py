"""Registers and structures of an AHCI HBA as a driver knows them (AHCI 1.3.1), apart from the device's own."""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag

from guestsim.drivers.ata import AtaCommand
from guestsim.drivers.layouts import Layout

ABAR = 5
CLASS_AHCI = 0x0106_01

PORTS_OFFSET, PORT_STRIDE = 0x100, 0x80


class Hba(IntEnum):
    """Generic host control (AHCI 1.3.1 §3.1)."""

    CAP = 0x00
    GHC = 0x04
    IS = 0x08
    PI = 0x0C
    VS = 0x10
    CAP2 = 0x24


class Ghc(IntFlag):
    """Bits of GHC."""

    HR = 1 << 0
    IE = 1 << 1
    MRSM = 1 << 2
    AE = 1 << 31


CAP_NCQ = 1 << 30
CAP_64 = 1 << 31
CAP_CLO = 1 << 24


class PortReg(IntEnum):
    """Port registers (AHCI 1.3.1 §3.3)."""

    CLB = 0x00
    CLBU = 0x04
    FB = 0x08
    FBU = 0x0C
    IS = 0x10
    IE = 0x14
    CMD = 0x18
    TFD = 0x20
    SIG = 0x24
    SSTS = 0x28
    SCTL = 0x2C
    SERR = 0x30
    SACT = 0x34
    CI = 0x38


class Cmd(IntFlag):
    """Bits of PxCMD."""

    ST = 1 << 0
    SUD = 1 << 1
    POD = 1 << 2
    CLO = 1 << 3
    FRE = 1 << 4
    FR = 1 << 14
    CR = 1 << 15
    ATAPI = 1 << 24
    ICC_ACTIVE = 1 << 28


class PortIs(IntFlag):
    """Bits of PxIS and PxIE."""

    DHRS = 1 << 0
    PSS = 1 << 1
    DSS = 1 << 2
    SDBS = 1 << 3
    UFS = 1 << 4
    DPS = 1 << 5
    PCS = 1 << 6
    PRCS = 1 << 22
    OFS = 1 << 24
    INFS = 1 << 26
    IFS = 1 << 27
    HBDS = 1 << 28
    HBFS = 1 << 29
    TFES = 1 << 30


FATAL = PortIs.IFS | PortIs.HBDS | PortIs.HBFS | PortIs.TFES
ENABLED = FATAL | PortIs(0x7F) | PortIs.PRCS | PortIs.OFS | PortIs.INFS

SERR_CHANGES = 1 << 26 | 1 << 16
"""PxSERR: DIAG.X and DIAG.N."""

DET_PRESENT = 3
SIGNATURE_DISK = 0x0000_0101
SIGNATURE_ATAPI = 0xEB14_0101

COMMAND_LIST_SIZE, HEADER_SIZE = 0x400, 32
RECEIVED_SIZE = 0x100
TABLE_ALIGN, PRDT_OFFSET, PRD_SIZE = 0x80, 0x80, 16
ACMD_OFFSET = 0x40
MAX_PRD = 1 << 22

HEADER_WRITE, HEADER_ATAPI, HEADER_RESET, HEADER_CLEAR_BUSY = 1 << 6, 1 << 5, 1 << 8, 1 << 10

HEADER = struct.Struct("<HHIII16x")
"""Flags, PRDTL, PRDBC, CTBA, CTBAU (§4.2.2)."""
PRD = struct.Struct("<II4xI")
"""Address, its upper half, bytes less one (§4.2.3.3)."""

DMA_SETUP, PIO_SETUP, D2H, SDB = 0x00, 0x20, 0x40, 0x58
"""Where FISes are received (§4.2.1)."""

FIS_H2D, FIS_D2H, FIS_PIO_SETUP, FIS_SDB = 0x27, 0x34, 0x5F, 0xA1

D2H_FIS = Layout(
    "register device to host",
    type="B",
    flags="B",
    status="B",
    error="B",
    lba_low="H",
    lba_2="B",
    device="B",
    lba_3="H",
    lba_5="B",
    reserved="B",
    count="H",
)
"""SATA 3.x §10.5.6; PIO Setup begins alike."""


def h2d_fis(command: AtaCommand, *, control: int = 0, is_command: bool = True) -> bytes:
    """Register – Host to Device (SATA 3.x §10.5.5)."""
    lba = command.lba
    return bytes(
        (
            FIS_H2D,
            0x80 if is_command else 0,
            command.opcode,
            command.features & 0xFF,
            *(lba >> shift & 0xFF for shift in (0, 8, 16)),
            command.device,
            *(lba >> shift & 0xFF for shift in (24, 32, 40)),
            command.features >> 8,
            command.count & 0xFF,
            command.count >> 8,
            command.icc,
            control,
            *command.auxiliary.to_bytes(4, "little"),
        )
    )
