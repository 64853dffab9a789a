"""Bytes by field."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.tracefile import TraceReader
from guestsim.disk import boot
from guestsim.drivers import virtio_blk
from guestsim.guest import Guest
from guestsim.life import Life
from guestsim.quick import disk_machine
from guestsim.show.decode import LAYOUTS, as_text, decode, sections
from guestsim.story import lives


def test_a_descriptor_has_its_flags_by_name() -> None:
    fields = decode("virtq_desc", struct.pack("<QIHH", 0x1000, 48, 5, 0))
    assert as_text(fields) == "addr 0x1000, len 48, flags 5 NEXT|INDIRECT, next 0"
    assert [(field.offset, field.size) for field in fields] == [(0, 8), (8, 4), (12, 2), (14, 2)]


def test_the_descriptors_of_a_table_are_numbered() -> None:
    one = struct.pack("<QIHH", 0x1000, 16, 0, 0)
    assert [field.name for field in decode("virtq_desc", 2 * one)][3:5] == ["[0].next", "[1].addr"]
    assert next(field.name for field in decode("virtq_desc", one, start=16)) == "[1].addr"


def test_a_part_of_a_structure_is_decoded_as_far_as_it_reaches() -> None:
    header = struct.pack("<IIQ", 1, 0, 8)
    assert as_text(decode("virtio_blk_req", header[:4])) == "type 1 OUT"
    assert as_text(decode("virtio_blk_req", header[8:], start=8)) == "sector 8"
    assert as_text(decode("virtio_blk_req", header[:2])) == "type 01 00 of 4 bytes"


def test_configuration_fields_are_named_around_the_padding() -> None:
    fields = {field.name: field for field in decode("virtio_blk_config", bytes(range(60)))}
    assert (fields["writeback"].offset, fields["writeback"].size) == (32, 1)
    assert fields["num_queues"].value == 0x2322
    assert as_text(decode("virtio_blk_config", struct.pack("<Q", 1 << 19))) == "capacity 524288 256 MiB"


@given(st.sampled_from(sorted(LAYOUTS)), st.binary(max_size=200), st.integers(0, 200))
def test_any_bytes_are_decoded_whole(layout: str, data: bytes, start: int) -> None:
    fields = decode(layout, data, start=start)
    for field in fields:
        piece = data[field.offset : field.offset + field.size]
        assert len(piece) == field.size > 0
        value = field.value if isinstance(field.value, bytes) else field.value.to_bytes(field.size, "little")
        assert piece == value
        assert field.text
    assert len({field.offset for field in fields}) == len(fields)


@pytest.fixture
def requests(tmp_path: Path) -> list[Life]:
    """A write, a read, the identity, a discard."""
    path = tmp_path / "disk.trace"
    with disk_machine(serial="S1") as machine:
        machine.record(path)
        disk = boot(Guest(machine))
        disk.write(4096, b"\xa5" * 512)
        disk.read(4096, 1024, scatter=2)
        disk.get_id()
        disk.request(virtio_blk.discard([(0, 4096)]))
    with TraceReader(path) as reader:
        return list(lives(reader))


def told(life: Life) -> list[str]:
    return [f"{each.title}: {as_text(each.fields) or each.data.hex()[:4]}" for each in sections(life)]


def test_a_request_falls_into_its_sections(requests: list[Life]) -> None:
    write, read, identity, discard = requests
    assert told(write) == ["header: type 1 OUT, reserved 0, sector 8", "data: a5a5", "status: status 0 OK"]
    assert [each.title for each in sections(read)] == ["header", "data", "data", "status"]
    assert told(identity)[1].endswith("'S1'")
    assert told(discard)[1] == "segments: sector 0, num_sectors 8 4 KiB, flags 0"
    for life in requests:
        for section, piece in zip(sections(life), (*life.readable, *life.writable), strict=True):
            assert (section.address, len(section.data)) == (piece.address, piece.length)
