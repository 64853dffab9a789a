"""Parameter lists and data of block devices, and of what reports on commands (SBC-4, SPC-4)."""

from __future__ import annotations

from construct import BitsInteger, BitStruct, Flag, Int8ub, Int16ub, Int32ub, Int64ub, Padding, Struct

UNMAP_HEADER = Struct("data_length" / Int16ub, "descriptors_length" / Int16ub, Padding(4))
"""SBC-4 UNMAP."""

UNMAP_DESCRIPTOR = Struct("lba" / Int64ub, "number_of_blocks" / Int32ub, Padding(4))
"""SBC-4 UNMAP."""

LBA_STATUS_HEADER = Struct("length" / Int32ub, Padding(4))
"""SBC-4 GET LBA STATUS."""

LBA_STATUS_DESCRIPTOR = Struct(
    "lba" / Int64ub,
    "number_of_blocks" / Int32ub,
    "status" / BitStruct(Padding(4), "provisioning" / BitsInteger(4)),
    Padding(3),
)
"""SBC-4 GET LBA STATUS."""

OVERWRITE = Struct(
    "how" / BitStruct("invert" / Flag, "test" / BitsInteger(2), "overwrite_count" / BitsInteger(5)),
    Padding(1),
    "pattern_length" / Int16ub,
)
"""SBC-4 SANITIZE, OVERWRITE; the pattern follows."""

FORMAT_HEADER_SHORT = Struct(
    "usage" / BitStruct(Padding(5), "protection_field_usage" / BitsInteger(3)),
    "options"
    / BitStruct(
        "fov" / Flag,
        "dpry" / Flag,
        "dcrt" / Flag,
        "stpf" / Flag,
        "ip" / Flag,
        "obsolete" / Flag,
        "immed" / Flag,
        "vendor" / Flag,
    ),
    "defect_list_length" / Int16ub,
)
"""SBC-4 FORMAT UNIT."""

FORMAT_HEADER_LONG = Struct(
    "usage" / BitStruct(Padding(5), "protection_field_usage" / BitsInteger(3)),
    "options"
    / BitStruct(
        "fov" / Flag,
        "dpry" / Flag,
        "dcrt" / Flag,
        "stpf" / Flag,
        "ip" / Flag,
        "obsolete" / Flag,
        "immed" / Flag,
        "vendor" / Flag,
    ),
    Padding(1),
    "exponents" / BitStruct("p_i_information" / BitsInteger(4), "protection_interval" / BitsInteger(4)),
    "defect_list_length" / Int32ub,
)
"""SBC-4 FORMAT UNIT."""

INITIALIZATION_PATTERN = Struct(
    "modifier" / BitStruct("obsolete_modifier" / BitsInteger(2), "si" / Flag, Padding(5)),
    "pattern_type" / Int8ub,
    "pattern_length" / Int16ub,
)
"""SBC-4 FORMAT UNIT; the pattern follows."""

DEFECTS_10 = Struct(
    Padding(1),
    "lists" / BitStruct(Padding(3), "plistv" / Flag, "glistv" / Flag, "defect_list_format" / BitsInteger(3)),
    "length" / Int16ub,
)
"""SBC-4 READ DEFECT DATA (10)."""

DEFECTS_12 = Struct(
    Padding(1),
    "lists" / BitStruct(Padding(3), "plistv" / Flag, "glistv" / Flag, "defect_list_format" / BitsInteger(3)),
    "generation" / Int16ub,
    "length" / Int32ub,
)
"""SBC-4 READ DEFECT DATA (12)."""

ALL_COMMANDS_HEADER = Struct("length" / Int32ub)
"""SPC-4 §6.35.2."""

COMMAND_DESCRIPTOR = Struct(
    "operation_code" / Int8ub,
    Padding(1),
    "service_action" / Int16ub,
    Padding(1),
    "flags" / BitStruct(Padding(6), "ctdp" / Flag, "servactv" / Flag),
    "cdb_length" / Int16ub,
)
"""SPC-4 §6.35.2."""

ONE_COMMAND_HEADER = Struct(
    Padding(1),
    "flags" / BitStruct("ctdp" / Flag, Padding(4), "support" / BitsInteger(3)),
    "cdb_size" / Int16ub,
)
"""SPC-4 §6.35.3; the usage data follows."""

TIMEOUTS = Struct(
    "descriptor_length" / Int16ub,
    Padding(1),
    "command_specific" / Int8ub,
    "nominal" / Int32ub,
    "recommended" / Int32ub,
)
"""SPC-4 §6.35.4, in seconds."""

FUNCTIONS = Struct(
    "functions"
    / BitStruct(
        "ats" / Flag,
        "atss" / Flag,
        "cacas" / Flag,
        "ctss" / Flag,
        "lurs" / Flag,
        "qts" / Flag,
        "trs" / Flag,
        "wakes" / Flag,
    ),
    "functions2" / BitStruct(Padding(5), "qaes" / Flag, "qtss" / Flag, "itnrs" / Flag),
    Padding(1),
    "additional_length" / Int8ub,
)
"""SPC-4 §6.36."""

LOG_HEADER = Struct(
    "page" / BitStruct("ds" / Flag, "spf" / Flag, "page_code" / BitsInteger(6)),
    "subpage_code" / Int8ub,
    "length" / Int16ub,
)
"""SPC-4 §7.3.2."""

LOG_PARAMETER = Struct(
    "code" / Int16ub,
    "control"
    / BitStruct(
        "du" / Flag,
        Padding(1),
        "tsd" / Flag,
        "etc" / Flag,
        "tmc" / BitsInteger(2),
        "format_and_linking" / BitsInteger(2),
    ),
    "length" / Int8ub,
)
"""SPC-4 §7.3.2.2."""

BUFFER_DESCRIPTOR = Struct("offset_boundary" / Int8ub, "capacity_23_16" / Int8ub, "capacity_15_0" / Int16ub)
"""SPC-4 §6.18.5."""

ECHO_DESCRIPTOR = Struct("flags" / BitStruct(Padding(7), "ebos" / Flag), Padding(1), "capacity" / Int16ub)
"""SPC-4 §6.18.9; the capacity has 13 bits."""
