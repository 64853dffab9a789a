"""Parameter lists and data of reservations and of priorities, SPC-4 §6.15, §6.16, §6.34, §6.44."""

from __future__ import annotations

from construct import BitsInteger, BitStruct, Flag, Int16ub, Int32ub, Int64ub, Padding, Struct

KEYS_HEADER = Struct("generation" / Int32ub, "length" / Int32ub)
"""SPC-4 §6.15.2; keys of eight bytes, or descriptors, follow."""

RESERVATION = Struct(
    "key" / Int64ub,
    Padding(4),
    Padding(1),
    "kind" / BitStruct("scope" / BitsInteger(4), "type" / BitsInteger(4)),
    Padding(2),
)
"""SPC-4 §6.15.3."""

CAPABILITIES = Struct(
    "length" / Int16ub,
    "flags"
    / BitStruct(
        "rlr_c" / Flag,
        Padding(2),
        "crh" / Flag,
        "sip_c" / Flag,
        "atp_c" / Flag,
        Padding(1),
        "ptpl_c" / Flag,
    ),
    "flags2" / BitStruct("tmv" / Flag, "allow_commands" / BitsInteger(3), Padding(3), "ptpl_a" / Flag),
    "types"
    / BitStruct(
        "wr_ex_ar" / Flag,
        "ex_ac_ro" / Flag,
        "wr_ex_ro" / Flag,
        Padding(1),
        "ex_ac" / Flag,
        Padding(1),
        "wr_ex" / Flag,
        Padding(1),
        Padding(7),
        "ex_ac_ar" / Flag,
    ),
    Padding(2),
)
"""SPC-4 §6.15.4."""

FULL_STATUS = Struct(
    "key" / Int64ub,
    Padding(4),
    "flags" / BitStruct(Padding(6), "all_tg_pt" / Flag, "r_holder" / Flag),
    "kind" / BitStruct("scope" / BitsInteger(4), "type" / BitsInteger(4)),
    Padding(4),
    "relative_port" / Int16ub,
    "additional_length" / Int32ub,
)
"""SPC-4 §6.15.5; a TransportID follows."""

OUT_PARAMETERS = Struct(
    "reservation_key" / Int64ub,
    "service_action_key" / Int64ub,
    Padding(4),
    "flags" / BitStruct(Padding(4), "spec_i_pt" / Flag, "all_tg_pt" / Flag, Padding(1), "aptpl" / Flag),
    Padding(3),
)
"""SPC-4 §6.16.3."""

MOVE_PARAMETERS = Struct(
    "reservation_key" / Int64ub,
    "service_action_key" / Int64ub,
    Padding(1),
    "flags" / BitStruct(Padding(6), "unreg" / Flag, "aptpl" / Flag),
    "relative_port" / Int16ub,
    "transport_id_length" / Int32ub,
)
"""SPC-4 §6.16.4."""

PRIORITY = Struct(
    "priority" / BitStruct(Padding(4), "current_priority" / BitsInteger(4)),
    Padding(1),
    "relative_port" / Int16ub,
    Padding(2),
    "additional_length" / Int16ub,
)
"""A descriptor of REPORT PRIORITY, SPC-4 §6.34; a TransportID follows."""

SET_PRIORITY = Struct(
    "priority" / BitStruct(Padding(4), "priority_to_set" / BitsInteger(4)),
    Padding(1),
    "relative_port" / Int16ub,
    Padding(2),
    "additional_length" / Int16ub,
)
"""SPC-4 §6.44; a TransportID follows."""
