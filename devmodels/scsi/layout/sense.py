"""Sense data, SPC-4 §4.5."""

from __future__ import annotations

from construct import (
    BitsInteger,
    BitStruct,
    Bytes,
    Const,
    Flag,
    Int8ub,
    Int16ub,
    Int32ub,
    Int64ub,
    Padding,
    Struct,
)

FIXED = Struct(
    "response" / BitStruct("valid" / Flag, "response_code" / BitsInteger(7)),
    Padding(1),
    "key"
    / BitStruct(
        "filemark" / Flag, "eom" / Flag, "ili" / Flag, "sdat_ovfl" / Flag, "sense_key" / BitsInteger(4)
    ),
    "information" / Int32ub,
    "additional_length" / Int8ub,
    "command_specific" / Int32ub,
    "code" / Int16ub,
    "field_replaceable_unit" / Int8ub,
    "key_specific" / Bytes(3),
)
"""Fixed format, SPC-4 §4.5.3."""

DESCRIPTOR_HEADER = Struct(
    "response" / BitStruct(Padding(1), "response_code" / BitsInteger(7)),
    "key" / BitStruct(Padding(4), "sense_key" / BitsInteger(4)),
    "code" / Int16ub,
    "flags" / BitStruct("sdat_ovfl" / Flag, Padding(7)),
    Padding(2),
    "additional_length" / Int8ub,
)
"""Descriptor format, SPC-4 §4.5.2."""

INFORMATION = Struct(
    "type" / Const(0x00, Int8ub),
    "length" / Const(0x0A, Int8ub),
    "flags" / BitStruct("valid" / Flag, Padding(7)),
    Padding(1),
    "information" / Int64ub,
)
"""SPC-4 §4.5.2.2."""

COMMAND_SPECIFIC = Struct(
    "type" / Const(0x01, Int8ub),
    "length" / Const(0x0A, Int8ub),
    Padding(2),
    "command_specific" / Int64ub,
)
"""SPC-4 §4.5.2.3."""

KEY_SPECIFIC = Struct(
    "type" / Const(0x02, Int8ub),
    "length" / Const(0x06, Int8ub),
    Padding(2),
    "key_specific" / Bytes(3),
    Padding(1),
)
"""SPC-4 §4.5.2.4."""

BLOCK_COMMANDS = Struct(
    "type" / Const(0x05, Int8ub),
    "length" / Const(0x02, Int8ub),
    Padding(1),
    "flags" / BitStruct(Padding(2), "ili" / Flag, Padding(5)),
)
"""SBC-4 §4.18.2: what has no place in the descriptor format otherwise."""

FIELD_POINTER = Struct(
    "flags"
    / BitStruct("sksv" / Flag, "in_cdb" / Flag, Padding(2), "bpv" / Flag, "bit_pointer" / BitsInteger(3)),
    "field_pointer" / Int16ub,
)
"""Which field was wrong, SPC-4 §4.5.2.4.2."""

PROGRESS = Struct("flags" / BitStruct("sksv" / Flag, Padding(7)), "progress" / Int16ub)
"""How far an operation is, in 65536ths, SPC-4 §4.5.2.4.4."""
