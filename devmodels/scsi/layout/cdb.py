"""Command descriptor blocks.

SPC-4 §6, SBC-4 §5; the commands that standards before those had (SPC-2, SBC-3) where hosts still send them.  What has
no name is reserved.
"""

from __future__ import annotations

from construct import BitsInteger, BitStruct, Flag, Int8ub, Int16ub, Int32ub, Int64ub, Padding, Struct

OPCODE = "opcode" / Int8ub
CONTROL = "control_byte" / BitStruct("vendor_control" / BitsInteger(2), Padding(3), "naca" / Flag, Padding(2))
"""SAM-5 §5.2; the last two bits were FLAG and LINK."""
GROUP = "group_byte" / BitStruct(Padding(3), "group_number" / BitsInteger(5))

# --- all device types

TEST_UNIT_READY = Struct(OPCODE, Padding(4), CONTROL)
"""SPC-4 §6.47."""

REQUEST_SENSE = Struct(
    OPCODE,
    "flags" / BitStruct(Padding(7), "desc" / Flag),
    Padding(2),
    "allocation_length" / Int8ub,
    CONTROL,
)
"""SPC-4 §6.39."""

INQUIRY = Struct(
    OPCODE,
    "flags" / BitStruct(Padding(7), "evpd" / Flag),
    "page_code" / Int8ub,
    "allocation_length" / Int16ub,
    CONTROL,
)
"""SPC-4 §6.6."""

MODE_SENSE_6 = Struct(
    OPCODE,
    "flags" / BitStruct(Padding(4), "dbd" / Flag, Padding(3)),
    "page" / BitStruct("page_control" / BitsInteger(2), "page_code" / BitsInteger(6)),
    "subpage_code" / Int8ub,
    "allocation_length" / Int8ub,
    CONTROL,
)
"""SPC-4 §6.14."""

MODE_SENSE_10 = Struct(
    OPCODE,
    "flags" / BitStruct(Padding(3), "llbaa" / Flag, "dbd" / Flag, Padding(3)),
    "page" / BitStruct("page_control" / BitsInteger(2), "page_code" / BitsInteger(6)),
    "subpage_code" / Int8ub,
    Padding(3),
    "allocation_length" / Int16ub,
    CONTROL,
)
"""SPC-4 §6.15."""

REPORT_LUNS = Struct(
    OPCODE,
    Padding(1),
    "select_report" / Int8ub,
    Padding(3),
    "allocation_length" / Int32ub,
    Padding(1),
    CONTROL,
)
"""SPC-4 §6.33."""

# --- block devices

IO_FLAGS = "flags" / BitStruct(
    "protect" / BitsInteger(3), "dpo" / Flag, "fua" / Flag, "rarc" / Flag, Padding(2)
)
"""RDPROTECT or WRPROTECT, DPO, FUA, RARC."""
WRITE_FLAGS = "flags" / BitStruct("protect" / BitsInteger(3), "dpo" / Flag, "fua" / Flag, Padding(3))

READ_6 = Struct(
    OPCODE,
    "lba_high" / BitStruct(Padding(3), "lba_20_16" / BitsInteger(5)),
    "lba_15_0" / Int16ub,
    "transfer_length" / Int8ub,
    CONTROL,
)
"""SBC-4 §5.15; WRITE (6) has the same, SBC-4 §5.40.  A length of 0 means 256."""

READ_10 = Struct(OPCODE, IO_FLAGS, "lba" / Int32ub, GROUP, "transfer_length" / Int16ub, CONTROL)
"""SBC-4 §5.16."""

READ_16 = Struct(OPCODE, IO_FLAGS, "lba" / Int64ub, "transfer_length" / Int32ub, GROUP, CONTROL)
"""SBC-4 §5.18."""

WRITE_10 = Struct(OPCODE, WRITE_FLAGS, "lba" / Int32ub, GROUP, "transfer_length" / Int16ub, CONTROL)
"""SBC-4 §5.41."""

WRITE_16 = Struct(OPCODE, WRITE_FLAGS, "lba" / Int64ub, "transfer_length" / Int32ub, GROUP, CONTROL)
"""SBC-4 §5.43."""

READ_CAPACITY_10 = Struct(OPCODE, Padding(8), CONTROL)
"""SBC-4 §5.20."""

READ_CAPACITY_16 = Struct(
    OPCODE,
    "action" / BitStruct(Padding(3), "service_action" / BitsInteger(5)),
    Padding(8),
    "allocation_length" / Int32ub,
    Padding(1),
    CONTROL,
)
"""SBC-4 §5.21."""

SYNCHRONIZE_CACHE_10 = Struct(
    OPCODE,
    "flags" / BitStruct(Padding(6), "immed" / Flag, Padding(1)),
    "lba" / Int32ub,
    GROUP,
    "number_of_blocks" / Int16ub,
    CONTROL,
)
"""SBC-4 §5.32."""

SYNCHRONIZE_CACHE_16 = Struct(
    OPCODE,
    "flags" / BitStruct(Padding(6), "immed" / Flag, Padding(1)),
    "lba" / Int64ub,
    "number_of_blocks" / Int32ub,
    GROUP,
    CONTROL,
)
"""SBC-4 §5.33."""
