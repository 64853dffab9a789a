"""Parameter lists and data of reservations and of priorities, SPC-4 §6.15, §6.16, §6.34, §6.44."""

from __future__ import annotations

from devmodels.wire import Codec

KEYS_HEADER = Codec.of(lambda c: c.Struct("generation" / c.Int32ub, "length" / c.Int32ub))
"""SPC-4 §6.15.2; keys of eight bytes, or descriptors, follow."""

RESERVATION = Codec.of(
    lambda c: c.Struct(
        "key" / c.Int64ub,
        c.Padding(4),
        c.Padding(1),
        "kind" / c.BitStruct("scope" / c.BitsInteger(4), "type" / c.BitsInteger(4)),
        c.Padding(2),
    )
)
"""SPC-4 §6.15.3."""

CAPABILITIES = Codec.of(
    lambda c: c.Struct(
        "length" / c.Int16ub,
        "flags"
        / c.BitStruct(
            "rlr_c" / c.Flag,
            c.Padding(2),
            "crh" / c.Flag,
            "sip_c" / c.Flag,
            "atp_c" / c.Flag,
            c.Padding(1),
            "ptpl_c" / c.Flag,
        ),
        "flags2"
        / c.BitStruct("tmv" / c.Flag, "allow_commands" / c.BitsInteger(3), c.Padding(3), "ptpl_a" / c.Flag),
        "types"
        / c.BitStruct(
            "wr_ex_ar" / c.Flag,
            "ex_ac_ro" / c.Flag,
            "wr_ex_ro" / c.Flag,
            c.Padding(1),
            "ex_ac" / c.Flag,
            c.Padding(1),
            "wr_ex" / c.Flag,
            c.Padding(1),
            c.Padding(7),
            "ex_ac_ar" / c.Flag,
        ),
        c.Padding(2),
    )
)
"""SPC-4 §6.15.4."""

FULL_STATUS = Codec.of(
    lambda c: c.Struct(
        "key" / c.Int64ub,
        c.Padding(4),
        "flags" / c.BitStruct(c.Padding(6), "all_tg_pt" / c.Flag, "r_holder" / c.Flag),
        "kind" / c.BitStruct("scope" / c.BitsInteger(4), "type" / c.BitsInteger(4)),
        c.Padding(4),
        "relative_port" / c.Int16ub,
        "additional_length" / c.Int32ub,
    )
)
"""SPC-4 §6.15.5; a TransportID follows."""

OUT_PARAMETERS = Codec.of(
    lambda c: c.Struct(
        "reservation_key" / c.Int64ub,
        "service_action_key" / c.Int64ub,
        c.Padding(4),
        "flags"
        / c.BitStruct(
            c.Padding(4), "spec_i_pt" / c.Flag, "all_tg_pt" / c.Flag, c.Padding(1), "aptpl" / c.Flag
        ),
        c.Padding(3),
    )
)
"""SPC-4 §6.16.3."""

MOVE_PARAMETERS = Codec.of(
    lambda c: c.Struct(
        "reservation_key" / c.Int64ub,
        "service_action_key" / c.Int64ub,
        c.Padding(1),
        "flags" / c.BitStruct(c.Padding(6), "unreg" / c.Flag, "aptpl" / c.Flag),
        "relative_port" / c.Int16ub,
        "transport_id_length" / c.Int32ub,
    )
)
"""SPC-4 §6.16.4."""

PRIORITY = Codec.of(
    lambda c: c.Struct(
        "priority" / c.BitStruct(c.Padding(4), "current_priority" / c.BitsInteger(4)),
        c.Padding(1),
        "relative_port" / c.Int16ub,
        c.Padding(2),
        "additional_length" / c.Int16ub,
    )
)
"""A descriptor of REPORT PRIORITY, SPC-4 §6.34; a TransportID follows."""

SET_PRIORITY = Codec.of(
    lambda c: c.Struct(
        "priority" / c.BitStruct(c.Padding(4), "priority_to_set" / c.BitsInteger(4)),
        c.Padding(1),
        "relative_port" / c.Int16ub,
        c.Padding(2),
        "additional_length" / c.Int16ub,
    )
)
"""SPC-4 §6.44; a TransportID follows."""
