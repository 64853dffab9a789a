"""Feature descriptors of GET CONFIGURATION: MMC-6 §5.3."""

from __future__ import annotations

from devmodels.wire import Codec

HEADER = Codec.of(lambda c: c.Struct("length" / c.Int32ub, c.Padding(2), "current_profile" / c.Int16ub))

DESCRIPTOR = Codec.of(
    lambda c: c.Struct(
        "feature_code" / c.Int16ub,
        "flags"
        / c.BitStruct(c.Padding(2), "version" / c.BitsInteger(4), "persistent" / c.Flag, "current" / c.Flag),
        "additional_length" / c.Int8ub,
    )
)

PROFILE = Codec.of(
    lambda c: c.Struct(
        "profile" / c.Int16ub, "state" / c.BitStruct(c.Padding(7), "current_p" / c.Flag), c.Padding(1)
    )
)
"""Of feature 0000h, which lists them."""

CORE = Codec.of(
    lambda c: c.Struct(
        "physical_interface" / c.Int32ub,
        "flags" / c.BitStruct(c.Padding(6), "inq2" / c.Flag, "dbe" / c.Flag),
        c.Padding(3),
    )
)
"""0001h."""

MORPHING = Codec.of(
    lambda c: c.Struct(
        "flags" / c.BitStruct(c.Padding(6), "ocevent" / c.Flag, "async_" / c.Flag), c.Padding(3)
    )
)
"""0002h."""

REMOVABLE_MEDIUM = Codec.of(
    lambda c: c.Struct(
        "flags"
        / c.BitStruct(
            "loading_mechanism" / c.BitsInteger(3),
            "load" / c.Flag,
            "eject" / c.Flag,
            "prevent_jumper" / c.Flag,
            "dbml" / c.Flag,
            "lock" / c.Flag,
        ),
        c.Padding(3),
    )
)
"""0003h."""

RANDOM_READABLE = Codec.of(
    lambda c: c.Struct(
        "block_size" / c.Int32ub,
        "blocking" / c.Int16ub,
        "flags" / c.BitStruct(c.Padding(7), "pp" / c.Flag),
        c.Padding(1),
    )
)
"""0010h."""

CD_READ = Codec.of(
    lambda c: c.Struct(
        "flags" / c.BitStruct("dap" / c.Flag, c.Padding(5), "c2_flags" / c.Flag, "cd_text" / c.Flag),
        c.Padding(3),
    )
)
"""001Eh."""

DVD_READ = Codec.of(
    lambda c: c.Struct(
        "flags" / c.BitStruct(c.Padding(7), "multi110" / c.Flag),
        c.Padding(1),
        "dual" / c.BitStruct(c.Padding(6), "dual_rw" / c.Flag, "dual_r" / c.Flag),
        c.Padding(1),
    )
)
"""001Fh."""

BD_READ = Codec.of(
    lambda c: c.Struct(
        c.Padding(4),
        "re_classes" / c.Int16ub[4],
        "r_classes" / c.Int16ub[4],
        "rom_classes" / c.Int16ub[4],
    )
)
"""0040h: for each class a bitmap of versions that can be read."""

EXTERNAL_AUDIO = Codec.of(
    lambda c: c.Struct(
        "flags" / c.BitStruct(c.Padding(5), "scan" / c.Flag, "scm" / c.Flag, "sv" / c.Flag),
        c.Padding(1),
        "volume_levels" / c.Int16ub,
    )
)
"""0103h."""

TIMEOUT = Codec.of(
    lambda c: c.Struct(
        "flags" / c.BitStruct(c.Padding(7), "group3" / c.Flag), c.Padding(1), "unit_length" / c.Int16ub
    )
)
"""0105h."""

STREAMING = Codec.of(
    lambda c: c.Struct(
        "flags"
        / c.BitStruct(
            c.Padding(3), "rbcb" / c.Flag, "scs" / c.Flag, "mp2a" / c.Flag, "wspd" / c.Flag, "sw" / c.Flag
        ),
        c.Padding(3),
    )
)
"""0107h."""
