"""What commands of CD, DVD and BD drives return, and parameter lists: MMC-6, by the commands' names."""

from __future__ import annotations

from devmodels.wire import Codec

# --- READ TOC/PMA/ATIP

TOC_HEADER = Codec.of(lambda c: c.Struct("length" / c.Int16ub, "first" / c.Int8ub, "last" / c.Int8ub))

TOC_TRACK = Codec.of(
    lambda c: c.Struct(
        c.Padding(1),
        "q" / c.BitStruct("adr" / c.BitsInteger(4), "control" / c.BitsInteger(4)),
        "track_number" / c.Int8ub,
        c.Padding(1),
        "start" / c.Bytes(4),
    )
)
"""Formats 0 (a track) and 1 (the first track of the last session)."""

TOC_POINT = Codec.of(
    lambda c: c.Struct(
        "session" / c.Int8ub,
        "q" / c.BitStruct("adr" / c.BitsInteger(4), "control" / c.BitsInteger(4)),
        "tno" / c.Int8ub,
        "point" / c.Int8ub,
        "minute" / c.Int8ub,
        "second" / c.Int8ub,
        "frame" / c.Int8ub,
        "zero" / c.Int8ub,
        "p_minute" / c.Int8ub,
        "p_second" / c.Int8ub,
        "p_frame" / c.Int8ub,
    )
)
"""Format 2: an entry of the Q sub-channel of the lead-in."""

# --- READ SUB-CHANNEL

SUB_CHANNEL_HEADER = Codec.of(
    lambda c: c.Struct(c.Padding(1), "audio_status" / c.Int8ub, "length" / c.Int16ub)
)

POSITION = Codec.of(
    lambda c: c.Struct(
        "code" / c.Int8ub,
        "q" / c.BitStruct("adr" / c.BitsInteger(4), "control" / c.BitsInteger(4)),
        "track_number" / c.Int8ub,
        "index_number" / c.Int8ub,
        "absolute" / c.Bytes(4),
        "relative" / c.Bytes(4),
    )
)

CATALOG_NUMBER = Codec.of(
    lambda c: c.Struct(
        "code" / c.Int8ub,
        c.Padding(3),
        "flags" / c.BitStruct("valid" / c.Flag, c.Padding(7)),
        "number" / c.Bytes(13),
        "zero" / c.Int8ub,
        "frame" / c.Int8ub,
    )
)

RECORDING_CODE = Codec.of(
    lambda c: c.Struct(
        "code" / c.Int8ub,
        "q" / c.BitStruct("adr" / c.BitsInteger(4), "control" / c.BitsInteger(4)),
        "track_number" / c.Int8ub,
        c.Padding(1),
        "flags" / c.BitStruct("valid" / c.Flag, c.Padding(7)),
        "isrc" / c.Bytes(12),
        "zero" / c.Int8ub,
        "frame" / c.Int8ub,
        c.Padding(1),
    )
)

# --- READ DISC INFORMATION, READ TRACK INFORMATION

DISC_INFORMATION = Codec.of(
    lambda c: c.Struct(
        "length" / c.Int16ub,
        "status"
        / c.BitStruct(
            "data_type" / c.BitsInteger(3),
            "erasable" / c.Flag,
            "last_session_state" / c.BitsInteger(2),
            "disc_status" / c.BitsInteger(2),
        ),
        "first_track" / c.Int8ub,
        "sessions_lsb" / c.Int8ub,
        "first_track_of_last_session_lsb" / c.Int8ub,
        "last_track_of_last_session_lsb" / c.Int8ub,
        "flags"
        / c.BitStruct(
            "did_v" / c.Flag,
            "dbc_v" / c.Flag,
            "uru" / c.Flag,
            "dac_v" / c.Flag,
            c.Padding(1),
            "dbit" / c.Flag,
            "background_format" / c.BitsInteger(2),
        ),
        "disc_type" / c.Int8ub,
        "sessions_msb" / c.Int8ub,
        "first_track_of_last_session_msb" / c.Int8ub,
        "last_track_of_last_session_msb" / c.Int8ub,
        "disc_identification" / c.Int32ub,
        "last_session_lead_in" / c.Int32ub,
        "last_possible_lead_out" / c.Int32ub,
        "bar_code" / c.Bytes(8),
        "application_code" / c.Int8ub,
        "opc_tables" / c.Int8ub,
    )
)

TRACK_INFORMATION = Codec.of(
    lambda c: c.Struct(
        "length" / c.Int16ub,
        "track_number_lsb" / c.Int8ub,
        "session_number_lsb" / c.Int8ub,
        c.Padding(1),
        "mode"
        / c.BitStruct(
            "ljrs" / c.BitsInteger(2), "damage" / c.Flag, "copy" / c.Flag, "track_mode" / c.BitsInteger(4)
        ),
        "state"
        / c.BitStruct(
            "rt" / c.Flag, "blank" / c.Flag, "packet" / c.Flag, "fp" / c.Flag, "data_mode" / c.BitsInteger(4)
        ),
        "validity" / c.BitStruct(c.Padding(6), "lra_v" / c.Flag, "nwa_v" / c.Flag),
        "track_start" / c.Int32ub,
        "next_writable" / c.Int32ub,
        "free_blocks" / c.Int32ub,
        "fixed_packet_size" / c.Int32ub,
        "track_size" / c.Int32ub,
        "last_recorded" / c.Int32ub,
        "track_number_msb" / c.Int8ub,
        "session_number_msb" / c.Int8ub,
        c.Padding(2),
        "read_compatibility" / c.Int32ub,
        "next_layer_jump" / c.Int32ub,
        "last_layer_jump" / c.Int32ub,
    )
)

# --- GET EVENT STATUS NOTIFICATION

EVENT_HEADER = Codec.of(
    lambda c: c.Struct(
        "length" / c.Int16ub,
        "class" / c.BitStruct("nea" / c.Flag, c.Padding(4), "notification_class" / c.BitsInteger(3)),
        "supported_classes" / c.Int8ub,
    )
)

OPERATIONAL_EVENT = Codec.of(
    lambda c: c.Struct(
        "code" / c.BitStruct(c.Padding(4), "event_code" / c.BitsInteger(4)),
        "state"
        / c.BitStruct("persistent_prevented" / c.Flag, c.Padding(3), "operational_status" / c.BitsInteger(4)),
        "change" / c.Int16ub,
    )
)

POWER_EVENT = Codec.of(
    lambda c: c.Struct(
        "code" / c.BitStruct(c.Padding(4), "event_code" / c.BitsInteger(4)),
        "power_status" / c.Int8ub,
        c.Padding(2),
    )
)

MEDIA_EVENT = Codec.of(
    lambda c: c.Struct(
        "code" / c.BitStruct(c.Padding(4), "event_code" / c.BitsInteger(4)),
        "state" / c.BitStruct(c.Padding(6), "media_present" / c.Flag, "tray_open" / c.Flag),
        "start_slot" / c.Int8ub,
        "end_slot" / c.Int8ub,
    )
)

# --- MECHANISM STATUS

MECHANISM = Codec.of(
    lambda c: c.Struct(
        "changer"
        / c.BitStruct(
            "fault" / c.Flag, "changer_state" / c.BitsInteger(2), "current_slot" / c.BitsInteger(5)
        ),
        "state" / c.BitStruct("mechanism_state" / c.BitsInteger(3), "door_open" / c.Flag, c.Padding(4)),
        "current_lba" / c.Bytes(3),
        "slots" / c.BitStruct(c.Padding(2), "number_of_slots" / c.BitsInteger(6)),
        "slot_tables_length" / c.Int16ub,
    )
)

# --- GET PERFORMANCE, SET STREAMING

PERFORMANCE_HEADER = Codec.of(
    lambda c: c.Struct(
        "length" / c.Int32ub,
        "flags" / c.BitStruct(c.Padding(6), "write" / c.Flag, "except" / c.Flag),
        c.Padding(3),
    )
)

NOMINAL_PERFORMANCE = Codec.of(
    lambda c: c.Struct(
        "start_lba" / c.Int32ub,
        "start_performance" / c.Int32ub,
        "end_lba" / c.Int32ub,
        "end_performance" / c.Int32ub,
    )
)
"""Performance in kB/s, of 1000 bytes."""

STREAMING = Codec.of(
    lambda c: c.Struct(
        "flags"
        / c.BitStruct(
            c.Padding(3), "wrc" / c.BitsInteger(2), "rdd" / c.Flag, "exact" / c.Flag, "ra" / c.Flag
        ),
        c.Padding(3),
        "start_lba" / c.Int32ub,
        "end_lba" / c.Int32ub,
        "read_size" / c.Int32ub,
        "read_time" / c.Int32ub,
        "write_size" / c.Int32ub,
        "write_time" / c.Int32ub,
    )
)
"""Sizes in kB of 1000 bytes, times in ms."""

# --- READ DISC STRUCTURE

STRUCTURE_HEADER = Codec.of(lambda c: c.Struct("length" / c.Int16ub, c.Padding(2)))

PHYSICAL_FORMAT = Codec.of(
    lambda c: c.Struct(
        "book" / c.BitStruct("disc_category" / c.BitsInteger(4), "part_version" / c.BitsInteger(4)),
        "disc" / c.BitStruct("disc_size" / c.BitsInteger(4), "maximum_rate" / c.BitsInteger(4)),
        "layers"
        / c.BitStruct(
            c.Padding(1),
            "number_of_layers" / c.BitsInteger(2),
            "track_path" / c.Flag,
            "layer_type" / c.BitsInteger(4),
        ),
        "density" / c.BitStruct("linear_density" / c.BitsInteger(4), "track_density" / c.BitsInteger(4)),
        "first_sector" / c.Int32ub,
        "last_sector" / c.Int32ub,
        "last_sector_of_layer_0" / c.Int32ub,
        "bca" / c.BitStruct("bca_present" / c.Flag, c.Padding(7)),
        c.Padding(2031),
    )
)
"""DVD, format 00h."""

COPYRIGHT = Codec.of(lambda c: c.Struct("protection_system" / c.Int8ub, "regions" / c.Int8ub, c.Padding(2)))
"""DVD, format 01h: a bit of `regions` is 1 where the disc cannot be played."""

STRUCTURE_CAPABILITY = Codec.of(
    lambda c: c.Struct(
        "format_code" / c.Int8ub,
        "permissions" / c.BitStruct("sds" / c.Flag, "rds" / c.Flag, c.Padding(6)),
        "structure_length" / c.Int16ub,
    )
)
"""Format FFh."""

DISC_INFORMATION_UNIT = Codec.of(
    lambda c: c.Struct(
        "identifier" / c.Bytes(2),
        "format_number" / c.Int8ub,
        "layers" / c.BitStruct("number_of_layers" / c.BitsInteger(5), "layer" / c.BitsInteger(3)),
        c.Padding(1),
        "sequence_number" / c.Int8ub,
        "use" / c.BitStruct("continues" / c.Flag, "bytes_in_use" / c.BitsInteger(7)),
        c.Padding(1),
        "type_identifier" / c.Bytes(3),
        "size_and_version"
        / c.BitStruct(
            "disc_size" / c.BitsInteger(2), "disc_class" / c.BitsInteger(2), "disc_version" / c.BitsInteger(4)
        ),
        "structure" / c.BitStruct("layers_of_disc" / c.BitsInteger(4), "layer_type" / c.BitsInteger(4)),
        "channel_bit_length" / c.Int8ub,
        "used_layers" / c.Int8ub,
        c.Padding(5),
        "last_data_address" / c.Int32ub,
        "first_address" / c.Int32ub,
        "last_address" / c.Int32ub,
        c.Padding(32),
    )
)
"""BD-ROM, format 00h: one unit of 64 bytes of disc information, about one layer (as such discs have it)."""
