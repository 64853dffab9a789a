"""What commands return, and parameter lists."""

from __future__ import annotations

from devmodels.wire import Codec

INQUIRY = Codec.of(
    lambda c: c.Struct(
        "device" / c.BitStruct("qualifier" / c.BitsInteger(3), "device_type" / c.BitsInteger(5)),
        "removable" / c.BitStruct("rmb" / c.Flag, "lu_cong" / c.Flag, c.Padding(6)),
        "version" / c.Int8ub,
        "format"
        / c.BitStruct(
            c.Padding(2), "normaca" / c.Flag, "hisup" / c.Flag, "response_data_format" / c.BitsInteger(4)
        ),
        "additional_length" / c.Int8ub,
        "flags"
        / c.BitStruct(
            "sccs" / c.Flag,
            "acc" / c.Flag,
            "tpgs" / c.BitsInteger(2),
            "third_party_copy" / c.Flag,
            c.Padding(2),
            "protect" / c.Flag,
        ),
        "flags2"
        / c.BitStruct(c.Padding(1), "encserv" / c.Flag, "vs" / c.Flag, "multip" / c.Flag, c.Padding(4)),
        "flags3" / c.BitStruct(c.Padding(6), "cmdque" / c.Flag, "vs2" / c.Flag),
        "vendor" / c.Bytes(8),
        "product" / c.Bytes(16),
        "revision" / c.Bytes(4),
        c.Padding(20),
        c.Padding(2),
        "versions" / c.Bytes(16),
        c.Padding(22),
    )
)
"""SPC-4 §6.6.2; `versions` are eight version descriptors."""

REPORT_LUNS_HEADER = Codec.of(lambda c: c.Struct("length" / c.Int32ub, c.Padding(4)))
"""SPC-4 §6.33; LUNs of eight bytes follow."""

READ_CAPACITY_10 = Codec.of(lambda c: c.Struct("last_lba" / c.Int32ub, "block_length" / c.Int32ub))
"""SBC-4 §5.20.2."""

READ_CAPACITY_16 = Codec.of(
    lambda c: c.Struct(
        "last_lba" / c.Int64ub,
        "block_length" / c.Int32ub,
        "flags"
        / c.BitStruct(
            c.Padding(2), "rc_basis" / c.BitsInteger(2), "p_type" / c.BitsInteger(3), "prot_en" / c.Flag
        ),
        "exponents" / c.BitStruct("p_i_exponent" / c.BitsInteger(4), "physical_exponent" / c.BitsInteger(4)),
        "provisioning"
        / c.BitStruct("lbpme" / c.Flag, "lbprz" / c.Flag, "lowest_aligned" / c.BitsInteger(14)),
        c.Padding(16),
    )
)
"""SBC-4 §5.21.2."""
