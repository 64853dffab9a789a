"""IDE as a driver knows it: registers, bits and commands (ATA/ATAPI-7 vol. 2, SFF-8038i 1.0, SFF-8020i 2.6)."""

from __future__ import annotations

from enum import IntEnum, IntFlag


class Reg(IntEnum):
    """Registers of the command block."""

    DATA = 0
    ERROR = 1
    COUNT = 2
    LBA_LOW = 3
    LBA_MID = 4
    LBA_HIGH = 5
    DEVICE = 6
    STATUS = 7


class AtaStatus(IntFlag):
    """Status."""

    ERR = 0x01
    DRQ = 0x08
    DSC = 0x10
    DF = 0x20
    DRDY = 0x40
    BSY = 0x80


class Reason(IntFlag):
    """Interrupt reason: the count register of packet commands."""

    COD = 0x01
    IO = 0x02
    REL = 0x04


class Control(IntFlag):
    """Device control."""

    NIEN = 0x02
    SRST = 0x04
    HOB = 0x80


class BusMaster(IntEnum):
    """Registers of a bus master."""

    COMMAND = 0
    STATUS = 2
    TABLE = 4


class BmStatus(IntFlag):
    """Status of a bus master."""

    ACTIVE = 0x01
    ERROR = 0x02
    INTERRUPT = 0x04


START, TO_MEMORY = 0x01, 0x08
"""Command of a bus master."""
DEV, LBA_MODE, OBSOLETE = 0x10, 0x40, 0xA0
"""Device."""
EOT = 0x8000_0000
"""Last region of a table: bit 31 of the second dword."""
REGION_BORDER = 0x1_0000

COMMAND_PORTS = (0x1F0, 0x170)
CONTROL_PORTS = (0x3F6, 0x376)
IRQS = (14, 15)
IDETIM = 0x40
IDETIM_DECODE = 0x8000
PROG_IF = 0x09
NATIVE = (0x01, 0x04)
"""Bits of the programming interface: the channel is in native mode."""

DISK_SIGNATURE, PACKET_SIGNATURE = (0x00, 0x00), (0x14, 0xEB)
"""LBA mid and high after a reset."""


class AtaCommand(IntEnum):
    """Commands that the driver itself gives."""

    DEVICE_RESET = 0x08
    READ_SECTORS = 0x20
    READ_SECTORS_EXT = 0x24
    READ_DMA_EXT = 0x25
    READ_MULTIPLE_EXT = 0x29
    WRITE_SECTORS = 0x30
    WRITE_SECTORS_EXT = 0x34
    WRITE_DMA_EXT = 0x35
    WRITE_MULTIPLE_EXT = 0x39
    EXECUTE_DEVICE_DIAGNOSTIC = 0x90
    PACKET = 0xA0
    IDENTIFY_PACKET_DEVICE = 0xA1
    READ_MULTIPLE = 0xC4
    WRITE_MULTIPLE = 0xC5
    SET_MULTIPLE_MODE = 0xC6
    READ_DMA = 0xC8
    WRITE_DMA = 0xCA
    FLUSH_CACHE = 0xE7
    FLUSH_CACHE_EXT = 0xEA
    IDENTIFY_DEVICE = 0xEC
    SET_FEATURES = 0xEF
