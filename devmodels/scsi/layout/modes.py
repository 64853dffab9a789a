"""Mode parameter lists and mode pages, SPC-4 §7.5 and SBC-4 §6.5."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.wire import Codec

if TYPE_CHECKING:
    from types import ModuleType

    import construct


HEADER_6 = Codec.of(
    lambda c: c.Struct(
        "mode_data_length" / c.Int8ub,
        "medium_type" / c.Int8ub,
        "device_specific" / c.Int8ub,
        "block_descriptor_length" / c.Int8ub,
    )
)
"""SPC-4 §7.5.5."""

HEADER_10 = Codec.of(
    lambda c: c.Struct(
        "mode_data_length" / c.Int16ub,
        "medium_type" / c.Int8ub,
        "device_specific" / c.Int8ub,
        "flags" / c.BitStruct(c.Padding(7), "longlba" / c.Flag),
        c.Padding(1),
        "block_descriptor_length" / c.Int16ub,
    )
)
"""SPC-4 §7.5.5."""

SHORT_DESCRIPTOR = Codec.of(
    lambda c: c.Struct(
        "number_of_blocks" / c.Int32ub,
        "block_length" / c.Int32ub,
    )
)
"""SBC-4 §6.5.2.2; the block length's highest byte is reserved."""

LONG_DESCRIPTOR = Codec.of(
    lambda c: c.Struct(
        "number_of_blocks" / c.Int64ub,
        c.Padding(4),
        "block_length" / c.Int32ub,
    )
)
"""SBC-4 §6.5.2.3."""


def page_byte(c: ModuleType) -> construct.Construct:
    """The first byte of every mode page."""
    return "page" / c.BitStruct("ps" / c.Flag, "spf" / c.Flag, "page_code" / c.BitsInteger(6))


PAGE_HEADER = Codec.of(lambda c: c.Struct(page_byte(c), "page_length" / c.Int8ub))
"""SPC-4 §7.5.7."""

SUBPAGE_HEADER = Codec.of(
    lambda c: c.Struct(page_byte(c), "subpage_code" / c.Int8ub, "page_length" / c.Int16ub)
)
"""SPC-4 §7.5.7."""

READ_WRITE_ERROR_RECOVERY = Codec.of(
    lambda c: c.Struct(
        page_byte(c),
        "page_length" / c.Int8ub,
        "flags"
        / c.BitStruct(
            "awre" / c.Flag,
            "arre" / c.Flag,
            "tb" / c.Flag,
            "rc" / c.Flag,
            "eer" / c.Flag,
            "per" / c.Flag,
            "dte" / c.Flag,
            "dcr" / c.Flag,
        ),
        "read_retry_count" / c.Int8ub,
        c.Padding(3),
        "flags2" / c.BitStruct("lbpere" / c.Flag, "mwr" / c.BitsInteger(2), c.Padding(5)),
        "write_retry_count" / c.Int8ub,
        c.Padding(1),
        "recovery_time_limit" / c.Int16ub,
    )
)
"""Page 01h, SBC-4 §6.5.10."""

CACHING = Codec.of(
    lambda c: c.Struct(
        page_byte(c),
        "page_length" / c.Int8ub,
        "flags"
        / c.BitStruct(
            "ic" / c.Flag,
            "abpf" / c.Flag,
            "cap" / c.Flag,
            "disc" / c.Flag,
            "size" / c.Flag,
            "wce" / c.Flag,
            "mf" / c.Flag,
            "rcd" / c.Flag,
        ),
        "retention"
        / c.BitStruct("demand_read_retention" / c.BitsInteger(4), "write_retention" / c.BitsInteger(4)),
        "disable_prefetch_transfer_length" / c.Int16ub,
        "minimum_prefetch" / c.Int16ub,
        "maximum_prefetch" / c.Int16ub,
        "maximum_prefetch_ceiling" / c.Int16ub,
        "flags2"
        / c.BitStruct(
            "fsw" / c.Flag,
            "lbcss" / c.Flag,
            "dra" / c.Flag,
            "vendor" / c.BitsInteger(2),
            "sync_prog" / c.BitsInteger(2),
            "nv_dis" / c.Flag,
        ),
        "number_of_cache_segments" / c.Int8ub,
        "cache_segment_size" / c.Int16ub,
        c.Padding(4),
    )
)
"""Page 08h, SBC-4 §6.5.6."""

CONTROL = Codec.of(
    lambda c: c.Struct(
        page_byte(c),
        "page_length" / c.Int8ub,
        "flags"
        / c.BitStruct(
            "tst" / c.BitsInteger(3),
            "tmf_only" / c.Flag,
            "dpicz" / c.Flag,
            "d_sense" / c.Flag,
            "gltsd" / c.Flag,
            "rlec" / c.Flag,
        ),
        "queue"
        / c.BitStruct(
            "queue_algorithm_modifier" / c.BitsInteger(4),
            "nuar" / c.Flag,
            "qerr" / c.BitsInteger(2),
            c.Padding(1),
        ),
        "flags2"
        / c.BitStruct(
            "vs" / c.Flag, "rac" / c.Flag, "ua_intlck_ctrl" / c.BitsInteger(2), "swp" / c.Flag, c.Padding(3)
        ),
        "flags3"
        / c.BitStruct(
            "ato" / c.Flag,
            "tas" / c.Flag,
            "atmpe" / c.Flag,
            "rwwp" / c.Flag,
            c.Padding(1),
            "autoload_mode" / c.BitsInteger(3),
        ),
        c.Padding(2),
        "busy_timeout_period" / c.Int16ub,
        "extended_self_test_completion_time" / c.Int16ub,
    )
)
"""Page 0Ah, SPC-4 §7.5.8."""

CONTROL_EXTENSION = Codec.of(
    lambda c: c.Struct(
        page_byte(c),
        "subpage_code" / c.Int8ub,
        "page_length" / c.Int16ub,
        "flags" / c.BitStruct(c.Padding(5), "tcmos" / c.Flag, "scsip" / c.Flag, "ialuae" / c.Flag),
        "priority" / c.BitStruct(c.Padding(4), "initial_command_priority" / c.BitsInteger(4)),
        "maximum_sense_data_length" / c.Int8ub,
        c.Padding(25),
    )
)
"""Page 0Ah subpage 01h, SPC-4 §7.5.9."""

INFORMATIONAL_EXCEPTIONS = Codec.of(
    lambda c: c.Struct(
        page_byte(c),
        "page_length" / c.Int8ub,
        "flags"
        / c.BitStruct(
            "perf" / c.Flag,
            c.Padding(1),
            "ebf" / c.Flag,
            "ewasc" / c.Flag,
            "dexcpt" / c.Flag,
            "test" / c.Flag,
            "ebackerr" / c.Flag,
            "logerr" / c.Flag,
        ),
        "method" / c.BitStruct(c.Padding(4), "mrie" / c.BitsInteger(4)),
        "interval_timer" / c.Int32ub,
        "report_count" / c.Int32ub,
    )
)
"""Page 1Ch, SPC-4 §7.5.13; SBC-4 §6.5.8."""

PROVISIONING = Codec.of(
    lambda c: c.Struct(
        page_byte(c),
        "subpage_code" / c.Int8ub,
        "page_length" / c.Int16ub,
        "flags" / c.BitStruct(c.Padding(7), "situa" / c.Flag),
        c.Padding(11),
    )
)
"""Page 1Ch subpage 02h, SBC-4 §6.5.9: the header, which threshold descriptors follow."""

THRESHOLD = Codec.of(
    lambda c: c.Struct(
        "flags"
        / c.BitStruct(
            "enabled" / c.Flag,
            c.Padding(1),
            "threshold_type" / c.BitsInteger(3),
            "threshold_arming" / c.BitsInteger(3),
        ),
        "threshold_resource" / c.Int8ub,
        c.Padding(2),
        "threshold_count" / c.Int32ub,
    )
)
"""SBC-4 §6.5.9.2."""
