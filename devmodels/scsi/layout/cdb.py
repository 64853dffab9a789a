"""Command descriptor blocks of all device types.

SPC-4 §6; the commands that standards before had (SPC-2) where hosts still send them.  What has
no name is reserved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.wire import Codec

if TYPE_CHECKING:
    from types import ModuleType

    import construct


def opcode(c: ModuleType) -> construct.Construct:
    """The first byte of every CDB."""
    return "opcode" / c.Int8ub


def action(c: ModuleType) -> construct.Construct:
    """The byte of the SERVICE ACTION."""
    return "action" / c.BitStruct(c.Padding(3), "service_action" / c.BitsInteger(5))


def control(c: ModuleType) -> construct.Construct:
    """SAM-5 §5.2; the last two bits were FLAG and LINK."""
    return "control_byte" / c.BitStruct(
        "vendor_control" / c.BitsInteger(2), c.Padding(3), "naca" / c.Flag, c.Padding(2)
    )


TEST_UNIT_READY = Codec.of(lambda c: c.Struct(opcode(c), c.Padding(4), control(c)))
"""SPC-4 §6.47."""

REQUEST_SENSE = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        "flags" / c.BitStruct(c.Padding(7), "desc" / c.Flag),
        c.Padding(2),
        "allocation_length" / c.Int8ub,
        control(c),
    )
)
"""SPC-4 §6.39."""

INQUIRY = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        "flags" / c.BitStruct(c.Padding(7), "evpd" / c.Flag),
        "page_code" / c.Int8ub,
        "allocation_length" / c.Int16ub,
        control(c),
    )
)
"""SPC-4 §6.6."""

MODE_SENSE_6 = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        "flags" / c.BitStruct(c.Padding(4), "dbd" / c.Flag, c.Padding(3)),
        "page" / c.BitStruct("page_control" / c.BitsInteger(2), "page_code" / c.BitsInteger(6)),
        "subpage_code" / c.Int8ub,
        "allocation_length" / c.Int8ub,
        control(c),
    )
)
"""SPC-4 §6.13."""

MODE_SENSE_10 = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        "flags" / c.BitStruct(c.Padding(3), "llbaa" / c.Flag, "dbd" / c.Flag, c.Padding(3)),
        "page" / c.BitStruct("page_control" / c.BitsInteger(2), "page_code" / c.BitsInteger(6)),
        "subpage_code" / c.Int8ub,
        c.Padding(3),
        "allocation_length" / c.Int16ub,
        control(c),
    )
)
"""SPC-4 §6.14."""

REPORT_LUNS = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        c.Padding(1),
        "select_report" / c.Int8ub,
        c.Padding(3),
        "allocation_length" / c.Int32ub,
        c.Padding(1),
        control(c),
    )
)
"""SPC-4 §6.33."""

MODE_SELECT_6 = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        "flags" / c.BitStruct(c.Padding(3), "pf" / c.Flag, c.Padding(3), "sp" / c.Flag),
        c.Padding(2),
        "parameter_list_length" / c.Int8ub,
        control(c),
    )
)
"""SPC-4 §6.11."""

MODE_SELECT_10 = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        "flags" / c.BitStruct(c.Padding(3), "pf" / c.Flag, c.Padding(3), "sp" / c.Flag),
        c.Padding(5),
        "parameter_list_length" / c.Int16ub,
        control(c),
    )
)
"""SPC-4 §6.12."""

LOG_SENSE = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        "flags" / c.BitStruct(c.Padding(6), "ppc" / c.Flag, "sp" / c.Flag),
        "page" / c.BitStruct("page_control" / c.BitsInteger(2), "page_code" / c.BitsInteger(6)),
        "subpage_code" / c.Int8ub,
        c.Padding(1),
        "parameter_pointer" / c.Int16ub,
        "allocation_length" / c.Int16ub,
        control(c),
    )
)
"""SPC-4 §6.8."""

READ_BUFFER = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        "mode_byte" / c.BitStruct("mode_specific" / c.BitsInteger(3), "mode" / c.BitsInteger(5)),
        "buffer_id" / c.Int8ub,
        "offset_23_16" / c.Int8ub,
        "offset_15_0" / c.Int16ub,
        "length_23_16" / c.Int8ub,
        "length_15_0" / c.Int16ub,
        control(c),
    )
)
"""SPC-4 §6.18; WRITE BUFFER has the same, SPC-4 §6.49."""

SEND_DIAGNOSTIC = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        "flags"
        / c.BitStruct(
            "self_test_code" / c.BitsInteger(3),
            "pf" / c.Flag,
            c.Padding(1),
            "self_test" / c.Flag,
            "devoffl" / c.Flag,
            "unitoffl" / c.Flag,
        ),
        c.Padding(1),
        "parameter_list_length" / c.Int16ub,
        control(c),
    )
)
"""SPC-4 §6.42."""

REPORT_OPCODES = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        action(c),
        "options" / c.BitStruct("rctd" / c.Flag, c.Padding(4), "reporting_options" / c.BitsInteger(3)),
        "requested_operation_code" / c.Int8ub,
        "requested_service_action" / c.Int16ub,
        "allocation_length" / c.Int32ub,
        c.Padding(1),
        control(c),
    )
)
"""SPC-4 §6.35."""

REPORT_FUNCTIONS = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        action(c),
        "options" / c.BitStruct("repd" / c.Flag, c.Padding(7)),
        c.Padding(3),
        "allocation_length" / c.Int32ub,
        c.Padding(1),
        control(c),
    )
)
"""REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS, SPC-4 §6.36."""

REPORT_PRIORITY = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        action(c),
        "options" / c.BitStruct("priority_reported" / c.BitsInteger(2), c.Padding(6)),
        c.Padding(3),
        "allocation_length" / c.Int32ub,
        c.Padding(1),
        control(c),
    )
)
"""SPC-4 §6.34."""

SET_PRIORITY = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        action(c),
        "options" / c.BitStruct("priority_to_set" / c.BitsInteger(2), c.Padding(6)),
        c.Padding(3),
        "parameter_list_length" / c.Int32ub,
        c.Padding(1),
        control(c),
    )
)
"""SPC-4 §6.44."""

RESERVE_6 = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        "flags"
        / c.BitStruct(
            c.Padding(3), "third_party" / c.Flag, "third_party_id" / c.BitsInteger(3), "extent" / c.Flag
        ),
        "reservation_id" / c.Int8ub,
        "parameter_list_length" / c.Int16ub,
        control(c),
    )
)
"""SPC-2 §7.21; RELEASE (6) has the same, SPC-2 §7.16."""

RESERVE_10 = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        "flags"
        / c.BitStruct(c.Padding(3), "third_party" / c.Flag, c.Padding(2), "longid" / c.Flag, c.Padding(1)),
        c.Padding(5),
        "parameter_list_length" / c.Int16ub,
        control(c),
    )
)
"""SPC-2 §7.22; RELEASE (10) has the same, SPC-2 §7.17."""

PERSISTENT_RESERVE_IN = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        action(c),
        c.Padding(5),
        "allocation_length" / c.Int16ub,
        control(c),
    )
)
"""SPC-4 §6.15."""

PERSISTENT_RESERVE_OUT = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        action(c),
        "kind" / c.BitStruct("scope" / c.BitsInteger(4), "type" / c.BitsInteger(4)),
        c.Padding(2),
        "parameter_list_length" / c.Int32ub,
        control(c),
    )
)
"""SPC-4 §6.16."""

EXTENDED_COPY = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        action(c),
        c.Padding(8),
        "parameter_list_length" / c.Int32ub,
        c.Padding(1),
        control(c),
    )
)
"""EXTENDED COPY (LID1), SPC-4 §6.5."""

RECEIVE_COPY_RESULTS = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        action(c),
        "list_identifier" / c.Int8ub,
        c.Padding(7),
        "allocation_length" / c.Int32ub,
        c.Padding(1),
        control(c),
    )
)
"""RECEIVE COPY STATUS (LID1) and its like, SPC-4 §6.21 to §6.25."""

PREVENT_ALLOW = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        c.Padding(3),
        "prevention" / c.BitStruct(c.Padding(6), "prevent" / c.BitsInteger(2)),
        control(c),
    )
)
"""SBC-4 PREVENT ALLOW MEDIUM REMOVAL."""
