"""Command descriptor blocks of block devices.

SBC-4, by the commands' names: their clauses' numbers differ from revision to revision.  What has no name is reserved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.scsi.layout.cdb import action, control, opcode
from devmodels.wire import Codec

if TYPE_CHECKING:
    from types import ModuleType

    import construct


def group(c: ModuleType) -> construct.Construct:
    """The byte of the GROUP NUMBER."""
    return "group_byte" / c.BitStruct(c.Padding(3), "group_number" / c.BitsInteger(5))


def io_flags(c: ModuleType) -> construct.Construct:
    """RDPROTECT or WRPROTECT, DPO, FUA, RARC."""
    return "flags" / c.BitStruct(
        "protect" / c.BitsInteger(3), "dpo" / c.Flag, "fua" / c.Flag, "rarc" / c.Flag, c.Padding(2)
    )


def write_flags(c: ModuleType) -> construct.Construct:
    """WRPROTECT, DPO, FUA."""
    return "flags" / c.BitStruct("protect" / c.BitsInteger(3), "dpo" / c.Flag, "fua" / c.Flag, c.Padding(3))


def _immed(c: ModuleType) -> construct.Construct:
    """IMMED of what is done to caches."""
    return "flags" / c.BitStruct(c.Padding(6), "immed" / c.Flag, c.Padding(1))


READ_6 = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        "lba_high" / c.BitStruct(c.Padding(3), "lba_20_16" / c.BitsInteger(5)),
        "lba_15_0" / c.Int16ub,
        "transfer_length" / c.Int8ub,
        control(c),
    )
)
"""SBC-3 READ (6) and WRITE (6).  A length of 0 means 256."""

READ_10 = Codec.of(
    lambda c: c.Struct(
        opcode(c), io_flags(c), "lba" / c.Int32ub, group(c), "transfer_length" / c.Int16ub, control(c)
    )
)
"""SBC-4 READ (10)."""

READ_16 = Codec.of(
    lambda c: c.Struct(
        opcode(c), io_flags(c), "lba" / c.Int64ub, "transfer_length" / c.Int32ub, group(c), control(c)
    )
)
"""SBC-4 READ (16)."""

WRITE_10 = Codec.of(
    lambda c: c.Struct(
        opcode(c), write_flags(c), "lba" / c.Int32ub, group(c), "transfer_length" / c.Int16ub, control(c)
    )
)
"""SBC-4 WRITE (10)."""

WRITE_16 = Codec.of(
    lambda c: c.Struct(
        opcode(c), write_flags(c), "lba" / c.Int64ub, "transfer_length" / c.Int32ub, group(c), control(c)
    )
)
"""SBC-4 WRITE (16)."""

READ_CAPACITY_10 = Codec.of(lambda c: c.Struct(opcode(c), c.Padding(8), control(c)))
"""SBC-4 READ CAPACITY (10)."""

READ_CAPACITY_16 = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        action(c),
        c.Padding(8),
        "allocation_length" / c.Int32ub,
        c.Padding(1),
        control(c),
    )
)
"""SBC-4 READ CAPACITY (16)."""

SYNCHRONIZE_CACHE_10 = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        _immed(c),
        "lba" / c.Int32ub,
        group(c),
        "number_of_blocks" / c.Int16ub,
        control(c),
    )
)
"""SBC-4 SYNCHRONIZE CACHE (10) and PRE-FETCH (10)."""

SYNCHRONIZE_CACHE_16 = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        _immed(c),
        "lba" / c.Int64ub,
        "number_of_blocks" / c.Int32ub,
        group(c),
        control(c),
    )
)
"""SBC-4 SYNCHRONIZE CACHE (16) and PRE-FETCH (16)."""

READ_12 = Codec.of(
    lambda c: c.Struct(
        opcode(c), io_flags(c), "lba" / c.Int32ub, "transfer_length" / c.Int32ub, group(c), control(c)
    )
)
"""SBC-4 READ (12)."""

WRITE_12 = Codec.of(
    lambda c: c.Struct(
        opcode(c), write_flags(c), "lba" / c.Int32ub, "transfer_length" / c.Int32ub, group(c), control(c)
    )
)
"""SBC-4 WRITE (12)."""


def verify_flags(c: ModuleType) -> construct.Construct:
    """VRPROTECT, DPO, BYTCHK."""
    return "flags" / c.BitStruct(
        "protect" / c.BitsInteger(3), "dpo" / c.Flag, c.Padding(1), "bytchk" / c.BitsInteger(2), c.Padding(1)
    )


VERIFY_10 = Codec.of(
    lambda c: c.Struct(
        opcode(c), verify_flags(c), "lba" / c.Int32ub, group(c), "transfer_length" / c.Int16ub, control(c)
    )
)
"""SBC-4 VERIFY (10) and WRITE AND VERIFY (10)."""

VERIFY_12 = Codec.of(
    lambda c: c.Struct(
        opcode(c), verify_flags(c), "lba" / c.Int32ub, "transfer_length" / c.Int32ub, group(c), control(c)
    )
)
"""SBC-4 VERIFY (12) and WRITE AND VERIFY (12)."""

VERIFY_16 = Codec.of(
    lambda c: c.Struct(
        opcode(c), verify_flags(c), "lba" / c.Int64ub, "transfer_length" / c.Int32ub, group(c), control(c)
    )
)
"""SBC-4 VERIFY (16) and WRITE AND VERIFY (16)."""


def write_same_flags(c: ModuleType) -> construct.Construct:
    """WRPROTECT, ANCHOR, UNMAP, NDOB."""
    return "flags" / c.BitStruct(
        "protect" / c.BitsInteger(3), "anchor" / c.Flag, "unmap" / c.Flag, c.Padding(2), "ndob" / c.Flag
    )


WRITE_SAME_10 = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        "flags"
        / c.BitStruct("protect" / c.BitsInteger(3), "anchor" / c.Flag, "unmap" / c.Flag, c.Padding(3)),
        "lba" / c.Int32ub,
        group(c),
        "number_of_blocks" / c.Int16ub,
        control(c),
    )
)
"""SBC-4 WRITE SAME (10)."""

WRITE_SAME_16 = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        write_same_flags(c),
        "lba" / c.Int64ub,
        "number_of_blocks" / c.Int32ub,
        group(c),
        control(c),
    )
)
"""SBC-4 WRITE SAME (16)."""

UNMAP = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        "flags" / c.BitStruct(c.Padding(7), "anchor" / c.Flag),
        c.Padding(4),
        group(c),
        "parameter_list_length" / c.Int16ub,
        control(c),
    )
)
"""SBC-4 UNMAP."""

GET_LBA_STATUS = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        action(c),
        "lba" / c.Int64ub,
        "allocation_length" / c.Int32ub,
        "report_type" / c.Int8ub,
        control(c),
    )
)
"""GET LBA STATUS (16), SBC-4 §5.5."""

COMPARE_AND_WRITE = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        write_flags(c),
        "lba" / c.Int64ub,
        c.Padding(3),
        "number_of_blocks" / c.Int8ub,
        group(c),
        control(c),
    )
)
"""SBC-4 COMPARE AND WRITE."""

ORWRITE_16 = Codec.of(
    lambda c: c.Struct(
        opcode(c), write_flags(c), "lba" / c.Int64ub, "transfer_length" / c.Int32ub, group(c), control(c)
    )
)
"""SBC-4 ORWRITE (16)."""

WRITE_ATOMIC_16 = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        write_flags(c),
        "lba" / c.Int64ub,
        "atomic_boundary" / c.Int16ub,
        "transfer_length" / c.Int16ub,
        group(c),
        control(c),
    )
)
"""SBC-4 WRITE ATOMIC (16)."""

START_STOP_UNIT = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        "flags" / c.BitStruct(c.Padding(7), "immed" / c.Flag),
        c.Padding(1),
        "modifier" / c.BitStruct(c.Padding(4), "power_condition_modifier" / c.BitsInteger(4)),
        "what"
        / c.BitStruct(
            "power_condition" / c.BitsInteger(4),
            c.Padding(1),
            "no_flush" / c.Flag,
            "loej" / c.Flag,
            "start" / c.Flag,
        ),
        control(c),
    )
)
"""SBC-4 START STOP UNIT."""

FORMAT_UNIT = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        "flags"
        / c.BitStruct(
            "fmtpinfo" / c.BitsInteger(2),
            "longlist" / c.Flag,
            "fmtdata" / c.Flag,
            "cmplst" / c.Flag,
            "defect_list_format" / c.BitsInteger(3),
        ),
        "vendor" / c.Int8ub,
        c.Padding(1),
        "fast" / c.BitStruct(c.Padding(6), "ffmt" / c.BitsInteger(2)),
        control(c),
    )
)
"""SBC-4 FORMAT UNIT."""

SANITIZE = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        "flags"
        / c.BitStruct("immed" / c.Flag, "znr" / c.Flag, "ause" / c.Flag, "service_action" / c.BitsInteger(5)),
        c.Padding(5),
        "parameter_list_length" / c.Int16ub,
        control(c),
    )
)
"""SBC-4 SANITIZE."""

READ_DEFECT_DATA_10 = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        c.Padding(1),
        "lists"
        / c.BitStruct(
            c.Padding(3), "req_plist" / c.Flag, "req_glist" / c.Flag, "defect_list_format" / c.BitsInteger(3)
        ),
        c.Padding(4),
        "allocation_length" / c.Int16ub,
        control(c),
    )
)
"""SBC-4 READ DEFECT DATA (10)."""

READ_DEFECT_DATA_12 = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        "lists"
        / c.BitStruct(
            c.Padding(3), "req_plist" / c.Flag, "req_glist" / c.Flag, "defect_list_format" / c.BitsInteger(3)
        ),
        "address_descriptor_index" / c.Int32ub,
        "allocation_length" / c.Int32ub,
        c.Padding(1),
        control(c),
    )
)
"""SBC-4 READ DEFECT DATA (12)."""
