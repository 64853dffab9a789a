"""Command descriptor blocks of CD, DVD and BD drives.

MMC-6, by the commands' names; those for playing audio MMC-3 had last.  What has no name is reserved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.scsi.layout.cdb import control, opcode
from devmodels.wire import Codec

if TYPE_CHECKING:
    from types import ModuleType

    import construct


def _read_flags(c: ModuleType) -> construct.Construct:
    return "flags" / c.BitStruct(c.Padding(3), "dpo" / c.Flag, "fua" / c.Flag, c.Padding(3))


def _msf(c: ModuleType) -> construct.Construct:
    return "address_form" / c.BitStruct(c.Padding(6), "msf" / c.Flag, c.Padding(1))


def _allocation(c: ModuleType) -> construct.Construct:
    return "allocation_length" / c.Int16ub


READ_10 = Codec.of(
    lambda c: c.Struct(
        opcode(c), _read_flags(c), "lba" / c.Int32ub, c.Padding(1), "transfer_length" / c.Int16ub, control(c)
    )
)

READ_12 = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        _read_flags(c),
        "lba" / c.Int32ub,
        "transfer_length" / c.Int32ub,
        "options" / c.BitStruct("streaming" / c.Flag, c.Padding(7)),
        control(c),
    )
)

SEEK_10 = Codec.of(lambda c: c.Struct(opcode(c), c.Padding(1), "lba" / c.Int32ub, c.Padding(3), control(c)))

START_STOP_UNIT = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        "flags" / c.BitStruct(c.Padding(7), "immed" / c.Flag),
        c.Padding(1),
        "layer" / c.BitStruct(c.Padding(6), "format_layer" / c.BitsInteger(2)),
        "action"
        / c.BitStruct(
            "power_condition" / c.BitsInteger(4),
            c.Padding(1),
            "fl" / c.Flag,
            "loej" / c.Flag,
            "start" / c.Flag,
        ),
        control(c),
    )
)

READ_SUB_CHANNEL = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        _msf(c),
        "flags" / c.BitStruct(c.Padding(1), "subq" / c.Flag, c.Padding(6)),
        "parameter_list" / c.Int8ub,
        c.Padding(2),
        "track_number" / c.Int8ub,
        _allocation(c),
        control(c),
    )
)

READ_TOC = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        _msf(c),
        "form" / c.BitStruct(c.Padding(4), "format" / c.BitsInteger(4)),
        c.Padding(3),
        "number" / c.Int8ub,
        _allocation(c),
        control(c),
    )
)
"""READ TOC/PMA/ATIP; the first two bits of the control byte are where drives before MMC had the format (SFF-8020)."""

GET_CONFIGURATION = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        "request" / c.BitStruct(c.Padding(6), "rt" / c.BitsInteger(2)),
        "starting_feature" / c.Int16ub,
        c.Padding(3),
        _allocation(c),
        control(c),
    )
)

GET_EVENT_STATUS = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        "mode" / c.BitStruct(c.Padding(7), "polled" / c.Flag),
        c.Padding(2),
        "requested_classes" / c.Int8ub,
        c.Padding(2),
        _allocation(c),
        control(c),
    )
)

READ_DISC_INFORMATION = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        "kind" / c.BitStruct(c.Padding(5), "data_type" / c.BitsInteger(3)),
        c.Padding(5),
        _allocation(c),
        control(c),
    )
)

READ_TRACK_INFORMATION = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        "kind" / c.BitStruct(c.Padding(5), "open" / c.Flag, "address_type" / c.BitsInteger(2)),
        "address" / c.Int32ub,
        c.Padding(1),
        _allocation(c),
        control(c),
    )
)

MECHANISM_STATUS = Codec.of(
    lambda c: c.Struct(opcode(c), c.Padding(7), _allocation(c), c.Padding(1), control(c))
)

READ_DISC_STRUCTURE = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        "medium" / c.BitStruct(c.Padding(4), "media_type" / c.BitsInteger(4)),
        "address" / c.Int32ub,
        "layer_number" / c.Int8ub,
        "format" / c.Int8ub,
        _allocation(c),
        "grant" / c.BitStruct("agid" / c.BitsInteger(2), c.Padding(6)),
        control(c),
    )
)

GET_PERFORMANCE = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        "data_type"
        / c.BitStruct(
            c.Padding(3), "tolerance" / c.BitsInteger(2), "write" / c.Flag, "exceptions" / c.BitsInteger(2)
        ),
        "starting_lba" / c.Int32ub,
        c.Padding(2),
        "maximum_descriptors" / c.Int16ub,
        "performance_type" / c.Int8ub,
        control(c),
    )
)

SET_STREAMING = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        c.Padding(7),
        "performance_type" / c.Int8ub,
        "parameter_list_length" / c.Int16ub,
        control(c),
    )
)

SET_READ_AHEAD = Codec.of(
    lambda c: c.Struct(
        opcode(c), c.Padding(1), "trigger_lba" / c.Int32ub, "lba" / c.Int32ub, c.Padding(1), control(c)
    )
)

SET_CD_SPEED = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        "control" / c.BitStruct(c.Padding(6), "rotational_control" / c.BitsInteger(2)),
        "read_speed" / c.Int16ub,
        "write_speed" / c.Int16ub,
        c.Padding(5),
        control(c),
    )
)


def _sector_type(c: ModuleType) -> construct.Construct:
    return "expected" / c.BitStruct(
        c.Padding(3), "sector_type" / c.BitsInteger(3), "dap" / c.Flag, c.Padding(1)
    )


def _selection(c: ModuleType) -> tuple[construct.Construct, ...]:
    return (
        "main_channel"
        / c.BitStruct(
            "sync" / c.Flag,
            "subheader" / c.Flag,
            "header" / c.Flag,
            "user_data" / c.Flag,
            "edc_ecc" / c.Flag,
            "c2_errors" / c.BitsInteger(2),
            c.Padding(1),
        ),
        "sub_channel" / c.BitStruct(c.Padding(5), "sub_channel_selection" / c.BitsInteger(3)),
    )


READ_CD = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        _sector_type(c),
        "lba" / c.Int32ub,
        "blocks_23_16" / c.Int8ub,
        "blocks_15_0" / c.Int16ub,
        *_selection(c),
        control(c),
    )
)

READ_CD_MSF = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        _sector_type(c),
        c.Padding(1),
        "start_minute" / c.Int8ub,
        "start_second" / c.Int8ub,
        "start_frame" / c.Int8ub,
        "end_minute" / c.Int8ub,
        "end_second" / c.Int8ub,
        "end_frame" / c.Int8ub,
        *_selection(c),
        control(c),
    )
)

PLAY_AUDIO_10 = Codec.of(
    lambda c: c.Struct(
        opcode(c), c.Padding(1), "lba" / c.Int32ub, c.Padding(1), "transfer_length" / c.Int16ub, control(c)
    )
)

PLAY_AUDIO_12 = Codec.of(
    lambda c: c.Struct(
        opcode(c), c.Padding(1), "lba" / c.Int32ub, "transfer_length" / c.Int32ub, c.Padding(1), control(c)
    )
)

PLAY_AUDIO_MSF = Codec.of(
    lambda c: c.Struct(
        opcode(c),
        c.Padding(2),
        "start_minute" / c.Int8ub,
        "start_second" / c.Int8ub,
        "start_frame" / c.Int8ub,
        "end_minute" / c.Int8ub,
        "end_second" / c.Int8ub,
        "end_frame" / c.Int8ub,
        control(c),
    )
)

PAUSE_RESUME = Codec.of(
    lambda c: c.Struct(
        opcode(c), c.Padding(7), "action" / c.BitStruct(c.Padding(7), "resume" / c.Flag), control(c)
    )
)

STOP_PLAY = Codec.of(lambda c: c.Struct(opcode(c), c.Padding(8), control(c)))
