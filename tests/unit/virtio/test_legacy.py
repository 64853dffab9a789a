"""The legacy interface of a device without its transport, VIRTIO 1.4 §2.7.2, §3.1.2, §6.3: bit by bit."""

from __future__ import annotations

import pytest

from devmodels.virtio.legacy import Legacy
from tests.unit.virtio.dut import TestDevice
from tests.unit.virtio.plain import Block, Kind, PlainMemory, guest_memory

CLAUSE = "of the transport"
LOWEST, HIGHEST, ANY_LAYOUT, UNUSED = 1, 1 << 31, 1 << 27, 1 << 30


def made(*, config: bytes = b"", queue_size: int = 8) -> tuple[Legacy, TestDevice]:
    memory = guest_memory(PlainMemory([Block(0x10_0000, bytearray(0x1_0000))]), Kind.SHARED)
    device = TestDevice(
        memory, queue_size=queue_size, features=LOWEST | HIGHEST | 1 << 32 | 1 << 40, config=config
    )
    return Legacy(device, CLAUSE), device


def clauses(device: TestDevice) -> list[str]:
    return [each.clause for each in device.violations.recent]


def test_32_features_are_offered_with_two_of_its_own() -> None:
    legacy, _ = made()
    assert legacy.offered == LOWEST | HIGHEST | ANY_LAYOUT | UNUSED


@pytest.mark.parametrize("features", [LOWEST, HIGHEST, ANY_LAYOUT, LOWEST | HIGHEST | ANY_LAYOUT, 0])
def test_what_was_accepted_can_be_read(features: int) -> None:
    legacy, device = made()
    legacy.write_features(features)
    assert legacy.accepted == features
    assert device.legacy
    assert clauses(device) == []


def test_what_was_not_offered_is_not_accepted() -> None:
    legacy, device = made()
    legacy.write_features(LOWEST | 1 << 5)
    assert legacy.accepted == LOWEST
    assert clauses(device) == ["VIRTIO 1.4 §2.2.1"]


def test_who_accepts_bit_30_has_not_looked() -> None:
    legacy, device = made()
    legacy.write_features(LOWEST | UNUSED)
    assert legacy.accepted == 0
    assert clauses(device) == ["VIRTIO 1.4 §6.3"]


def test_a_queue_lies_as_one_piece() -> None:
    """§2.7.2: descriptors, the available ring behind them, the used ring at the next multiple of the alignment."""
    legacy, device = made()
    queue = device.queues[0]
    legacy.place(queue, 0x100, 4096, 4096)
    assert (queue.desc, queue.driver, queue.device) == (0x10_0000, 0x10_0080, 0x10_1000)
    assert (queue.enabled, legacy.page_number(queue, 4096)) == (True, 0x100)
    assert (legacy.page_number(queue, 512), legacy.page_number(None, 4096)) == (0x800, 0)
    legacy.place(queue, 0, 4096, 4096)
    assert (queue.enabled, legacy.page_number(queue, 4096)) == (False, 0)
    legacy.place(queue, 0x10_0000 // 64, 64, 4)
    assert (queue.desc, queue.driver, queue.device) == (0x10_0000, 0x10_0080, 0x10_0080 + 6 + 2 * 8 + 2)
    legacy.place(queue, 0x10_0000 // 64, 64, 1)
    assert clauses(device) == [CLAUSE]
    legacy.place(None, 1, 4096, 4096)


@pytest.mark.parametrize(
    ("align", "used"), [(4, 0x1208), (8, 0x1208), (64, 0x1240), (512, 0x1400), (4096, 0x2000)]
)
def test_the_used_ring_lies_at_the_next_multiple(align: int, used: int) -> None:
    """256 descriptors are 0x1000 bytes, and the available ring ends at 0x1206."""
    legacy, device = made(queue_size=256)
    queue = device.queues[0]
    legacy.place(queue, 0x100, 4096, align)
    assert queue.device - queue.desc == used
    assert clauses(device) == []


def test_only_the_bytes_that_change_are_written() -> None:
    legacy, device = made(config=bytes(range(8)))
    written: list[tuple[int, int, int]] = []

    def write(offset: int, size: int, value: int) -> None:
        written.append((offset, size, value))

    device.write_config = write  # type: ignore[method-assign]
    legacy.write_config(0, 4, 0x03FF_FF00)
    assert written == [(1, 1, 0xFF), (2, 1, 0xFF)]
    written.clear()
    legacy.write_config(4, 4, 0x0706_0504)
    assert written == []
    legacy.write_config(7, 1, 0x07)
    legacy.write_config(6, 2, 0x1234)
    assert written == [(7, 1, 0x07), (6, 1, 0x34), (7, 1, 0x12)]


def test_a_first_look_at_the_configuration_tells_which_interface_it_is() -> None:
    legacy, device = made(config=bytes(range(8)))
    assert legacy.read_config(2, 4) == 0x0504_0302
    assert device.legacy
    other, modern = made(config=bytes(range(8)))
    modern.write_status(1)
    assert other.read_config(0, 1) == 0
    assert not modern.legacy


def test_who_uses_the_other_interface_is_refused_until_a_reset() -> None:
    legacy, device = made(config=bytes(8))
    device.write_status(1)
    assert not legacy.enter()
    legacy.write_status(7)
    legacy.write_features(LOWEST)
    legacy.place(device.queues[0], 1, 4096, 4096)
    legacy.write_config(0, 1, 9)
    assert (int(device.status), legacy.accepted, device.queues[0].enabled, device.config[0]) == (
        1,
        0,
        False,
        0,
    )
    assert clauses(device) == ["VIRTIO 1.4 §2.2.3"] * 5
    legacy.write_status(0)
    assert legacy.enter()
    legacy.write_status(3)
    assert (int(device.status), device.legacy) == (3, True)
