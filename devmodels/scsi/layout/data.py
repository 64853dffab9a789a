"""What commands return, and parameter lists."""

from __future__ import annotations

from construct import BitsInteger, BitStruct, Bytes, Flag, Int8ub, Int32ub, Int64ub, Padding, Struct

INQUIRY = Struct(
    "device" / BitStruct("qualifier" / BitsInteger(3), "device_type" / BitsInteger(5)),
    "removable" / BitStruct("rmb" / Flag, "lu_cong" / Flag, Padding(6)),
    "version" / Int8ub,
    "format"
    / BitStruct(Padding(2), "normaca" / Flag, "hisup" / Flag, "response_data_format" / BitsInteger(4)),
    "additional_length" / Int8ub,
    "flags"
    / BitStruct(
        "sccs" / Flag,
        "acc" / Flag,
        "tpgs" / BitsInteger(2),
        "third_party_copy" / Flag,
        Padding(2),
        "protect" / Flag,
    ),
    "flags2" / BitStruct(Padding(1), "encserv" / Flag, "vs" / Flag, "multip" / Flag, Padding(4)),
    "flags3" / BitStruct(Padding(6), "cmdque" / Flag, "vs2" / Flag),
    "vendor" / Bytes(8),
    "product" / Bytes(16),
    "revision" / Bytes(4),
    Padding(20),
    Padding(2),
    "versions" / Bytes(16),
    Padding(22),
)
"""SPC-4 §6.6.2; `versions` are eight version descriptors."""

REPORT_LUNS_HEADER = Struct("length" / Int32ub, Padding(4))
"""SPC-4 §6.33; LUNs of eight bytes follow."""

READ_CAPACITY_10 = Struct("last_lba" / Int32ub, "block_length" / Int32ub)
"""SBC-4 §5.20.2."""

READ_CAPACITY_16 = Struct(
    "last_lba" / Int64ub,
    "block_length" / Int32ub,
    "flags" / BitStruct(Padding(2), "rc_basis" / BitsInteger(2), "p_type" / BitsInteger(3), "prot_en" / Flag),
    "exponents" / BitStruct("p_i_exponent" / BitsInteger(4), "physical_exponent" / BitsInteger(4)),
    "provisioning" / BitStruct("lbpme" / Flag, "lbprz" / Flag, "lowest_aligned" / BitsInteger(14)),
    Padding(16),
)
"""SBC-4 §5.21.2."""
