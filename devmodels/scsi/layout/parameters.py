"""Parameter lists and data of block devices, and of what reports on commands (SBC-4, SPC-4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.wire import Codec

if TYPE_CHECKING:
    from types import ModuleType

    import construct

UNMAP_HEADER = Codec.of(
    lambda c: c.Struct("data_length" / c.Int16ub, "descriptors_length" / c.Int16ub, c.Padding(4))
)
"""SBC-4 UNMAP."""

UNMAP_DESCRIPTOR = Codec.of(
    lambda c: c.Struct("lba" / c.Int64ub, "number_of_blocks" / c.Int32ub, c.Padding(4))
)
"""SBC-4 UNMAP."""

LBA_STATUS_HEADER = Codec.of(lambda c: c.Struct("length" / c.Int32ub, c.Padding(4)))
"""SBC-4 GET LBA STATUS."""

LBA_STATUS_DESCRIPTOR = Codec.of(
    lambda c: c.Struct(
        "lba" / c.Int64ub,
        "number_of_blocks" / c.Int32ub,
        "status" / c.BitStruct(c.Padding(4), "provisioning" / c.BitsInteger(4)),
        c.Padding(3),
    )
)
"""SBC-4 GET LBA STATUS."""

OVERWRITE = Codec.of(
    lambda c: c.Struct(
        "how"
        / c.BitStruct("invert" / c.Flag, "test" / c.BitsInteger(2), "overwrite_count" / c.BitsInteger(5)),
        c.Padding(1),
        "pattern_length" / c.Int16ub,
    )
)
"""SBC-4 SANITIZE, OVERWRITE; the pattern follows."""


def _format_options(c: ModuleType) -> tuple[construct.Construct, ...]:
    """What both parameter list headers begin with."""
    return (
        "usage" / c.BitStruct(c.Padding(5), "protection_field_usage" / c.BitsInteger(3)),
        "options"
        / c.BitStruct(
            "fov" / c.Flag,
            "dpry" / c.Flag,
            "dcrt" / c.Flag,
            "stpf" / c.Flag,
            "ip" / c.Flag,
            "obsolete" / c.Flag,
            "immed" / c.Flag,
            "vendor" / c.Flag,
        ),
    )


FORMAT_HEADER_SHORT = Codec.of(
    lambda c: c.Struct(
        *_format_options(c),
        "defect_list_length" / c.Int16ub,
    )
)
"""SBC-4 FORMAT UNIT."""

FORMAT_HEADER_LONG = Codec.of(
    lambda c: c.Struct(
        *_format_options(c),
        c.Padding(1),
        "exponents"
        / c.BitStruct("p_i_information" / c.BitsInteger(4), "protection_interval" / c.BitsInteger(4)),
        "defect_list_length" / c.Int32ub,
    )
)
"""SBC-4 FORMAT UNIT."""

INITIALIZATION_PATTERN = Codec.of(
    lambda c: c.Struct(
        "modifier" / c.BitStruct("obsolete_modifier" / c.BitsInteger(2), "si" / c.Flag, c.Padding(5)),
        "pattern_type" / c.Int8ub,
        "pattern_length" / c.Int16ub,
    )
)
"""SBC-4 FORMAT UNIT; the pattern follows."""

DEFECTS_10 = Codec.of(
    lambda c: c.Struct(
        c.Padding(1),
        "lists"
        / c.BitStruct(
            c.Padding(3), "plistv" / c.Flag, "glistv" / c.Flag, "defect_list_format" / c.BitsInteger(3)
        ),
        "length" / c.Int16ub,
    )
)
"""SBC-4 READ DEFECT DATA (10)."""

DEFECTS_12 = Codec.of(
    lambda c: c.Struct(
        c.Padding(1),
        "lists"
        / c.BitStruct(
            c.Padding(3), "plistv" / c.Flag, "glistv" / c.Flag, "defect_list_format" / c.BitsInteger(3)
        ),
        "generation" / c.Int16ub,
        "length" / c.Int32ub,
    )
)
"""SBC-4 READ DEFECT DATA (12)."""

ALL_COMMANDS_HEADER = Codec.of(lambda c: c.Struct("length" / c.Int32ub))
"""SPC-4 §6.35.2."""

COMMAND_DESCRIPTOR = Codec.of(
    lambda c: c.Struct(
        "operation_code" / c.Int8ub,
        c.Padding(1),
        "service_action" / c.Int16ub,
        c.Padding(1),
        "flags" / c.BitStruct(c.Padding(6), "ctdp" / c.Flag, "servactv" / c.Flag),
        "cdb_length" / c.Int16ub,
    )
)
"""SPC-4 §6.35.2."""

ONE_COMMAND_HEADER = Codec.of(
    lambda c: c.Struct(
        c.Padding(1),
        "flags" / c.BitStruct("ctdp" / c.Flag, c.Padding(4), "support" / c.BitsInteger(3)),
        "cdb_size" / c.Int16ub,
    )
)
"""SPC-4 §6.35.3; the usage data follows."""

TIMEOUTS = Codec.of(
    lambda c: c.Struct(
        "descriptor_length" / c.Int16ub,
        c.Padding(1),
        "command_specific" / c.Int8ub,
        "nominal" / c.Int32ub,
        "recommended" / c.Int32ub,
    )
)
"""SPC-4 §6.35.4, in seconds."""

FUNCTIONS = Codec.of(
    lambda c: c.Struct(
        "functions"
        / c.BitStruct(
            "ats" / c.Flag,
            "atss" / c.Flag,
            "cacas" / c.Flag,
            "ctss" / c.Flag,
            "lurs" / c.Flag,
            "qts" / c.Flag,
            "trs" / c.Flag,
            "wakes" / c.Flag,
        ),
        "functions2" / c.BitStruct(c.Padding(5), "qaes" / c.Flag, "qtss" / c.Flag, "itnrs" / c.Flag),
        c.Padding(1),
        "additional_length" / c.Int8ub,
    )
)
"""SPC-4 §6.36."""

LOG_HEADER = Codec.of(
    lambda c: c.Struct(
        "page" / c.BitStruct("ds" / c.Flag, "spf" / c.Flag, "page_code" / c.BitsInteger(6)),
        "subpage_code" / c.Int8ub,
        "length" / c.Int16ub,
    )
)
"""SPC-4 §7.3.2."""

LOG_PARAMETER = Codec.of(
    lambda c: c.Struct(
        "code" / c.Int16ub,
        "control"
        / c.BitStruct(
            "du" / c.Flag,
            c.Padding(1),
            "tsd" / c.Flag,
            "etc" / c.Flag,
            "tmc" / c.BitsInteger(2),
            "format_and_linking" / c.BitsInteger(2),
        ),
        "length" / c.Int8ub,
    )
)
"""SPC-4 §7.3.2.2."""

BUFFER_DESCRIPTOR = Codec.of(
    lambda c: c.Struct("offset_boundary" / c.Int8ub, "capacity_23_16" / c.Int8ub, "capacity_15_0" / c.Int16ub)
)
"""SPC-4 §6.18.5."""

ECHO_DESCRIPTOR = Codec.of(
    lambda c: c.Struct(
        "flags" / c.BitStruct(c.Padding(7), "ebos" / c.Flag), c.Padding(1), "capacity" / c.Int16ub
    )
)
"""SPC-4 §6.18.9; the capacity has 13 bits."""
