"""Vital product data, SPC-4 §7.8 and SBC-4 §6.6."""

from __future__ import annotations

from devmodels.wire import Codec

HEADER = Codec.of(
    lambda c: c.Struct(
        "device" / c.BitStruct("qualifier" / c.BitsInteger(3), "device_type" / c.BitsInteger(5)),
        "page_code" / c.Int8ub,
        "page_length" / c.Int16ub,
    )
)
"""SPC-4 §7.8.1."""

DESIGNATOR = Codec.of(
    lambda c: c.Struct(
        "code" / c.BitStruct("protocol" / c.BitsInteger(4), "code_set" / c.BitsInteger(4)),
        "kind"
        / c.BitStruct(
            "piv" / c.Flag,
            c.Padding(1),
            "association" / c.BitsInteger(2),
            "designator_type" / c.BitsInteger(4),
        ),
        c.Padding(1),
        "designator_length" / c.Int8ub,
    )
)
"""SPC-4 §7.8.6.1; the designator follows."""

EXTENDED_INQUIRY = Codec.of(
    lambda c: c.Struct(
        "protection"
        / c.BitStruct(
            "activate_microcode" / c.BitsInteger(2),
            "spt" / c.BitsInteger(3),
            "grd_chk" / c.Flag,
            "app_chk" / c.Flag,
            "ref_chk" / c.Flag,
        ),
        "support"
        / c.BitStruct(
            c.Padding(2),
            "uask_sup" / c.Flag,
            "group_sup" / c.Flag,
            "prior_sup" / c.Flag,
            "headsup" / c.Flag,
            "ordsup" / c.Flag,
            "simpsup" / c.Flag,
        ),
        "cache"
        / c.BitStruct(
            c.Padding(4), "wu_sup" / c.Flag, "crd_sup" / c.Flag, "nv_sup" / c.Flag, "v_sup" / c.Flag
        ),
        "nexus" / c.BitStruct(c.Padding(3), "p_i_i_sup" / c.Flag, c.Padding(3), "luiclr" / c.Flag),
        "referrals" / c.BitStruct(c.Padding(3), "r_sup" / c.Flag, c.Padding(3), "cbcs" / c.Flag),
        "multi" / c.BitStruct(c.Padding(4), "multi_it_nexus_microcode" / c.BitsInteger(4)),
        "extended_self_test_minutes" / c.Int16ub,
        "poa" / c.BitStruct("poa_sup" / c.Flag, "hra_sup" / c.Flag, "vsa_sup" / c.Flag, c.Padding(5)),
        "maximum_sense_data_length" / c.Int8ub,
        c.Padding(50),
    )
)
"""Page 86h, SPC-4 §7.8.7."""

BLOCK_LIMITS = Codec.of(
    lambda c: c.Struct(
        "flags" / c.BitStruct(c.Padding(7), "wsnz" / c.Flag),
        "maximum_compare_and_write" / c.Int8ub,
        "optimal_granularity" / c.Int16ub,
        "maximum_transfer" / c.Int32ub,
        "optimal_transfer" / c.Int32ub,
        "maximum_prefetch" / c.Int32ub,
        "maximum_unmap_blocks" / c.Int32ub,
        "maximum_unmap_descriptors" / c.Int32ub,
        "optimal_unmap_granularity" / c.Int32ub,
        "unmap_alignment"
        / c.BitStruct("ugavalid" / c.Flag, "unmap_granularity_alignment" / c.BitsInteger(31)),
        "maximum_write_same" / c.Int64ub,
        "maximum_atomic_transfer" / c.Int32ub,
        "atomic_alignment" / c.Int32ub,
        "atomic_granularity" / c.Int32ub,
        "maximum_atomic_with_boundary" / c.Int32ub,
        "maximum_atomic_boundary" / c.Int32ub,
    )
)
"""Page B0h, SBC-4 §6.6.4."""

BLOCK_CHARACTERISTICS = Codec.of(
    lambda c: c.Struct(
        "medium_rotation_rate" / c.Int16ub,
        "product_type" / c.Int8ub,
        "form"
        / c.BitStruct(
            "wabereq" / c.BitsInteger(2), "wacereq" / c.BitsInteger(2), "form_factor" / c.BitsInteger(4)
        ),
        "flags"
        / c.BitStruct(
            c.Padding(2),
            "zoned" / c.BitsInteger(2),
            c.Padding(1),
            "bocs" / c.Flag,
            "fuab" / c.Flag,
            "vbuls" / c.Flag,
        ),
        c.Padding(55),
    )
)
"""Page B1h, SBC-4 §6.6.2."""

PROVISIONING = Codec.of(
    lambda c: c.Struct(
        "threshold_exponent" / c.Int8ub,
        "flags"
        / c.BitStruct(
            "lbpu" / c.Flag,
            "lbpws" / c.Flag,
            "lbpws10" / c.Flag,
            "lbprz" / c.BitsInteger(3),
            "anc_sup" / c.Flag,
            "dp" / c.Flag,
        ),
        "kind" / c.BitStruct("minimum_percentage" / c.BitsInteger(5), "provisioning_type" / c.BitsInteger(3)),
        "threshold_percentage" / c.Int8ub,
    )
)
"""Page B2h, SBC-4 §6.6.5; a provisioning group descriptor may follow."""
