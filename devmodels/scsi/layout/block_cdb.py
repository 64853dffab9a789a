"""Command descriptor blocks of block devices.

SBC-4, by the commands' names: their clauses' numbers differ from revision to revision.  What has no name is reserved.
"""

from __future__ import annotations

from construct import BitsInteger, BitStruct, Flag, Int8ub, Int16ub, Int32ub, Int64ub, Padding, Struct

from devmodels.scsi.layout.cdb import CONTROL, OPCODE

GROUP = "group_byte" / BitStruct(Padding(3), "group_number" / BitsInteger(5))

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
"""SBC-3 READ (6) and WRITE (6).  A length of 0 means 256."""

READ_10 = Struct(OPCODE, IO_FLAGS, "lba" / Int32ub, GROUP, "transfer_length" / Int16ub, CONTROL)
"""SBC-4 READ (10)."""

READ_16 = Struct(OPCODE, IO_FLAGS, "lba" / Int64ub, "transfer_length" / Int32ub, GROUP, CONTROL)
"""SBC-4 READ (16)."""

WRITE_10 = Struct(OPCODE, WRITE_FLAGS, "lba" / Int32ub, GROUP, "transfer_length" / Int16ub, CONTROL)
"""SBC-4 WRITE (10)."""

WRITE_16 = Struct(OPCODE, WRITE_FLAGS, "lba" / Int64ub, "transfer_length" / Int32ub, GROUP, CONTROL)
"""SBC-4 WRITE (16)."""

READ_CAPACITY_10 = Struct(OPCODE, Padding(8), CONTROL)
"""SBC-4 READ CAPACITY (10)."""

READ_CAPACITY_16 = Struct(
    OPCODE,
    "action" / BitStruct(Padding(3), "service_action" / BitsInteger(5)),
    Padding(8),
    "allocation_length" / Int32ub,
    Padding(1),
    CONTROL,
)
"""SBC-4 READ CAPACITY (16)."""

SYNCHRONIZE_CACHE_10 = Struct(
    OPCODE,
    "flags" / BitStruct(Padding(6), "immed" / Flag, Padding(1)),
    "lba" / Int32ub,
    GROUP,
    "number_of_blocks" / Int16ub,
    CONTROL,
)
"""SBC-4 SYNCHRONIZE CACHE (10)."""

SYNCHRONIZE_CACHE_16 = Struct(
    OPCODE,
    "flags" / BitStruct(Padding(6), "immed" / Flag, Padding(1)),
    "lba" / Int64ub,
    "number_of_blocks" / Int32ub,
    GROUP,
    CONTROL,
)
"""SBC-4 SYNCHRONIZE CACHE (16)."""

READ_12 = Struct(OPCODE, IO_FLAGS, "lba" / Int32ub, "transfer_length" / Int32ub, GROUP, CONTROL)
"""SBC-4 READ (12)."""

WRITE_12 = Struct(OPCODE, WRITE_FLAGS, "lba" / Int32ub, "transfer_length" / Int32ub, GROUP, CONTROL)
"""SBC-4 WRITE (12)."""

VERIFY_FLAGS = "flags" / BitStruct(
    "protect" / BitsInteger(3), "dpo" / Flag, Padding(1), "bytchk" / BitsInteger(2), Padding(1)
)

VERIFY_10 = Struct(OPCODE, VERIFY_FLAGS, "lba" / Int32ub, GROUP, "transfer_length" / Int16ub, CONTROL)
"""SBC-4 VERIFY (10) and WRITE AND VERIFY (10)."""

VERIFY_12 = Struct(OPCODE, VERIFY_FLAGS, "lba" / Int32ub, "transfer_length" / Int32ub, GROUP, CONTROL)
"""SBC-4 VERIFY (12) and WRITE AND VERIFY (12)."""

VERIFY_16 = Struct(OPCODE, VERIFY_FLAGS, "lba" / Int64ub, "transfer_length" / Int32ub, GROUP, CONTROL)
"""SBC-4 VERIFY (16) and WRITE AND VERIFY (16)."""

WRITE_SAME_FLAGS = "flags" / BitStruct(
    "protect" / BitsInteger(3), "anchor" / Flag, "unmap" / Flag, Padding(2), "ndob" / Flag
)

WRITE_SAME_10 = Struct(
    OPCODE,
    "flags" / BitStruct("protect" / BitsInteger(3), "anchor" / Flag, "unmap" / Flag, Padding(3)),
    "lba" / Int32ub,
    GROUP,
    "number_of_blocks" / Int16ub,
    CONTROL,
)
"""SBC-4 WRITE SAME (10)."""

WRITE_SAME_16 = Struct(
    OPCODE, WRITE_SAME_FLAGS, "lba" / Int64ub, "number_of_blocks" / Int32ub, GROUP, CONTROL
)
"""SBC-4 WRITE SAME (16)."""

UNMAP = Struct(
    OPCODE,
    "flags" / BitStruct(Padding(7), "anchor" / Flag),
    Padding(4),
    GROUP,
    "parameter_list_length" / Int16ub,
    CONTROL,
)
"""SBC-4 UNMAP."""

GET_LBA_STATUS = Struct(
    OPCODE,
    "action" / BitStruct(Padding(3), "service_action" / BitsInteger(5)),
    "lba" / Int64ub,
    "allocation_length" / Int32ub,
    "report_type" / Int8ub,
    CONTROL,
)
"""GET LBA STATUS (16), SBC-4 §5.5."""

COMPARE_AND_WRITE = Struct(
    OPCODE,
    WRITE_FLAGS,
    "lba" / Int64ub,
    Padding(3),
    "number_of_blocks" / Int8ub,
    GROUP,
    CONTROL,
)
"""SBC-4 COMPARE AND WRITE."""

ORWRITE_16 = Struct(OPCODE, WRITE_FLAGS, "lba" / Int64ub, "transfer_length" / Int32ub, GROUP, CONTROL)
"""SBC-4 ORWRITE (16)."""

WRITE_ATOMIC_16 = Struct(
    OPCODE,
    WRITE_FLAGS,
    "lba" / Int64ub,
    "atomic_boundary" / Int16ub,
    "transfer_length" / Int16ub,
    GROUP,
    CONTROL,
)
"""SBC-4 WRITE ATOMIC (16)."""

PREFETCH_10 = Struct(
    OPCODE,
    "flags" / BitStruct(Padding(6), "immed" / Flag, Padding(1)),
    "lba" / Int32ub,
    GROUP,
    "number_of_blocks" / Int16ub,
    CONTROL,
)
"""SBC-4 PRE-FETCH (10)."""

PREFETCH_16 = Struct(
    OPCODE,
    "flags" / BitStruct(Padding(6), "immed" / Flag, Padding(1)),
    "lba" / Int64ub,
    "number_of_blocks" / Int32ub,
    GROUP,
    CONTROL,
)
"""SBC-4 PRE-FETCH (16)."""

START_STOP_UNIT = Struct(
    OPCODE,
    "flags" / BitStruct(Padding(7), "immed" / Flag),
    Padding(1),
    "modifier" / BitStruct(Padding(4), "power_condition_modifier" / BitsInteger(4)),
    "what"
    / BitStruct(
        "power_condition" / BitsInteger(4), Padding(1), "no_flush" / Flag, "loej" / Flag, "start" / Flag
    ),
    CONTROL,
)
"""SBC-4 START STOP UNIT."""

FORMAT_UNIT = Struct(
    OPCODE,
    "flags"
    / BitStruct(
        "fmtpinfo" / BitsInteger(2),
        "longlist" / Flag,
        "fmtdata" / Flag,
        "cmplst" / Flag,
        "defect_list_format" / BitsInteger(3),
    ),
    "vendor" / Int8ub,
    Padding(1),
    "fast" / BitStruct(Padding(6), "ffmt" / BitsInteger(2)),
    CONTROL,
)
"""SBC-4 FORMAT UNIT."""

SANITIZE = Struct(
    OPCODE,
    "flags" / BitStruct("immed" / Flag, "znr" / Flag, "ause" / Flag, "service_action" / BitsInteger(5)),
    Padding(5),
    "parameter_list_length" / Int16ub,
    CONTROL,
)
"""SBC-4 SANITIZE."""

READ_DEFECT_DATA_10 = Struct(
    OPCODE,
    Padding(1),
    "lists"
    / BitStruct(Padding(3), "req_plist" / Flag, "req_glist" / Flag, "defect_list_format" / BitsInteger(3)),
    Padding(4),
    "allocation_length" / Int16ub,
    CONTROL,
)
"""SBC-4 READ DEFECT DATA (10)."""

READ_DEFECT_DATA_12 = Struct(
    OPCODE,
    "lists"
    / BitStruct(Padding(3), "req_plist" / Flag, "req_glist" / Flag, "defect_list_format" / BitsInteger(3)),
    "address_descriptor_index" / Int32ub,
    "allocation_length" / Int32ub,
    Padding(1),
    CONTROL,
)
"""SBC-4 READ DEFECT DATA (12)."""
