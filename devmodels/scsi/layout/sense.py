"""Sense data, SPC-4 §4.5."""

from __future__ import annotations

from devmodels.wire import Codec

FIXED = Codec.of(
    lambda c: c.Struct(
        "response" / c.BitStruct("valid" / c.Flag, "response_code" / c.BitsInteger(7)),
        c.Padding(1),
        "key"
        / c.BitStruct(
            "filemark" / c.Flag,
            "eom" / c.Flag,
            "ili" / c.Flag,
            "sdat_ovfl" / c.Flag,
            "sense_key" / c.BitsInteger(4),
        ),
        "information" / c.Int32ub,
        "additional_length" / c.Int8ub,
        "command_specific" / c.Int32ub,
        "code" / c.Int16ub,
        "field_replaceable_unit" / c.Int8ub,
        "key_specific" / c.Bytes(3),
    )
)
"""Fixed format, SPC-4 §4.5.3."""

DESCRIPTOR_HEADER = Codec.of(
    lambda c: c.Struct(
        "response" / c.BitStruct(c.Padding(1), "response_code" / c.BitsInteger(7)),
        "key" / c.BitStruct(c.Padding(4), "sense_key" / c.BitsInteger(4)),
        "code" / c.Int16ub,
        "flags" / c.BitStruct("sdat_ovfl" / c.Flag, c.Padding(7)),
        c.Padding(2),
        "additional_length" / c.Int8ub,
    )
)
"""Descriptor format, SPC-4 §4.5.2."""

INFORMATION = Codec.of(
    lambda c: c.Struct(
        "type" / c.Const(0x00, c.Int8ub),
        "length" / c.Const(0x0A, c.Int8ub),
        "flags" / c.BitStruct("valid" / c.Flag, c.Padding(7)),
        c.Padding(1),
        "information" / c.Int64ub,
    )
)
"""SPC-4 §4.5.2.2."""

COMMAND_SPECIFIC = Codec.of(
    lambda c: c.Struct(
        "type" / c.Const(0x01, c.Int8ub),
        "length" / c.Const(0x0A, c.Int8ub),
        c.Padding(2),
        "command_specific" / c.Int64ub,
    )
)
"""SPC-4 §4.5.2.3."""

KEY_SPECIFIC = Codec.of(
    lambda c: c.Struct(
        "type" / c.Const(0x02, c.Int8ub),
        "length" / c.Const(0x06, c.Int8ub),
        c.Padding(2),
        "key_specific" / c.Bytes(3),
        c.Padding(1),
    )
)
"""SPC-4 §4.5.2.4."""

BLOCK_COMMANDS = Codec.of(
    lambda c: c.Struct(
        "type" / c.Const(0x05, c.Int8ub),
        "length" / c.Const(0x02, c.Int8ub),
        c.Padding(1),
        "flags" / c.BitStruct(c.Padding(2), "ili" / c.Flag, c.Padding(5)),
    )
)
"""SBC-4 §4.18.2: what has no place in the descriptor format otherwise."""

FIELD_POINTER = Codec.of(
    lambda c: c.Struct(
        "flags"
        / c.BitStruct(
            "sksv" / c.Flag, "in_cdb" / c.Flag, c.Padding(2), "bpv" / c.Flag, "bit_pointer" / c.BitsInteger(3)
        ),
        "field_pointer" / c.Int16ub,
    )
)
"""Which field was wrong, SPC-4 §4.5.2.4.2."""

PROGRESS = Codec.of(
    lambda c: c.Struct("flags" / c.BitStruct("sksv" / c.Flag, c.Padding(7)), "progress" / c.Int16ub)
)
"""How far an operation is, in 65536ths, SPC-4 §4.5.2.4.4."""
