"""Vital product data, SPC-4 §7.8 and SBC-4 §6.6."""

from __future__ import annotations

from construct import BitsInteger, BitStruct, Flag, Int8ub, Int16ub, Int32ub, Int64ub, Padding, Struct

HEADER = Struct(
    "device" / BitStruct("qualifier" / BitsInteger(3), "device_type" / BitsInteger(5)),
    "page_code" / Int8ub,
    "page_length" / Int16ub,
)
"""SPC-4 §7.8.1."""

DESIGNATOR = Struct(
    "code" / BitStruct("protocol" / BitsInteger(4), "code_set" / BitsInteger(4)),
    "kind"
    / BitStruct("piv" / Flag, Padding(1), "association" / BitsInteger(2), "designator_type" / BitsInteger(4)),
    Padding(1),
    "designator_length" / Int8ub,
)
"""SPC-4 §7.8.6.1; the designator follows."""

EXTENDED_INQUIRY = Struct(
    "protection"
    / BitStruct(
        "activate_microcode" / BitsInteger(2),
        "spt" / BitsInteger(3),
        "grd_chk" / Flag,
        "app_chk" / Flag,
        "ref_chk" / Flag,
    ),
    "support"
    / BitStruct(
        Padding(2),
        "uask_sup" / Flag,
        "group_sup" / Flag,
        "prior_sup" / Flag,
        "headsup" / Flag,
        "ordsup" / Flag,
        "simpsup" / Flag,
    ),
    "cache" / BitStruct(Padding(4), "wu_sup" / Flag, "crd_sup" / Flag, "nv_sup" / Flag, "v_sup" / Flag),
    "nexus" / BitStruct(Padding(3), "p_i_i_sup" / Flag, Padding(3), "luiclr" / Flag),
    "referrals" / BitStruct(Padding(3), "r_sup" / Flag, Padding(3), "cbcs" / Flag),
    "multi" / BitStruct(Padding(4), "multi_it_nexus_microcode" / BitsInteger(4)),
    "extended_self_test_minutes" / Int16ub,
    "poa" / BitStruct("poa_sup" / Flag, "hra_sup" / Flag, "vsa_sup" / Flag, Padding(5)),
    "maximum_sense_data_length" / Int8ub,
    Padding(50),
)
"""Page 86h, SPC-4 §7.8.7."""

BLOCK_LIMITS = Struct(
    "flags" / BitStruct(Padding(7), "wsnz" / Flag),
    "maximum_compare_and_write" / Int8ub,
    "optimal_granularity" / Int16ub,
    "maximum_transfer" / Int32ub,
    "optimal_transfer" / Int32ub,
    "maximum_prefetch" / Int32ub,
    "maximum_unmap_blocks" / Int32ub,
    "maximum_unmap_descriptors" / Int32ub,
    "optimal_unmap_granularity" / Int32ub,
    "unmap_alignment" / BitStruct("ugavalid" / Flag, "unmap_granularity_alignment" / BitsInteger(31)),
    "maximum_write_same" / Int64ub,
    "maximum_atomic_transfer" / Int32ub,
    "atomic_alignment" / Int32ub,
    "atomic_granularity" / Int32ub,
    "maximum_atomic_with_boundary" / Int32ub,
    "maximum_atomic_boundary" / Int32ub,
)
"""Page B0h, SBC-4 §6.6.4."""

BLOCK_CHARACTERISTICS = Struct(
    "medium_rotation_rate" / Int16ub,
    "product_type" / Int8ub,
    "form"
    / BitStruct("wabereq" / BitsInteger(2), "wacereq" / BitsInteger(2), "form_factor" / BitsInteger(4)),
    "flags"
    / BitStruct(
        Padding(2), "zoned" / BitsInteger(2), Padding(1), "bocs" / Flag, "fuab" / Flag, "vbuls" / Flag
    ),
    Padding(55),
)
"""Page B1h, SBC-4 §6.6.2."""

PROVISIONING = Struct(
    "threshold_exponent" / Int8ub,
    "flags"
    / BitStruct(
        "lbpu" / Flag,
        "lbpws" / Flag,
        "lbpws10" / Flag,
        "lbprz" / BitsInteger(3),
        "anc_sup" / Flag,
        "dp" / Flag,
    ),
    "kind" / BitStruct("minimum_percentage" / BitsInteger(5), "provisioning_type" / BitsInteger(3)),
    "threshold_percentage" / Int8ub,
)
"""Page B2h, SBC-4 §6.6.5; a provisioning group descriptor may follow."""
