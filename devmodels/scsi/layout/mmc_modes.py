"""Mode pages of CD, DVD and BD drives: MMC-6 §7; pages 0Dh and 0Eh as MMC-3 had them, page 2Ah MMC-3 §6.3.11."""

from __future__ import annotations

from construct import BitsInteger, BitStruct, Flag, Int8ub, Int16ub, Padding, Struct

from devmodels.scsi.layout.modes import PAGE

ERROR_RECOVERY = Struct(
    PAGE,
    "page_length" / Int8ub,
    "flags"
    / BitStruct(
        "awre" / Flag,
        "arre" / Flag,
        "tb" / Flag,
        "rc" / Flag,
        Padding(1),
        "per" / Flag,
        "dte" / Flag,
        "dcr" / Flag,
    ),
    "read_retry_count" / Int8ub,
    Padding(3),
    "emcdr" / BitStruct(Padding(6), "emcdr_mode" / BitsInteger(2)),
    "write_retry_count" / Int8ub,
    Padding(3),
)
"""Page 01h."""

CD_PARAMETERS = Struct(
    PAGE,
    "page_length" / Int8ub,
    Padding(1),
    "inactivity" / BitStruct(Padding(4), "inactivity_timer" / BitsInteger(4)),
    "seconds" / Int16ub,
    "frames" / Int16ub,
)
"""Page 0Dh, as MMC-3 had it (mandatory in SFF-8020i): how long the pick-up stays after a command; seconds in a minute,
frames in a second."""

AUDIO_CONTROL = Struct(
    PAGE,
    "page_length" / Int8ub,
    "flags" / BitStruct(Padding(5), "immed" / Flag, "sotc" / Flag, Padding(1)),
    Padding(5),
    "port0" / BitStruct(Padding(4), "channel0" / BitsInteger(4)),
    "volume0" / Int8ub,
    "port1" / BitStruct(Padding(4), "channel1" / BitsInteger(4)),
    "volume1" / Int8ub,
    "port2" / BitStruct(Padding(4), "channel2" / BitsInteger(4)),
    "volume2" / Int8ub,
    "port3" / BitStruct(Padding(4), "channel3" / BitsInteger(4)),
    "volume3" / Int8ub,
)
"""Page 0Eh."""

POWER_CONDITION = Struct(
    PAGE,
    "page_length" / Int8ub,
    Padding(1),
    "timers" / BitStruct(Padding(6), "idle" / Flag, "standby" / Flag),
    "idle_timer_high" / Int16ub,
    "idle_timer_low" / Int16ub,
    "standby_timer_high" / Int16ub,
    "standby_timer_low" / Int16ub,
)
"""Page 1Ah: timers in units of 100 ms."""

TIMEOUT_PROTECT = Struct(
    PAGE,
    "page_length" / Int8ub,
    Padding(2),
    "flags" / BitStruct(Padding(4), "g3_enable" / Flag, "tmoe" / Flag, "disp" / Flag, "swpp" / Flag),
    Padding(1),
    "group1_timeout" / Int16ub,
    "group2_timeout" / Int16ub,
    "group3_timeout" / Int16ub,
)
"""Page 1Dh: time-outs in seconds."""

CAPABILITIES = Struct(
    PAGE,
    "page_length" / Int8ub,
    "reads"
    / BitStruct(
        Padding(2),
        "dvd_ram_read" / Flag,
        "dvd_r_read" / Flag,
        "dvd_rom_read" / Flag,
        "method_2" / Flag,
        "cd_rw_read" / Flag,
        "cd_r_read" / Flag,
    ),
    "writes" / Int8ub,
    "plays"
    / BitStruct(
        "buf" / Flag,
        "multi_session" / Flag,
        "mode_2_form_2" / Flag,
        "mode_2_form_1" / Flag,
        "digital_port_2" / Flag,
        "digital_port_1" / Flag,
        "composite" / Flag,
        "audio_play" / Flag,
    ),
    "audio"
    / BitStruct(
        "read_bar_code" / Flag,
        "upc" / Flag,
        "isrc" / Flag,
        "c2_pointers" / Flag,
        "rw_deinterleaved" / Flag,
        "rw_supported" / Flag,
        "cdda_accurate" / Flag,
        "cdda_commands" / Flag,
    ),
    "mechanism"
    / BitStruct(
        "loading_mechanism" / BitsInteger(3),
        Padding(1),
        "eject" / Flag,
        "prevent_jumper" / Flag,
        "lock_state" / Flag,
        "lock" / Flag,
    ),
    "channels"
    / BitStruct(
        Padding(2),
        "rw_in_lead_in" / Flag,
        "side_change" / Flag,
        "sss" / Flag,
        "sdp" / Flag,
        "separate_mute" / Flag,
        "separate_volume" / Flag,
    ),
    "maximum_read_speed" / Int16ub,
    "volume_levels" / Int16ub,
    "buffer_size" / Int16ub,
    "current_read_speed" / Int16ub,
    Padding(2),
    "maximum_write_speed" / Int16ub,
    "current_write_speed" / Int16ub,
    "copy_management_revision" / Int16ub,
    Padding(3),
    "rotation" / BitStruct(Padding(6), "rotation_control" / BitsInteger(2)),
    "selected_write_speed" / Int16ub,
    "write_speed_descriptors" / Int16ub,
)
"""Page 2Ah: speeds in kB/s of 1000 bytes, the buffer in units of 1024 bytes."""
