"""What commands of CD, DVD and BD drives return, and parameter lists: MMC-6, by the commands' names."""

from __future__ import annotations

from construct import BitsInteger, BitStruct, Bytes, Flag, Int8ub, Int16ub, Int32ub, Padding, Struct

# --- READ TOC/PMA/ATIP

TOC_HEADER = Struct("length" / Int16ub, "first" / Int8ub, "last" / Int8ub)

TOC_TRACK = Struct(
    Padding(1),
    "q" / BitStruct("adr" / BitsInteger(4), "control" / BitsInteger(4)),
    "track_number" / Int8ub,
    Padding(1),
    "start" / Bytes(4),
)
"""Formats 0 (a track) and 1 (the first track of the last session)."""

TOC_POINT = Struct(
    "session" / Int8ub,
    "q" / BitStruct("adr" / BitsInteger(4), "control" / BitsInteger(4)),
    "tno" / Int8ub,
    "point" / Int8ub,
    "minute" / Int8ub,
    "second" / Int8ub,
    "frame" / Int8ub,
    "zero" / Int8ub,
    "p_minute" / Int8ub,
    "p_second" / Int8ub,
    "p_frame" / Int8ub,
)
"""Format 2: an entry of the Q sub-channel of the lead-in."""

# --- READ SUB-CHANNEL

SUB_CHANNEL_HEADER = Struct(Padding(1), "audio_status" / Int8ub, "length" / Int16ub)

POSITION = Struct(
    "code" / Int8ub,
    "q" / BitStruct("adr" / BitsInteger(4), "control" / BitsInteger(4)),
    "track_number" / Int8ub,
    "index_number" / Int8ub,
    "absolute" / Bytes(4),
    "relative" / Bytes(4),
)

CATALOG_NUMBER = Struct(
    "code" / Int8ub,
    Padding(3),
    "flags" / BitStruct("valid" / Flag, Padding(7)),
    "number" / Bytes(13),
    "zero" / Int8ub,
    "frame" / Int8ub,
)

RECORDING_CODE = Struct(
    "code" / Int8ub,
    "q" / BitStruct("adr" / BitsInteger(4), "control" / BitsInteger(4)),
    "track_number" / Int8ub,
    Padding(1),
    "flags" / BitStruct("valid" / Flag, Padding(7)),
    "isrc" / Bytes(12),
    "zero" / Int8ub,
    "frame" / Int8ub,
    Padding(1),
)

# --- READ DISC INFORMATION, READ TRACK INFORMATION

DISC_INFORMATION = Struct(
    "length" / Int16ub,
    "status"
    / BitStruct(
        "data_type" / BitsInteger(3),
        "erasable" / Flag,
        "last_session_state" / BitsInteger(2),
        "disc_status" / BitsInteger(2),
    ),
    "first_track" / Int8ub,
    "sessions_lsb" / Int8ub,
    "first_track_of_last_session_lsb" / Int8ub,
    "last_track_of_last_session_lsb" / Int8ub,
    "flags"
    / BitStruct(
        "did_v" / Flag,
        "dbc_v" / Flag,
        "uru" / Flag,
        "dac_v" / Flag,
        Padding(1),
        "dbit" / Flag,
        "background_format" / BitsInteger(2),
    ),
    "disc_type" / Int8ub,
    "sessions_msb" / Int8ub,
    "first_track_of_last_session_msb" / Int8ub,
    "last_track_of_last_session_msb" / Int8ub,
    "disc_identification" / Int32ub,
    "last_session_lead_in" / Int32ub,
    "last_possible_lead_out" / Int32ub,
    "bar_code" / Bytes(8),
    "application_code" / Int8ub,
    "opc_tables" / Int8ub,
)

TRACK_INFORMATION = Struct(
    "length" / Int16ub,
    "track_number_lsb" / Int8ub,
    "session_number_lsb" / Int8ub,
    Padding(1),
    "mode"
    / BitStruct("ljrs" / BitsInteger(2), "damage" / Flag, "copy" / Flag, "track_mode" / BitsInteger(4)),
    "state"
    / BitStruct("rt" / Flag, "blank" / Flag, "packet" / Flag, "fp" / Flag, "data_mode" / BitsInteger(4)),
    "validity" / BitStruct(Padding(6), "lra_v" / Flag, "nwa_v" / Flag),
    "track_start" / Int32ub,
    "next_writable" / Int32ub,
    "free_blocks" / Int32ub,
    "fixed_packet_size" / Int32ub,
    "track_size" / Int32ub,
    "last_recorded" / Int32ub,
    "track_number_msb" / Int8ub,
    "session_number_msb" / Int8ub,
    Padding(2),
    "read_compatibility" / Int32ub,
    "next_layer_jump" / Int32ub,
    "last_layer_jump" / Int32ub,
)

# --- GET EVENT STATUS NOTIFICATION

EVENT_HEADER = Struct(
    "length" / Int16ub,
    "class" / BitStruct("nea" / Flag, Padding(4), "notification_class" / BitsInteger(3)),
    "supported_classes" / Int8ub,
)

OPERATIONAL_EVENT = Struct(
    "code" / BitStruct(Padding(4), "event_code" / BitsInteger(4)),
    "state" / BitStruct("persistent_prevented" / Flag, Padding(3), "operational_status" / BitsInteger(4)),
    "change" / Int16ub,
)

POWER_EVENT = Struct(
    "code" / BitStruct(Padding(4), "event_code" / BitsInteger(4)), "power_status" / Int8ub, Padding(2)
)

MEDIA_EVENT = Struct(
    "code" / BitStruct(Padding(4), "event_code" / BitsInteger(4)),
    "state" / BitStruct(Padding(6), "media_present" / Flag, "tray_open" / Flag),
    "start_slot" / Int8ub,
    "end_slot" / Int8ub,
)

# --- MECHANISM STATUS

MECHANISM = Struct(
    "changer" / BitStruct("fault" / Flag, "changer_state" / BitsInteger(2), "current_slot" / BitsInteger(5)),
    "state" / BitStruct("mechanism_state" / BitsInteger(3), "door_open" / Flag, Padding(4)),
    "current_lba" / Bytes(3),
    "slots" / BitStruct(Padding(2), "number_of_slots" / BitsInteger(6)),
    "slot_tables_length" / Int16ub,
)

# --- GET PERFORMANCE, SET STREAMING

PERFORMANCE_HEADER = Struct(
    "length" / Int32ub, "flags" / BitStruct(Padding(6), "write" / Flag, "except" / Flag), Padding(3)
)

NOMINAL_PERFORMANCE = Struct(
    "start_lba" / Int32ub, "start_performance" / Int32ub, "end_lba" / Int32ub, "end_performance" / Int32ub
)
"""Performance in kB/s, of 1000 bytes."""

STREAMING = Struct(
    "flags" / BitStruct(Padding(3), "wrc" / BitsInteger(2), "rdd" / Flag, "exact" / Flag, "ra" / Flag),
    Padding(3),
    "start_lba" / Int32ub,
    "end_lba" / Int32ub,
    "read_size" / Int32ub,
    "read_time" / Int32ub,
    "write_size" / Int32ub,
    "write_time" / Int32ub,
)
"""Sizes in kB of 1000 bytes, times in ms."""

# --- READ DISC STRUCTURE

STRUCTURE_HEADER = Struct("length" / Int16ub, Padding(2))

PHYSICAL_FORMAT = Struct(
    "book" / BitStruct("disc_category" / BitsInteger(4), "part_version" / BitsInteger(4)),
    "disc" / BitStruct("disc_size" / BitsInteger(4), "maximum_rate" / BitsInteger(4)),
    "layers"
    / BitStruct(
        Padding(1), "number_of_layers" / BitsInteger(2), "track_path" / Flag, "layer_type" / BitsInteger(4)
    ),
    "density" / BitStruct("linear_density" / BitsInteger(4), "track_density" / BitsInteger(4)),
    "first_sector" / Int32ub,
    "last_sector" / Int32ub,
    "last_sector_of_layer_0" / Int32ub,
    "bca" / BitStruct("bca_present" / Flag, Padding(7)),
    Padding(2031),
)
"""DVD, format 00h."""

COPYRIGHT = Struct("protection_system" / Int8ub, "regions" / Int8ub, Padding(2))
"""DVD, format 01h: a bit of `regions` is 1 where the disc cannot be played."""

STRUCTURE_CAPABILITY = Struct(
    "format_code" / Int8ub,
    "permissions" / BitStruct("sds" / Flag, "rds" / Flag, Padding(6)),
    "structure_length" / Int16ub,
)
"""Format FFh."""

DISC_INFORMATION_UNIT = Struct(
    "identifier" / Bytes(2),
    "format_number" / Int8ub,
    "layers" / BitStruct("number_of_layers" / BitsInteger(5), "layer" / BitsInteger(3)),
    Padding(1),
    "sequence_number" / Int8ub,
    "use" / BitStruct("continues" / Flag, "bytes_in_use" / BitsInteger(7)),
    Padding(1),
    "type_identifier" / Bytes(3),
    "size_and_version"
    / BitStruct("disc_size" / BitsInteger(2), "disc_class" / BitsInteger(2), "disc_version" / BitsInteger(4)),
    "structure" / BitStruct("layers_of_disc" / BitsInteger(4), "layer_type" / BitsInteger(4)),
    "channel_bit_length" / Int8ub,
    "used_layers" / Int8ub,
    Padding(5),
    "last_data_address" / Int32ub,
    "first_address" / Int32ub,
    "last_address" / Int32ub,
    Padding(32),
)
"""BD-ROM, format 00h: one unit of 64 bytes of disc information, about one layer (as such discs have it)."""
