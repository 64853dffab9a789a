"""Command descriptor blocks of CD, DVD and BD drives.

MMC-6, by the commands' names; those for playing audio MMC-3 had last.  What has no name is reserved.
"""

from __future__ import annotations

from construct import BitsInteger, BitStruct, Flag, Int8ub, Int16ub, Int32ub, Padding, Struct

from devmodels.scsi.layout.cdb import CONTROL, OPCODE

_READ_FLAGS = "flags" / BitStruct(Padding(3), "dpo" / Flag, "fua" / Flag, Padding(3))
_MSF = "address_form" / BitStruct(Padding(6), "msf" / Flag, Padding(1))
_ALLOCATION = "allocation_length" / Int16ub

READ_10 = Struct(OPCODE, _READ_FLAGS, "lba" / Int32ub, Padding(1), "transfer_length" / Int16ub, CONTROL)

READ_12 = Struct(
    OPCODE,
    _READ_FLAGS,
    "lba" / Int32ub,
    "transfer_length" / Int32ub,
    "options" / BitStruct("streaming" / Flag, Padding(7)),
    CONTROL,
)

SEEK_10 = Struct(OPCODE, Padding(1), "lba" / Int32ub, Padding(3), CONTROL)

START_STOP_UNIT = Struct(
    OPCODE,
    "flags" / BitStruct(Padding(7), "immed" / Flag),
    Padding(1),
    "layer" / BitStruct(Padding(6), "format_layer" / BitsInteger(2)),
    "action"
    / BitStruct("power_condition" / BitsInteger(4), Padding(1), "fl" / Flag, "loej" / Flag, "start" / Flag),
    CONTROL,
)

READ_SUB_CHANNEL = Struct(
    OPCODE,
    _MSF,
    "flags" / BitStruct(Padding(1), "subq" / Flag, Padding(6)),
    "parameter_list" / Int8ub,
    Padding(2),
    "track_number" / Int8ub,
    _ALLOCATION,
    CONTROL,
)

READ_TOC = Struct(
    OPCODE,
    _MSF,
    "form" / BitStruct(Padding(4), "format" / BitsInteger(4)),
    Padding(3),
    "number" / Int8ub,
    _ALLOCATION,
    CONTROL,
)
"""READ TOC/PMA/ATIP; the first two bits of the control byte are where drives before MMC had the format (SFF-8020)."""

GET_CONFIGURATION = Struct(
    OPCODE,
    "request" / BitStruct(Padding(6), "rt" / BitsInteger(2)),
    "starting_feature" / Int16ub,
    Padding(3),
    _ALLOCATION,
    CONTROL,
)

GET_EVENT_STATUS = Struct(
    OPCODE,
    "mode" / BitStruct(Padding(7), "polled" / Flag),
    Padding(2),
    "requested_classes" / Int8ub,
    Padding(2),
    _ALLOCATION,
    CONTROL,
)

READ_DISC_INFORMATION = Struct(
    OPCODE,
    "kind" / BitStruct(Padding(5), "data_type" / BitsInteger(3)),
    Padding(5),
    _ALLOCATION,
    CONTROL,
)

READ_TRACK_INFORMATION = Struct(
    OPCODE,
    "kind" / BitStruct(Padding(5), "open" / Flag, "address_type" / BitsInteger(2)),
    "address" / Int32ub,
    Padding(1),
    _ALLOCATION,
    CONTROL,
)

MECHANISM_STATUS = Struct(OPCODE, Padding(7), _ALLOCATION, Padding(1), CONTROL)

READ_DISC_STRUCTURE = Struct(
    OPCODE,
    "medium" / BitStruct(Padding(4), "media_type" / BitsInteger(4)),
    "address" / Int32ub,
    "layer_number" / Int8ub,
    "format" / Int8ub,
    _ALLOCATION,
    "grant" / BitStruct("agid" / BitsInteger(2), Padding(6)),
    CONTROL,
)

GET_PERFORMANCE = Struct(
    OPCODE,
    "data_type"
    / BitStruct(Padding(3), "tolerance" / BitsInteger(2), "write" / Flag, "exceptions" / BitsInteger(2)),
    "starting_lba" / Int32ub,
    Padding(2),
    "maximum_descriptors" / Int16ub,
    "performance_type" / Int8ub,
    CONTROL,
)

SET_STREAMING = Struct(
    OPCODE, Padding(7), "performance_type" / Int8ub, "parameter_list_length" / Int16ub, CONTROL
)

SET_READ_AHEAD = Struct(OPCODE, Padding(1), "trigger_lba" / Int32ub, "lba" / Int32ub, Padding(1), CONTROL)

SET_CD_SPEED = Struct(
    OPCODE,
    "control" / BitStruct(Padding(6), "rotational_control" / BitsInteger(2)),
    "read_speed" / Int16ub,
    "write_speed" / Int16ub,
    Padding(5),
    CONTROL,
)

_SECTOR_TYPE = "expected" / BitStruct(Padding(3), "sector_type" / BitsInteger(3), "dap" / Flag, Padding(1))
_SELECTION = (
    "main_channel"
    / BitStruct(
        "sync" / Flag,
        "subheader" / Flag,
        "header" / Flag,
        "user_data" / Flag,
        "edc_ecc" / Flag,
        "c2_errors" / BitsInteger(2),
        Padding(1),
    ),
    "sub_channel" / BitStruct(Padding(5), "sub_channel_selection" / BitsInteger(3)),
)

READ_CD = Struct(
    OPCODE,
    _SECTOR_TYPE,
    "lba" / Int32ub,
    "blocks_23_16" / Int8ub,
    "blocks_15_0" / Int16ub,
    *_SELECTION,
    CONTROL,
)

READ_CD_MSF = Struct(
    OPCODE,
    _SECTOR_TYPE,
    Padding(1),
    "start_minute" / Int8ub,
    "start_second" / Int8ub,
    "start_frame" / Int8ub,
    "end_minute" / Int8ub,
    "end_second" / Int8ub,
    "end_frame" / Int8ub,
    *_SELECTION,
    CONTROL,
)

PLAY_AUDIO_10 = Struct(OPCODE, Padding(1), "lba" / Int32ub, Padding(1), "transfer_length" / Int16ub, CONTROL)

PLAY_AUDIO_12 = Struct(OPCODE, Padding(1), "lba" / Int32ub, "transfer_length" / Int32ub, Padding(1), CONTROL)

PLAY_AUDIO_MSF = Struct(
    OPCODE,
    Padding(2),
    "start_minute" / Int8ub,
    "start_second" / Int8ub,
    "start_frame" / Int8ub,
    "end_minute" / Int8ub,
    "end_second" / Int8ub,
    "end_frame" / Int8ub,
    CONTROL,
)

PAUSE_RESUME = Struct(OPCODE, Padding(7), "action" / BitStruct(Padding(7), "resume" / Flag), CONTROL)

STOP_PLAY = Struct(OPCODE, Padding(8), CONTROL)
