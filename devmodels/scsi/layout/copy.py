"""EXTENDED COPY (LID1): parameter list, descriptors, results, SPC-4 §6.5, §6.21 to §6.25, §7.8.17."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.wire import Codec

if TYPE_CHECKING:
    from types import ModuleType

    import construct

HEADER = Codec.of(
    lambda c: c.Struct(
        "list_identifier" / c.Int8ub,
        "flags"
        / c.BitStruct(
            c.Padding(2), "str" / c.Flag, "list_id_usage" / c.BitsInteger(2), "priority" / c.BitsInteger(3)
        ),
        "targets_length" / c.Int16ub,
        c.Padding(4),
        "segments_length" / c.Int32ub,
        "inline_length" / c.Int32ub,
    )
)
"""SPC-4 §6.5."""

IDENTIFICATION = Codec.of(
    lambda c: c.Struct(
        "type_code" / c.Int8ub,
        "unit"
        / c.BitStruct(
            "lu_id_type" / c.BitsInteger(2), c.Padding(1), "peripheral_device_type" / c.BitsInteger(5)
        ),
        "relative_initiator_port" / c.Int16ub,
        "code" / c.BitStruct(c.Padding(4), "code_set" / c.BitsInteger(4)),
        "kind"
        / c.BitStruct(c.Padding(2), "association" / c.BitsInteger(2), "designator_type" / c.BitsInteger(4)),
        c.Padding(1),
        "designator_length" / c.Int8ub,
        "designator" / c.Bytes(20),
        "specific" / c.Int8ub,
        "block_length_23_16" / c.Int8ub,
        "block_length_15_0" / c.Int16ub,
    )
)
"""The identification descriptor CSCD descriptor, type E4h, SPC-4 §6.4.5.6, with what is specific to block devices."""


def _segment(c: ModuleType) -> tuple[construct.Construct, ...]:
    """What segment descriptors begin with."""
    return (
        "type_code" / c.Int8ub,
        "flags" / c.BitStruct(c.Padding(6), "dc" / c.Flag, "cat" / c.Flag),
        "descriptor_length" / c.Int16ub,
        "source" / c.Int16ub,
        "destination" / c.Int16ub,
    )


SEGMENT_HEADER = Codec.of(
    lambda c: c.Struct(
        *_segment(c),
    )
)
"""SPC-4 §6.4.6.1."""

BLOCKS_TO_BLOCKS = Codec.of(
    lambda c: c.Struct(
        *_segment(c),
        c.Padding(2),
        "number_of_blocks" / c.Int16ub,
        "source_lba" / c.Int64ub,
        "destination_lba" / c.Int64ub,
    )
)
"""Type 02h, SPC-4 §6.4.6.4."""

BYTES_TO_BYTES = Codec.of(
    lambda c: c.Struct(
        *_segment(c),
        "number_of_bytes" / c.Int32ub,
        "source_lba" / c.Int64ub,
        "destination_lba" / c.Int64ub,
        "source_byte" / c.Int16ub,
        "destination_byte" / c.Int16ub,
    )
)
"""Type 0Ah, block device to block device with offset, SPC-4 §6.4.6.10."""

STATUS = Codec.of(
    lambda c: c.Struct(
        "available_data" / c.Int32ub,
        "status" / c.BitStruct("hdd" / c.Flag, "copy_status" / c.BitsInteger(7)),
        "segments_processed" / c.Int16ub,
        "transfer_count_units" / c.Int8ub,
        "transfer_count" / c.Int32ub,
    )
)
"""RECEIVE COPY STATUS (LID1), SPC-4 §6.25."""

OPERATING_PARAMETERS = Codec.of(
    lambda c: c.Struct(
        "available_data" / c.Int32ub,
        "flags" / c.BitStruct(c.Padding(7), "snlid" / c.Flag),
        c.Padding(3),
        "maximum_targets" / c.Int16ub,
        "maximum_segments" / c.Int16ub,
        "maximum_list_length" / c.Int32ub,
        "maximum_segment_length" / c.Int32ub,
        "maximum_inline_length" / c.Int32ub,
        "held_data_limit" / c.Int32ub,
        "maximum_stream_transfer" / c.Int32ub,
        c.Padding(2),
        "total_concurrent_copies" / c.Int16ub,
        "maximum_concurrent_copies" / c.Int8ub,
        "data_segment_granularity" / c.Int8ub,
        "inline_data_granularity" / c.Int8ub,
        "held_data_granularity" / c.Int8ub,
        c.Padding(3),
        "descriptor_list_length" / c.Int8ub,
    )
)
"""RECEIVE COPY OPERATING PARAMETERS, SPC-4 §6.23; the type codes follow."""

FAILURE = Codec.of(
    lambda c: c.Struct(
        "available_data" / c.Int32ub,
        c.Padding(52),
        "copy_command_status" / c.Int8ub,
        c.Padding(1),
        "sense_length" / c.Int16ub,
    )
)
"""RECEIVE COPY FAILURE DETAILS (LID1), SPC-4 §6.22; sense data follows."""

THIRD_PARTY = Codec.of(lambda c: c.Struct("descriptor_type" / c.Int16ub, "descriptor_length" / c.Int16ub))
"""A third-party copy descriptor of VPD page 8Fh, SPC-4 §7.8.17."""

COPY_PARAMETERS = Codec.of(
    lambda c: c.Struct(
        c.Padding(4),
        "maximum_targets" / c.Int16ub,
        "maximum_segments" / c.Int16ub,
        "maximum_list_length" / c.Int32ub,
        "maximum_inline_length" / c.Int32ub,
        c.Padding(12),
    )
)
"""Parameter data, descriptor 0004h, SPC-4 §7.8.17.5."""
