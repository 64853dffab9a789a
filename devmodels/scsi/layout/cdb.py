"""Command descriptor blocks of all device types.

SPC-4 §6; the commands that standards before had (SPC-2) where hosts still send them.  What has
no name is reserved.
"""

from __future__ import annotations

from construct import BitsInteger, BitStruct, Flag, Int8ub, Int16ub, Int32ub, Padding, Struct

OPCODE = "opcode" / Int8ub
CONTROL = "control_byte" / BitStruct("vendor_control" / BitsInteger(2), Padding(3), "naca" / Flag, Padding(2))
"""SAM-5 §5.2; the last two bits were FLAG and LINK."""

TEST_UNIT_READY = Struct(OPCODE, Padding(4), CONTROL)
"""SPC-4 §6.47."""

REQUEST_SENSE = Struct(
    OPCODE,
    "flags" / BitStruct(Padding(7), "desc" / Flag),
    Padding(2),
    "allocation_length" / Int8ub,
    CONTROL,
)
"""SPC-4 §6.39."""

INQUIRY = Struct(
    OPCODE,
    "flags" / BitStruct(Padding(7), "evpd" / Flag),
    "page_code" / Int8ub,
    "allocation_length" / Int16ub,
    CONTROL,
)
"""SPC-4 §6.6."""

MODE_SENSE_6 = Struct(
    OPCODE,
    "flags" / BitStruct(Padding(4), "dbd" / Flag, Padding(3)),
    "page" / BitStruct("page_control" / BitsInteger(2), "page_code" / BitsInteger(6)),
    "subpage_code" / Int8ub,
    "allocation_length" / Int8ub,
    CONTROL,
)
"""SPC-4 §6.13."""

MODE_SENSE_10 = Struct(
    OPCODE,
    "flags" / BitStruct(Padding(3), "llbaa" / Flag, "dbd" / Flag, Padding(3)),
    "page" / BitStruct("page_control" / BitsInteger(2), "page_code" / BitsInteger(6)),
    "subpage_code" / Int8ub,
    Padding(3),
    "allocation_length" / Int16ub,
    CONTROL,
)
"""SPC-4 §6.14."""

REPORT_LUNS = Struct(
    OPCODE,
    Padding(1),
    "select_report" / Int8ub,
    Padding(3),
    "allocation_length" / Int32ub,
    Padding(1),
    CONTROL,
)
"""SPC-4 §6.33."""

MODE_SELECT_6 = Struct(
    OPCODE,
    "flags" / BitStruct(Padding(3), "pf" / Flag, Padding(3), "sp" / Flag),
    Padding(2),
    "parameter_list_length" / Int8ub,
    CONTROL,
)
"""SPC-4 §6.11."""

MODE_SELECT_10 = Struct(
    OPCODE,
    "flags" / BitStruct(Padding(3), "pf" / Flag, Padding(3), "sp" / Flag),
    Padding(5),
    "parameter_list_length" / Int16ub,
    CONTROL,
)
"""SPC-4 §6.12."""

LOG_SENSE = Struct(
    OPCODE,
    "flags" / BitStruct(Padding(6), "ppc" / Flag, "sp" / Flag),
    "page" / BitStruct("page_control" / BitsInteger(2), "page_code" / BitsInteger(6)),
    "subpage_code" / Int8ub,
    Padding(1),
    "parameter_pointer" / Int16ub,
    "allocation_length" / Int16ub,
    CONTROL,
)
"""SPC-4 §6.8."""

READ_BUFFER = Struct(
    OPCODE,
    "mode_byte" / BitStruct("mode_specific" / BitsInteger(3), "mode" / BitsInteger(5)),
    "buffer_id" / Int8ub,
    "offset_23_16" / Int8ub,
    "offset_15_0" / Int16ub,
    "length_23_16" / Int8ub,
    "length_15_0" / Int16ub,
    CONTROL,
)
"""SPC-4 §6.18; WRITE BUFFER has the same, SPC-4 §6.49."""

SEND_DIAGNOSTIC = Struct(
    OPCODE,
    "flags"
    / BitStruct(
        "self_test_code" / BitsInteger(3),
        "pf" / Flag,
        Padding(1),
        "self_test" / Flag,
        "devoffl" / Flag,
        "unitoffl" / Flag,
    ),
    Padding(1),
    "parameter_list_length" / Int16ub,
    CONTROL,
)
"""SPC-4 §6.42."""

REPORT_OPCODES = Struct(
    OPCODE,
    "action" / BitStruct(Padding(3), "service_action" / BitsInteger(5)),
    "options" / BitStruct("rctd" / Flag, Padding(4), "reporting_options" / BitsInteger(3)),
    "requested_operation_code" / Int8ub,
    "requested_service_action" / Int16ub,
    "allocation_length" / Int32ub,
    Padding(1),
    CONTROL,
)
"""SPC-4 §6.35."""

REPORT_FUNCTIONS = Struct(
    OPCODE,
    "action" / BitStruct(Padding(3), "service_action" / BitsInteger(5)),
    "options" / BitStruct("repd" / Flag, Padding(7)),
    Padding(3),
    "allocation_length" / Int32ub,
    Padding(1),
    CONTROL,
)
"""REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS, SPC-4 §6.36."""

REPORT_PRIORITY = Struct(
    OPCODE,
    "action" / BitStruct(Padding(3), "service_action" / BitsInteger(5)),
    "options" / BitStruct("priority_reported" / BitsInteger(2), Padding(6)),
    Padding(3),
    "allocation_length" / Int32ub,
    Padding(1),
    CONTROL,
)
"""SPC-4 §6.34."""

SET_PRIORITY = Struct(
    OPCODE,
    "action" / BitStruct(Padding(3), "service_action" / BitsInteger(5)),
    "options" / BitStruct("priority_to_set" / BitsInteger(2), Padding(6)),
    Padding(3),
    "parameter_list_length" / Int32ub,
    Padding(1),
    CONTROL,
)
"""SPC-4 §6.44."""

RESERVE_6 = Struct(
    OPCODE,
    "flags" / BitStruct(Padding(3), "third_party" / Flag, "third_party_id" / BitsInteger(3), "extent" / Flag),
    "reservation_id" / Int8ub,
    "parameter_list_length" / Int16ub,
    CONTROL,
)
"""SPC-2 §7.21; RELEASE (6) has the same, SPC-2 §7.16."""

RESERVE_10 = Struct(
    OPCODE,
    "flags" / BitStruct(Padding(3), "third_party" / Flag, Padding(2), "longid" / Flag, Padding(1)),
    Padding(5),
    "parameter_list_length" / Int16ub,
    CONTROL,
)
"""SPC-2 §7.22; RELEASE (10) has the same, SPC-2 §7.17."""

PERSISTENT_RESERVE_IN = Struct(
    OPCODE,
    "action" / BitStruct(Padding(3), "service_action" / BitsInteger(5)),
    Padding(5),
    "allocation_length" / Int16ub,
    CONTROL,
)
"""SPC-4 §6.15."""

PERSISTENT_RESERVE_OUT = Struct(
    OPCODE,
    "action" / BitStruct(Padding(3), "service_action" / BitsInteger(5)),
    "kind" / BitStruct("scope" / BitsInteger(4), "type" / BitsInteger(4)),
    Padding(2),
    "parameter_list_length" / Int32ub,
    CONTROL,
)
"""SPC-4 §6.16."""

EXTENDED_COPY = Struct(
    OPCODE,
    "action" / BitStruct(Padding(3), "service_action" / BitsInteger(5)),
    Padding(8),
    "parameter_list_length" / Int32ub,
    Padding(1),
    CONTROL,
)
"""EXTENDED COPY (LID1), SPC-4 §6.5."""

RECEIVE_COPY_RESULTS = Struct(
    OPCODE,
    "action" / BitStruct(Padding(3), "service_action" / BitsInteger(5)),
    "list_identifier" / Int8ub,
    Padding(7),
    "allocation_length" / Int32ub,
    Padding(1),
    CONTROL,
)
"""RECEIVE COPY STATUS (LID1) and its like, SPC-4 §6.21 to §6.25."""

PREVENT_ALLOW = Struct(
    OPCODE,
    Padding(3),
    "prevention" / BitStruct(Padding(6), "prevent" / BitsInteger(2)),
    CONTROL,
)
"""SBC-4 PREVENT ALLOW MEDIUM REMOVAL."""
