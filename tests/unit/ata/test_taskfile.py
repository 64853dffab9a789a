"""The task file's two-deep registers."""

from __future__ import annotations

from devmodels.ata import Place, TaskFile


def test_a_write_moves_what_was_there_to_the_previous_content() -> None:
    taskfile = TaskFile()
    for value in (0x12, 0x34):
        for place in (Place.FEATURES, Place.COUNT, Place.LBA_LOW, Place.LBA_MID, Place.LBA_HIGH):
            taskfile.write(place, value + place)
    assert taskfile.features == 0x1335
    assert taskfile.count == 0x1436
    assert taskfile.lba == 0x171615_393837
    assert [taskfile.read(place) for place in (Place.COUNT, Place.LBA_LOW, Place.LBA_HIGH)] == [
        0x36,
        0x37,
        0x39,
    ]
    assert [taskfile.read(place, hob=True) for place in (Place.COUNT, Place.LBA_LOW, Place.LBA_HIGH)] == [
        0x14,
        0x15,
        0x17,
    ]


def test_a_28_bit_address_has_its_highest_bits_in_the_device_field() -> None:
    taskfile = TaskFile(lba=0x123456, device=0xE9)
    assert taskfile.lba28 == 0x9123456
    taskfile.lba28 = 0xABCDEF0
    assert (taskfile.lba, taskfile.device) == (0xBCDEF0, 0xEA)
