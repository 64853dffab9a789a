"""Mode pages of CD, DVD and BD drives: MMC-6 §7; pages 0Dh and 0Eh as MMC-3 had them, page 2Ah MMC-3 §6.3.11."""

from __future__ import annotations

from devmodels.scsi.layout.modes import page_byte
from devmodels.wire import Codec

ERROR_RECOVERY = Codec.of(
    lambda c: c.Struct(
        page_byte(c),
        "page_length" / c.Int8ub,
        "flags"
        / c.BitStruct(
            "awre" / c.Flag,
            "arre" / c.Flag,
            "tb" / c.Flag,
            "rc" / c.Flag,
            c.Padding(1),
            "per" / c.Flag,
            "dte" / c.Flag,
            "dcr" / c.Flag,
        ),
        "read_retry_count" / c.Int8ub,
        c.Padding(3),
        "emcdr" / c.BitStruct(c.Padding(6), "emcdr_mode" / c.BitsInteger(2)),
        "write_retry_count" / c.Int8ub,
        c.Padding(3),
    )
)
"""Page 01h."""

CD_PARAMETERS = Codec.of(
    lambda c: c.Struct(
        page_byte(c),
        "page_length" / c.Int8ub,
        c.Padding(1),
        "inactivity" / c.BitStruct(c.Padding(4), "inactivity_timer" / c.BitsInteger(4)),
        "seconds" / c.Int16ub,
        "frames" / c.Int16ub,
    )
)
"""Page 0Dh, as MMC-3 had it (mandatory in SFF-8020i): how long the pick-up stays after a command; seconds in a minute,
frames in a second."""

AUDIO_CONTROL = Codec.of(
    lambda c: c.Struct(
        page_byte(c),
        "page_length" / c.Int8ub,
        "flags" / c.BitStruct(c.Padding(5), "immed" / c.Flag, "sotc" / c.Flag, c.Padding(1)),
        c.Padding(5),
        "port0" / c.BitStruct(c.Padding(4), "channel0" / c.BitsInteger(4)),
        "volume0" / c.Int8ub,
        "port1" / c.BitStruct(c.Padding(4), "channel1" / c.BitsInteger(4)),
        "volume1" / c.Int8ub,
        "port2" / c.BitStruct(c.Padding(4), "channel2" / c.BitsInteger(4)),
        "volume2" / c.Int8ub,
        "port3" / c.BitStruct(c.Padding(4), "channel3" / c.BitsInteger(4)),
        "volume3" / c.Int8ub,
    )
)
"""Page 0Eh."""

POWER_CONDITION = Codec.of(
    lambda c: c.Struct(
        page_byte(c),
        "page_length" / c.Int8ub,
        c.Padding(1),
        "timers" / c.BitStruct(c.Padding(6), "idle" / c.Flag, "standby" / c.Flag),
        "idle_timer_high" / c.Int16ub,
        "idle_timer_low" / c.Int16ub,
        "standby_timer_high" / c.Int16ub,
        "standby_timer_low" / c.Int16ub,
    )
)
"""Page 1Ah: timers in units of 100 ms."""

TIMEOUT_PROTECT = Codec.of(
    lambda c: c.Struct(
        page_byte(c),
        "page_length" / c.Int8ub,
        c.Padding(2),
        "flags"
        / c.BitStruct(c.Padding(4), "g3_enable" / c.Flag, "tmoe" / c.Flag, "disp" / c.Flag, "swpp" / c.Flag),
        c.Padding(1),
        "group1_timeout" / c.Int16ub,
        "group2_timeout" / c.Int16ub,
        "group3_timeout" / c.Int16ub,
    )
)
"""Page 1Dh: time-outs in seconds."""

CAPABILITIES = Codec.of(
    lambda c: c.Struct(
        page_byte(c),
        "page_length" / c.Int8ub,
        "reads"
        / c.BitStruct(
            c.Padding(2),
            "dvd_ram_read" / c.Flag,
            "dvd_r_read" / c.Flag,
            "dvd_rom_read" / c.Flag,
            "method_2" / c.Flag,
            "cd_rw_read" / c.Flag,
            "cd_r_read" / c.Flag,
        ),
        "writes" / c.Int8ub,
        "plays"
        / c.BitStruct(
            "buf" / c.Flag,
            "multi_session" / c.Flag,
            "mode_2_form_2" / c.Flag,
            "mode_2_form_1" / c.Flag,
            "digital_port_2" / c.Flag,
            "digital_port_1" / c.Flag,
            "composite" / c.Flag,
            "audio_play" / c.Flag,
        ),
        "audio"
        / c.BitStruct(
            "read_bar_code" / c.Flag,
            "upc" / c.Flag,
            "isrc" / c.Flag,
            "c2_pointers" / c.Flag,
            "rw_deinterleaved" / c.Flag,
            "rw_supported" / c.Flag,
            "cdda_accurate" / c.Flag,
            "cdda_commands" / c.Flag,
        ),
        "mechanism"
        / c.BitStruct(
            "loading_mechanism" / c.BitsInteger(3),
            c.Padding(1),
            "eject" / c.Flag,
            "prevent_jumper" / c.Flag,
            "lock_state" / c.Flag,
            "lock" / c.Flag,
        ),
        "channels"
        / c.BitStruct(
            c.Padding(2),
            "rw_in_lead_in" / c.Flag,
            "side_change" / c.Flag,
            "sss" / c.Flag,
            "sdp" / c.Flag,
            "separate_mute" / c.Flag,
            "separate_volume" / c.Flag,
        ),
        "maximum_read_speed" / c.Int16ub,
        "volume_levels" / c.Int16ub,
        "buffer_size" / c.Int16ub,
        "current_read_speed" / c.Int16ub,
        c.Padding(2),
        "maximum_write_speed" / c.Int16ub,
        "current_write_speed" / c.Int16ub,
        "copy_management_revision" / c.Int16ub,
        c.Padding(3),
        "rotation" / c.BitStruct(c.Padding(6), "rotation_control" / c.BitsInteger(2)),
        "selected_write_speed" / c.Int16ub,
        "write_speed_descriptors" / c.Int16ub,
    )
)
"""Page 2Ah: speeds in kB/s of 1000 bytes, the buffer in units of 1024 bytes."""
