"""Sense data in both formats (SPC-4 §4.5)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.scsi.asc import Asc
from devmodels.scsi.constants import SenseKey
from devmodels.scsi.sense import FieldPointer, Sense
from tests.unit.scsi import legalsense
from tests.unit.scsi.initiator import World


def test_the_fixed_format() -> None:
    sense = Sense(SenseKey.ILLEGAL_REQUEST, Asc.LBA_OUT_OF_RANGE, information=0x1234)
    assert sense.build(descriptors=False).hex(" ") == "f0 00 05 00 00 12 34 0a 00 00 00 00 21 00 00 00 00 00"


def test_the_descriptor_format() -> None:
    sense = Sense(SenseKey.ILLEGAL_REQUEST, Asc.LBA_OUT_OF_RANGE, information=0x1_2345_6789)
    assert (
        sense.build(descriptors=True).hex(" ")
        == "72 05 21 00 00 00 00 0c 00 0a 80 00 00 00 00 01 23 45 67 89"
    )


def test_information_that_does_not_fit_is_not_valid() -> None:
    data = Sense(SenseKey.ILLEGAL_REQUEST, Asc.LBA_OUT_OF_RANGE, information=1 << 32).build(descriptors=False)
    assert data[0] == 0x70
    assert data[3:7] == bytes(4)


@pytest.mark.parametrize(
    ("pointer", "expected"),
    [
        (FieldPointer(2, 5), "cd 00 02"),
        (FieldPointer(2), "c0 00 02"),
        (FieldPointer(0x105, 0, in_cdb=False), "88 01 05"),
    ],
)
def test_the_field_pointer(pointer: FieldPointer, expected: str) -> None:
    sense = Sense(SenseKey.ILLEGAL_REQUEST, Asc.INVALID_FIELD_IN_CDB, pointer)
    assert sense.build(descriptors=False)[15:].hex(" ") == expected
    assert sense.build(descriptors=True)[8:].hex(" ") == f"02 06 00 00 {expected} 00"


def test_progress() -> None:
    sense = Sense(SenseKey.NOT_READY, Asc.FORMAT_IN_PROGRESS, progress=0x8000)
    assert sense.build(descriptors=False)[15:].hex(" ") == "80 80 00"


@given(
    st.sampled_from(SenseKey),
    st.integers(0, 0xFFFF),
    st.none() | st.integers(0, 2**64 - 1),
    st.none() | st.integers(0, 2**32 - 1),
    st.none() | st.integers(0, 1 << 20),
    st.booleans(),
)
def test_lengths_agree(
    key: SenseKey, code: int, information: int | None, specific: int | None, progress: int | None, ili: bool
) -> None:
    sense = Sense(key, code, information=information, command_specific=specific, progress=progress, ili=ili)
    for descriptors in (False, True):
        parsed = legalsense.parse(sense.build(descriptors=descriptors))
        assert parsed.reason == (key, code)
        if descriptors:
            assert parsed.information == information


def test_d_sense_decides(world: World) -> None:
    read = "88 00 00 00 00 01 00 00 00 00 00 00 00 01 00 00"
    assert world.first.do(read, room=512).task.sense[0] == 0x70
    page = bytes(4) + bytes.fromhex("0a 0a 04 10 00 00 00 00 00 00 00 00")
    world.first.good("15 10 00 00 10 00", out=page)
    sense = world.first.do(read, room=512).task.sense
    assert sense[0] == 0x72
    assert sense[8:].hex(" ") == "00 0a 80 00 00 00 00 01 00 00 00 00"


def test_request_sense_takes_the_format_from_its_cdb(world: World) -> None:
    assert world.first.good("03 00 00 00 ff 00", room=255)[0] == 0x70
    assert world.first.good("03 01 00 00 ff 00", room=255)[0] == 0x72
