"""Feature descriptors of GET CONFIGURATION: MMC-6 §5.3."""

from __future__ import annotations

from construct import BitsInteger, BitStruct, Flag, Int8ub, Int16ub, Int32ub, Padding, Struct

HEADER = Struct("length" / Int32ub, Padding(2), "current_profile" / Int16ub)

DESCRIPTOR = Struct(
    "feature_code" / Int16ub,
    "flags" / BitStruct(Padding(2), "version" / BitsInteger(4), "persistent" / Flag, "current" / Flag),
    "additional_length" / Int8ub,
)

PROFILE = Struct("profile" / Int16ub, "state" / BitStruct(Padding(7), "current_p" / Flag), Padding(1))
"""Of feature 0000h, which lists them."""

CORE = Struct(
    "physical_interface" / Int32ub, "flags" / BitStruct(Padding(6), "inq2" / Flag, "dbe" / Flag), Padding(3)
)
"""0001h."""

MORPHING = Struct("flags" / BitStruct(Padding(6), "ocevent" / Flag, "async_" / Flag), Padding(3))
"""0002h."""

REMOVABLE_MEDIUM = Struct(
    "flags"
    / BitStruct(
        "loading_mechanism" / BitsInteger(3),
        "load" / Flag,
        "eject" / Flag,
        "prevent_jumper" / Flag,
        "dbml" / Flag,
        "lock" / Flag,
    ),
    Padding(3),
)
"""0003h."""

RANDOM_READABLE = Struct(
    "block_size" / Int32ub, "blocking" / Int16ub, "flags" / BitStruct(Padding(7), "pp" / Flag), Padding(1)
)
"""0010h."""

CD_READ = Struct(
    "flags" / BitStruct("dap" / Flag, Padding(5), "c2_flags" / Flag, "cd_text" / Flag), Padding(3)
)
"""001Eh."""

DVD_READ = Struct(
    "flags" / BitStruct(Padding(7), "multi110" / Flag),
    Padding(1),
    "dual" / BitStruct(Padding(6), "dual_rw" / Flag, "dual_r" / Flag),
    Padding(1),
)
"""001Fh."""

BD_READ = Struct(
    Padding(4),
    "re_classes" / Int16ub[4],
    "r_classes" / Int16ub[4],
    "rom_classes" / Int16ub[4],
)
"""0040h: for each class a bitmap of versions that can be read."""

EXTERNAL_AUDIO = Struct(
    "flags" / BitStruct(Padding(5), "scan" / Flag, "scm" / Flag, "sv" / Flag),
    Padding(1),
    "volume_levels" / Int16ub,
)
"""0103h."""

TIMEOUT = Struct("flags" / BitStruct(Padding(7), "group3" / Flag), Padding(1), "unit_length" / Int16ub)
"""0105h."""

STREAMING = Struct(
    "flags" / BitStruct(Padding(3), "rbcb" / Flag, "scs" / Flag, "mp2a" / Flag, "wspd" / Flag, "sw" / Flag),
    Padding(3),
)
"""0107h."""
