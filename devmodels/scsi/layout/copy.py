"""EXTENDED COPY (LID1): parameter list, descriptors, results, SPC-4 §6.5, §6.21 to §6.25, §7.8.17."""

from __future__ import annotations

from construct import BitsInteger, BitStruct, Bytes, Flag, Int8ub, Int16ub, Int32ub, Int64ub, Padding, Struct

HEADER = Struct(
    "list_identifier" / Int8ub,
    "flags"
    / BitStruct(Padding(2), "str" / Flag, "list_id_usage" / BitsInteger(2), "priority" / BitsInteger(3)),
    "targets_length" / Int16ub,
    Padding(4),
    "segments_length" / Int32ub,
    "inline_length" / Int32ub,
)
"""SPC-4 §6.5."""

IDENTIFICATION = Struct(
    "type_code" / Int8ub,
    "unit" / BitStruct("lu_id_type" / BitsInteger(2), Padding(1), "peripheral_device_type" / BitsInteger(5)),
    "relative_initiator_port" / Int16ub,
    "code" / BitStruct(Padding(4), "code_set" / BitsInteger(4)),
    "kind" / BitStruct(Padding(2), "association" / BitsInteger(2), "designator_type" / BitsInteger(4)),
    Padding(1),
    "designator_length" / Int8ub,
    "designator" / Bytes(20),
    "specific" / Int8ub,
    "block_length_23_16" / Int8ub,
    "block_length_15_0" / Int16ub,
)
"""The identification descriptor CSCD descriptor, type E4h, SPC-4 §6.4.5.6, with what is specific to block devices."""

SEGMENT_HEADER = Struct(
    "type_code" / Int8ub,
    "flags" / BitStruct(Padding(6), "dc" / Flag, "cat" / Flag),
    "descriptor_length" / Int16ub,
    "source" / Int16ub,
    "destination" / Int16ub,
)
"""SPC-4 §6.4.6.1."""

BLOCKS_TO_BLOCKS = Struct(
    "type_code" / Int8ub,
    "flags" / BitStruct(Padding(6), "dc" / Flag, "cat" / Flag),
    "descriptor_length" / Int16ub,
    "source" / Int16ub,
    "destination" / Int16ub,
    Padding(2),
    "number_of_blocks" / Int16ub,
    "source_lba" / Int64ub,
    "destination_lba" / Int64ub,
)
"""Type 02h, SPC-4 §6.4.6.4."""

BYTES_TO_BYTES = Struct(
    "type_code" / Int8ub,
    "flags" / BitStruct(Padding(6), "dc" / Flag, "cat" / Flag),
    "descriptor_length" / Int16ub,
    "source" / Int16ub,
    "destination" / Int16ub,
    "number_of_bytes" / Int32ub,
    "source_lba" / Int64ub,
    "destination_lba" / Int64ub,
    "source_byte" / Int16ub,
    "destination_byte" / Int16ub,
)
"""Type 0Ah, block device to block device with offset, SPC-4 §6.4.6.10."""

STATUS = Struct(
    "available_data" / Int32ub,
    "status" / BitStruct("hdd" / Flag, "copy_status" / BitsInteger(7)),
    "segments_processed" / Int16ub,
    "transfer_count_units" / Int8ub,
    "transfer_count" / Int32ub,
)
"""RECEIVE COPY STATUS (LID1), SPC-4 §6.25."""

OPERATING_PARAMETERS = Struct(
    "available_data" / Int32ub,
    "flags" / BitStruct(Padding(7), "snlid" / Flag),
    Padding(3),
    "maximum_targets" / Int16ub,
    "maximum_segments" / Int16ub,
    "maximum_list_length" / Int32ub,
    "maximum_segment_length" / Int32ub,
    "maximum_inline_length" / Int32ub,
    "held_data_limit" / Int32ub,
    "maximum_stream_transfer" / Int32ub,
    Padding(2),
    "total_concurrent_copies" / Int16ub,
    "maximum_concurrent_copies" / Int8ub,
    "data_segment_granularity" / Int8ub,
    "inline_data_granularity" / Int8ub,
    "held_data_granularity" / Int8ub,
    Padding(3),
    "descriptor_list_length" / Int8ub,
)
"""RECEIVE COPY OPERATING PARAMETERS, SPC-4 §6.23; the type codes follow."""

FAILURE = Struct(
    "available_data" / Int32ub,
    Padding(52),
    "copy_command_status" / Int8ub,
    Padding(1),
    "sense_length" / Int16ub,
)
"""RECEIVE COPY FAILURE DETAILS (LID1), SPC-4 §6.22; sense data follows."""

THIRD_PARTY = Struct("descriptor_type" / Int16ub, "descriptor_length" / Int16ub)
"""A third-party copy descriptor of VPD page 8Fh, SPC-4 §7.8.17."""

COPY_PARAMETERS = Struct(
    Padding(4),
    "maximum_targets" / Int16ub,
    "maximum_segments" / Int16ub,
    "maximum_list_length" / Int32ub,
    "maximum_inline_length" / Int32ub,
    Padding(12),
)
"""Parameter data, descriptor 0004h, SPC-4 §7.8.17.5."""
