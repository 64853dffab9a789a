"""Mode parameter lists and mode pages, SPC-4 §7.5 and SBC-4 §6.5."""

from __future__ import annotations

from construct import BitsInteger, BitStruct, Flag, Int8ub, Int16ub, Int32ub, Int64ub, Padding, Struct

HEADER_6 = Struct(
    "mode_data_length" / Int8ub,
    "medium_type" / Int8ub,
    "device_specific" / Int8ub,
    "block_descriptor_length" / Int8ub,
)
"""SPC-4 §7.5.5."""

HEADER_10 = Struct(
    "mode_data_length" / Int16ub,
    "medium_type" / Int8ub,
    "device_specific" / Int8ub,
    "flags" / BitStruct(Padding(7), "longlba" / Flag),
    Padding(1),
    "block_descriptor_length" / Int16ub,
)
"""SPC-4 §7.5.5."""

SHORT_DESCRIPTOR = Struct(
    "number_of_blocks" / Int32ub,
    "block_length" / Int32ub,
)
"""SBC-4 §6.5.2.2; the block length's highest byte is reserved."""

LONG_DESCRIPTOR = Struct(
    "number_of_blocks" / Int64ub,
    Padding(4),
    "block_length" / Int32ub,
)
"""SBC-4 §6.5.2.3."""

PAGE = "page" / BitStruct("ps" / Flag, "spf" / Flag, "page_code" / BitsInteger(6))

PAGE_HEADER = Struct(PAGE, "page_length" / Int8ub)
"""SPC-4 §7.5.7."""

SUBPAGE_HEADER = Struct(PAGE, "subpage_code" / Int8ub, "page_length" / Int16ub)
"""SPC-4 §7.5.7."""

READ_WRITE_ERROR_RECOVERY = Struct(
    PAGE,
    "page_length" / Int8ub,
    "flags"
    / BitStruct(
        "awre" / Flag,
        "arre" / Flag,
        "tb" / Flag,
        "rc" / Flag,
        "eer" / Flag,
        "per" / Flag,
        "dte" / Flag,
        "dcr" / Flag,
    ),
    "read_retry_count" / Int8ub,
    Padding(3),
    "flags2" / BitStruct("lbpere" / Flag, "mwr" / BitsInteger(2), Padding(5)),
    "write_retry_count" / Int8ub,
    Padding(1),
    "recovery_time_limit" / Int16ub,
)
"""Page 01h, SBC-4 §6.5.10."""

CACHING = Struct(
    PAGE,
    "page_length" / Int8ub,
    "flags"
    / BitStruct(
        "ic" / Flag,
        "abpf" / Flag,
        "cap" / Flag,
        "disc" / Flag,
        "size" / Flag,
        "wce" / Flag,
        "mf" / Flag,
        "rcd" / Flag,
    ),
    "retention" / BitStruct("demand_read_retention" / BitsInteger(4), "write_retention" / BitsInteger(4)),
    "disable_prefetch_transfer_length" / Int16ub,
    "minimum_prefetch" / Int16ub,
    "maximum_prefetch" / Int16ub,
    "maximum_prefetch_ceiling" / Int16ub,
    "flags2"
    / BitStruct(
        "fsw" / Flag,
        "lbcss" / Flag,
        "dra" / Flag,
        "vendor" / BitsInteger(2),
        "sync_prog" / BitsInteger(2),
        "nv_dis" / Flag,
    ),
    "number_of_cache_segments" / Int8ub,
    "cache_segment_size" / Int16ub,
    Padding(4),
)
"""Page 08h, SBC-4 §6.5.6."""

CONTROL = Struct(
    PAGE,
    "page_length" / Int8ub,
    "flags"
    / BitStruct(
        "tst" / BitsInteger(3),
        "tmf_only" / Flag,
        "dpicz" / Flag,
        "d_sense" / Flag,
        "gltsd" / Flag,
        "rlec" / Flag,
    ),
    "queue"
    / BitStruct(
        "queue_algorithm_modifier" / BitsInteger(4), "nuar" / Flag, "qerr" / BitsInteger(2), Padding(1)
    ),
    "flags2"
    / BitStruct("vs" / Flag, "rac" / Flag, "ua_intlck_ctrl" / BitsInteger(2), "swp" / Flag, Padding(3)),
    "flags3"
    / BitStruct(
        "ato" / Flag,
        "tas" / Flag,
        "atmpe" / Flag,
        "rwwp" / Flag,
        Padding(1),
        "autoload_mode" / BitsInteger(3),
    ),
    Padding(2),
    "busy_timeout_period" / Int16ub,
    "extended_self_test_completion_time" / Int16ub,
)
"""Page 0Ah, SPC-4 §7.5.8."""

CONTROL_EXTENSION = Struct(
    PAGE,
    "subpage_code" / Int8ub,
    "page_length" / Int16ub,
    "flags" / BitStruct(Padding(5), "tcmos" / Flag, "scsip" / Flag, "ialuae" / Flag),
    "priority" / BitStruct(Padding(4), "initial_command_priority" / BitsInteger(4)),
    "maximum_sense_data_length" / Int8ub,
    Padding(25),
)
"""Page 0Ah subpage 01h, SPC-4 §7.5.9."""

INFORMATIONAL_EXCEPTIONS = Struct(
    PAGE,
    "page_length" / Int8ub,
    "flags"
    / BitStruct(
        "perf" / Flag,
        Padding(1),
        "ebf" / Flag,
        "ewasc" / Flag,
        "dexcpt" / Flag,
        "test" / Flag,
        "ebackerr" / Flag,
        "logerr" / Flag,
    ),
    "method" / BitStruct(Padding(4), "mrie" / BitsInteger(4)),
    "interval_timer" / Int32ub,
    "report_count" / Int32ub,
)
"""Page 1Ch, SPC-4 §7.5.13; SBC-4 §6.5.8."""

PROVISIONING = Struct(
    PAGE,
    "subpage_code" / Int8ub,
    "page_length" / Int16ub,
    "flags" / BitStruct(Padding(7), "situa" / Flag),
    Padding(11),
)
"""Page 1Ch subpage 02h, SBC-4 §6.5.9: the header, which threshold descriptors follow."""

THRESHOLD = Struct(
    "flags"
    / BitStruct(
        "enabled" / Flag, Padding(1), "threshold_type" / BitsInteger(3), "threshold_arming" / BitsInteger(3)
    ),
    "threshold_resource" / Int8ub,
    Padding(2),
    "threshold_count" / Int32ub,
)
"""SBC-4 §6.5.9.2."""
