"""Codecs derived from construct declarations."""

from __future__ import annotations

import struct
from types import ModuleType

import construct
import pytest
from construct import (
    Array,
    BitsInteger,
    BitStruct,
    Bytes,
    Const,
    Flag,
    GreedyBytes,
    IfThenElse,
    Int8ub,
    Int8ul,
    Int16sl,
    Int16ub,
    Int16ul,
    Int32sb,
    Int32ub,
    Int32ul,
    Int64ub,
    Int64ul,
    Padding,
    Prefixed,
    Struct,
    this,
)
from hypothesis import given
from hypothesis import strategies as st

from devmodels.ahci import fis
from devmodels.ahci import layout as ahci
from devmodels.virtio import layout as ring
from devmodels.virtio_blk import VirtioBlk
from devmodels.virtio_blk import layout as blk
from devmodels.virtio_blk.request import HEADER_SIZE, SEGMENT_SIZE
from devmodels.virtio_scsi import VirtioScsi
from devmodels.virtio_scsi import layout as scsi
from devmodels.wire import Codec, LayoutError, WireError

HEADER = Struct("type" / Int32ul, "ioprio" / Int32ul, "sector" / Int64ul)
NESTED = Struct(
    "magic" / Const(b"VX"),
    "header" / HEADER,
    Padding(3),
    "ring" / Array(2, Struct("id" / Int32ul, "flag" / Int8ul)),
    "tag" / Bytes(5),
    Const(7, Int16ul),
    "offset" / Int16sl,
)


def test_values_come_in_the_order_of_the_declaration() -> None:
    codec = Codec.ints(HEADER)
    assert codec.size == 16
    assert codec.names == ("type", "ioprio", "sector")
    assert codec.unpack_from(b"\xee" + struct.pack("<IIQ", 1, 2, 3), 1) == (1, 2, 3)
    buffer = bytearray(20)
    codec.pack_into(buffer, 4, 8, 0, 1 << 40)
    assert bytes(buffer) == bytes(4) + codec.build({"type": 8, "ioprio": 0, "sector": 1 << 40})


def test_nested_structures_arrays_padding_and_constants() -> None:
    codec = Codec.of(NESTED)
    assert codec.names == (
        "header.type",
        "header.ioprio",
        "header.sector",
        "ring[0].id",
        "ring[0].flag",
        "ring[1].id",
        "ring[1].flag",
        "tag",
        "offset",
    )
    packed = codec.pack(1, 2, 3, 4, 5, 6, 7, b"abcde", -8)
    assert len(packed) == codec.size == NESTED.sizeof()
    assert codec.unpack_from(packed, 0) == (1, 2, 3, 4, 5, 6, 7, b"abcde", -8)
    parsed = codec.parse(packed)
    assert (parsed.header.sector, parsed.ring[1].flag, parsed.tag, parsed.offset) == (3, 7, b"abcde", -8)


def test_offsets_are_those_of_the_bytes() -> None:
    offsets = Codec.of(NESTED).offsets
    assert (offsets["magic"], offsets["header.sector"], offsets["ring[1].id"], offsets["offset"]) == (
        0,
        10,
        26,
        38,
    )


def test_big_endian_structures() -> None:
    assert Codec.ints(Struct("op" / Int8ub, "lba" / Int32ub, "n" / Int16ub)).pack(1, 2, 3) == bytes.fromhex(
        "01 00000002 0003"
    )


def test_bit_fields_are_one_big_endian_integer() -> None:
    layout = Struct(
        "flags" / BitStruct("kind" / BitsInteger(3), "last" / Flag, Padding(4)),
        "pair" / BitStruct("high" / BitsInteger(12), "low" / BitsInteger(4)),
    )
    codec = Codec.ints(layout)
    assert codec.unpack_from(b"\xb5\x12\x34", 0) == (0xB5, 0x1234)
    assert codec.pack(0xB0, 0x1234) == b"\xb0\x12\x34"
    assert layout.parse(b"\xb5\x12\x34").pair.high == 0x123
    with pytest.raises(LayoutError, match="three"):
        Codec.ints(Struct("three" / BitStruct("bits" / BitsInteger(24))))


def test_a_wrong_constant_is_told_by_name() -> None:
    codec = Codec.of(NESTED)
    packed = bytearray(codec.size)
    with pytest.raises(WireError, match=r"magic is .*, not b'VX'"):
        codec.unpack_from(packed, 0)


def test_too_few_or_too_many_values_are_the_callers_mistake() -> None:
    codec = Codec.of(NESTED)
    with pytest.raises(struct.error, match="9 values expected, 1 given"):
        codec.pack(1)
    with pytest.raises(struct.error):
        Codec.ints(HEADER).pack(1, 2, 3, 4)


@pytest.mark.parametrize(
    ("declaration", "message"),
    [
        (Struct("n" / Int8ul, "body" / Bytes(this.n)), "body: its length depends on other fields"),
        (Struct("n" / Int8ul, "body" / Array(this.n, Int8ul)), "body: its count depends on other fields"),
        (Struct("rest" / GreedyBytes), "rest: .* has no fixed layout"),
        (Struct("s" / Prefixed(Int8ul, GreedyBytes)), "s: Prefixed has no fixed layout"),
        (
            Struct("n" / Int8ul, "c" / IfThenElse(this.n, Int8ul, Int16ul)),
            "c: IfThenElse has no fixed layout",
        ),
        (Struct("real" / construct.Float32l), "real: FormatField has no fixed layout"),
        (Struct("a" / Int16ul, "b" / Int16ub), "little- and big-endian"),
    ],
)
def test_what_has_no_fixed_layout_is_refused_with_its_name(
    declaration: construct.Construct, message: str
) -> None:
    with pytest.raises(LayoutError, match=message):
        Codec.of(declaration)


def test_bytes_are_not_integers() -> None:
    with pytest.raises(LayoutError, match="tag is bytes"):
        Codec.ints(NESTED)


# --- both forms agree

_LITTLE = (Int8ul, Int16ul, Int16sl, Int32ul, Int64ul)
_BIG = (Int8ub, Int16ub, Int32sb, Int32ub, Int64ub)


def _members(order: tuple[construct.Construct, ...]) -> st.SearchStrategy[construct.Construct]:
    leaf = st.one_of(
        st.sampled_from(order),
        st.integers(0, 6).map(Bytes),
    )
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.tuples(st.integers(0, 3), inner).map(lambda pair: Array(*pair)),
            st.lists(inner, max_size=3).map(_structure),
        ),
        max_leaves=6,
    )


def _structure(members: list[construct.Construct]) -> construct.Construct:
    parts = []
    for number, member in enumerate(members):
        parts += [f"m{number}" / member, Padding(number % 3)]
    return Struct(*parts)


declarations = st.sampled_from((_LITTLE, _BIG)).flatmap(
    lambda order: st.lists(_members(order), min_size=1, max_size=5).map(_structure)
)


def _flat(value: object) -> list[object]:
    """Leaves of a parsed value in order."""
    if isinstance(value, construct.Container):
        return [leaf for name, item in value.items() if not name.startswith("_") for leaf in _flat(item)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in _flat(item)]
    return [value]


@given(declarations, st.data())
def test_the_codec_and_construct_read_and_write_the_same_bytes(
    declaration: construct.Construct, data: st.DataObject
) -> None:
    codec = Codec.of(declaration)
    size = declaration.sizeof()
    assert codec.size == size
    raw = data.draw(st.binary(min_size=size, max_size=size))
    parsed = codec.parse(raw)
    values = codec.unpack_from(b"?" + raw, 1)
    assert list(values) == _flat(parsed)
    assert len(values) == len(codec.names)
    buffer = bytearray(size + 2)
    codec.pack_into(buffer, 1, *values)
    assert bytes(buffer[1:-1]) == codec.pack(*values) == codec.build(parsed)
    assert (buffer[0], buffer[-1]) == (0, 0)


def test_a_declaration_is_made_when_it_is_wanted() -> None:
    made = 0

    def declare(c: ModuleType) -> construct.Construct:
        nonlocal made
        made += 1
        return c.Struct("id" / c.Int32ul, "len" / c.Int32ul)

    codec = Codec.ints(declare)
    assert made == 0, made
    assert codec.unpack_from(struct.pack("<II", 7, 512), 0) == (7, 512)
    assert (codec.size, codec.names, codec.times(2).format) == (8, ("id", "len"), "<LLLL")
    assert codec.parse(codec.pack(1, 2)).len == 2
    assert made == 1
    with pytest.raises(AttributeError):
        codec.nothing  # noqa: B018


def test_bytes_are_refused_when_a_codec_of_integers_is_first_used() -> None:
    codec = Codec.ints(lambda c: c.Struct("tag" / c.Bytes(5)))
    with pytest.raises(LayoutError, match="tag is bytes"):
        codec.pack(1)


@pytest.mark.parametrize(
    ("codec", "size"),
    [
        (ahci.COMMAND_HEADER, ahci.HEADER_SIZE),
        (ahci.PRD, ahci.PRD_SIZE),
        (fis.REGISTER_H2D, fis.H2D_SIZE),
        (ring.VIRTQ_DESC, ring.DESC_SIZE),
        (ring.PVIRTQ_DESC, ring.DESC_SIZE),
        (blk.REQUEST_HEADER, HEADER_SIZE),
        (blk.RANGE_SEGMENT, SEGMENT_SIZE),
        (blk.CONFIG, VirtioBlk.CONFIG_SIZE),
        (scsi.CONFIG, VirtioScsi.CONFIG_SIZE),
        (scsi.COMMAND_FIXED, scsi.COMMAND_SIZE),
        (scsi.RESPONSE_FIXED, scsi.RESPONSE_SIZE),
        (scsi.EVENT, scsi.EVENT_SIZE),
    ],
)
def test_sizes_that_are_known_beforehand(codec: Codec[int], size: int) -> None:
    assert codec.size == size


def test_offsets_that_are_known_beforehand() -> None:
    offsets = scsi.CONFIG.offsets
    assert (offsets["sense_size"], offsets["cdb_size"]) == (scsi.SENSE_SIZE_AT, scsi.CDB_SIZE_AT)
