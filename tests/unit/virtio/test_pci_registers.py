"""Structures and common configuration of a virtio device on PCI, VIRTIO 1.4 §4.1.4, as its driver sees them."""

from __future__ import annotations

from itertools import pairwise

import pytest

from devmodels.conformance import Profile
from devmodels.registers.check import check_registers
from devmodels.virtio.device import CORE_FEATURES
from devmodels.virtio.pci_modern import CommonConfig, QueueRegisters
from tests.unit.virtio.dut import RUNNING
from tests.unit.virtio.model import EVENT_IDX, NOTIFICATION_DATA, VERSION_1
from tests.unit.virtio.packed_model import RING_PACKED
from tests.unit.virtio.pcirig import (
    COMMON,
    DEVICE,
    DRIVER_RULES,
    FIELDS,
    ISR,
    NOTIFY,
    PCI_CFG,
    PciRig,
    mapped,
    started,
)

WIDTHS = "VIRTIO 1.4 §4.1.3.1"


# --- discovery (§4.1.2, §4.1.4)


def test_the_function_says_that_it_is_a_modern_virtio_device() -> None:
    r = PciRig()
    assert r.config_read(0, 2) == 0x1AF4
    assert r.config_read(2, 2) == 0x1040 + r.device.DEVICE_ID
    assert r.config_read(8, 1) >= 1
    assert r.config_read(0x2E, 2) >= 0x40


def test_every_structure_is_found_inside_its_bar() -> None:
    r = PciRig(num_queues=1024)
    found = r.virtio_capabilities()
    assert sorted(each.kind for each in found) == [COMMON, NOTIFY, ISR, DEVICE, PCI_CFG]
    sizes = {index: r.bar_size(index)[0] for index in {each.bar for each in found if each.kind != PCI_CFG}}
    for each in found:
        assert each.length == (20 if each.kind in (NOTIFY, PCI_CFG) else 16)
        if each.kind != PCI_CFG:
            assert each.offset % 4 == 0
            assert each.offset + each.size <= sizes[each.bar]


# --- notifications (§4.1.4.4.1): of a device that offers NOTIFICATION_DATA, and of one that does not, as QEMU's


def notifying(*, data: bool) -> PciRig:
    """A device with as many queues as it can have."""
    if data:
        return PciRig(num_queues=1024)
    return PciRig(num_queues=1024, offered=CORE_FEATURES & ~NOTIFICATION_DATA, profile=Profile.QEMU)


def multiplier(r: PciRig) -> int:
    return r.config_read(r.capability(NOTIFY).at + 16, 4)


def notify_ends(r: PciRig) -> list[int]:
    """Where the first byte of each queue's notification is, from the structure's begin on."""
    r.map_bars()
    found = []
    for queue in range(r.get("num_queues")):
        r.set("queue_select", queue)
        found.append(r.get("queue_notify_off") * multiplier(r))
    return found


@pytest.mark.parametrize("data", [True, False])
def test_there_is_a_notification_structure(data: bool) -> None:
    assert NOTIFY in {each.kind for each in notifying(data=data).virtio_capabilities()}


def test_without_notification_data_its_place_is_aligned_to_2_bytes() -> None:
    assert notifying(data=False).capability(NOTIFY).offset % 2 == 0


def test_without_notification_data_the_multiplier_is_an_even_power_of_2_or_0() -> None:
    assert multiplier(notifying(data=False)) in {0, *(4**power for power in range(16))}


def test_without_notification_data_the_structure_has_2_bytes_and_room_for_all_queues() -> None:
    r = notifying(data=False)
    assert r.capability(NOTIFY).size >= max(2, 1024 * multiplier(r))


@pytest.mark.long
def test_without_notification_data_each_queue_has_2_bytes_in_the_structure() -> None:
    r = notifying(data=False)
    assert max(notify_ends(r)) + 2 <= r.capability(NOTIFY).size


def test_with_notification_data_the_multiplier_is_a_power_of_2_from_4_on_or_0() -> None:
    assert multiplier(notifying(data=True)) in {0, *(1 << power for power in range(2, 32))}


def test_with_notification_data_its_place_is_aligned_to_4_bytes() -> None:
    assert notifying(data=True).capability(NOTIFY).offset % 4 == 0


def test_with_notification_data_the_structure_has_4_bytes_and_room_for_all_queues() -> None:
    r = notifying(data=True)
    assert r.capability(NOTIFY).size >= max(4, 1024 * multiplier(r))


@pytest.mark.long
def test_with_notification_data_each_queue_has_4_bytes_in_the_structure() -> None:
    r = notifying(data=True)
    assert max(notify_ends(r)) + 4 <= r.capability(NOTIFY).size


# --- structures, again


def test_structures_do_not_overlap() -> None:
    spans = sorted((c.offset, c.offset + c.size) for c in PciRig().virtio_capabilities() if c.kind != PCI_CFG)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))


def test_capabilities_are_read_only() -> None:
    r = PciRig()
    before = [r.config_read(offset, 4) for offset in range(0, 256, 4)]
    for each in r.virtio_capabilities():
        if each.kind != PCI_CFG:
            for offset in range(each.at, each.at + each.length):
                r.config_write(offset, 1, 0xFF)
    assert [r.config_read(offset, 4) for offset in range(0, 256, 4)] == before


# --- common configuration (§4.1.4.3)


@pytest.mark.long
def test_plain_registers_bit_by_bit() -> None:
    """Those without behaviour, at every legal width, by the check that all register files share."""
    behaving = [
        register
        for register in (*CommonConfig.layout().registers, *QueueRegisters.layout().registers)
        if register.read_hook or register.write_hook
    ]
    checked = check_registers(lambda: PciRig().function.common, behaving=behaving)
    checked += check_registers(QueueRegisters, behaving=behaving)
    assert checked > 100


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(FIELDS))
@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_a_field_takes_accesses_of_its_own_width_alone(name: str, size: int) -> None:
    """§4.1.3.1; fields of 64 bits are two of 32."""
    r = mapped()
    offset, width = FIELDS[name]
    legal = size == min(width, 4)
    address = r.where[COMMON] + offset
    r.machine.read(address, size)
    assert (r.clauses() == []) is legal, r.clauses()
    r.device.violations.clear()
    r.machine.write(address, size, 0)
    assert (WIDTHS not in r.clauses()) is legal


@pytest.mark.parametrize(
    "name",
    [
        "device_feature",
        "num_queues",
        "config_generation",
        "queue_notify_off",
        "queue_notif_config_data",
        "admin_queue_index",
        "admin_queue_num",
    ],
)
def test_writes_to_read_only_fields_are_reported_and_change_nothing(name: str) -> None:
    r = mapped()
    before = r.get(name)
    r.set(name, 0x55)
    assert r.clauses() == [DRIVER_RULES]
    assert r.get(name) == before


@pytest.mark.parametrize(("offset", "size"), [(0, 8), (1, 2), (2, 4)])
def test_the_device_configuration_takes_aligned_accesses_of_32_bits_at_most(offset: int, size: int) -> None:
    r = mapped(config=bytes(range(16)))
    read = r.machine.read(r.where[DEVICE] + offset, size)
    assert r.clauses() == [WIDTHS]
    assert read == int.from_bytes(bytes(range(offset, offset + size)), "little")


@pytest.mark.parametrize("offset", [0x01, 0x13, 0x15 + 1 - 4, 0x40, 0x3F, 0xFFC, 0xFFF])
def test_accesses_beside_the_fields_read_zero(offset: int) -> None:
    r = mapped()
    assert r.machine.read(r.where[COMMON] + offset, 4) == 0
    r.machine.write(r.where[COMMON] + offset, 4, 0xFFFF_FFFF)
    assert set(r.clauses()) <= {WIDTHS}


@pytest.mark.parametrize(
    ("select", "shift"), [(0, 0), (1, 32), (2, 64), (3, 96), (7, 224), (8, 256), (2**32 - 1, 0)]
)
def test_features_are_shown_by_words(select: int, shift: int) -> None:
    r = mapped()
    r.set("device_feature_select", select)
    expected = r.device.device_features >> shift & 0xFFFF_FFFF if select < 8 else 0
    assert r.get("device_feature") == expected


def test_driver_features_read_back() -> None:
    r = mapped()
    r.set("driver_feature_select", 0)
    r.set("driver_feature", 0xFFFF_FFFF)
    assert r.get("driver_feature") == 0xFFFF_FFFF, "offered or not, until FEATURES_OK is asked for"
    r = mapped()
    r.negotiate(EVENT_IDX)
    r.set("driver_feature_select", 0)
    assert r.get("driver_feature") == EVENT_IDX
    r.set("driver_feature_select", 1)
    assert r.get("driver_feature") == VERSION_1 >> 32
    r.set("driver_feature_select", 9)
    assert r.get("driver_feature") == 0


def test_a_queue_that_is_not_there_has_size_0() -> None:
    r = mapped(num_queues=3)
    assert r.get("num_queues") == 3
    for queue, size in ((0, 8), (2, 8), (3, 0), (65535, 0)):
        r.set("queue_select", queue)
        assert r.get("queue_select") == queue
        assert r.get("queue_size") == size
        if not size:
            for name, (offset, _) in FIELDS.items():
                if 0x18 <= offset < 0x3C:
                    r.set(name, 1)
                    assert r.get(name) == 0


def test_each_queue_keeps_its_own_registers() -> None:
    r = mapped(num_queues=2)
    for queue in (0, 1):
        r.set("queue_select", queue)
        r.set("queue_size", 4 >> queue)
        r.set("queue_desc", 0x1_2345_6000 + queue)
        r.set("queue_driver", 0xFFFF_FFFF_FFFF_FFF0 + queue)
        r.set("queue_device", 0x8000 + queue)
    for queue in (0, 1):
        r.set("queue_select", queue)
        assert r.get("queue_size") == 4 >> queue
        assert r.get("queue_desc") == 0x1_2345_6000 + queue
        assert r.get("queue_driver") == 0xFFFF_FFFF_FFFF_FFF0 + queue
        assert r.get("queue_device") == 0x8000 + queue
        assert r.get("queue_notify_off") == queue


@pytest.mark.parametrize("size", [0, 3, 5, 12, 16, 0x8000, 0xFFFF])
def test_a_queue_size_that_cannot_be_is_refused(size: int) -> None:
    r = mapped(queue_size=8)
    r.set("queue_size", size)
    assert r.get("queue_size") == 8
    assert r.clauses() == [DRIVER_RULES]


def test_a_packed_queue_has_any_size_and_no_other_queue_has() -> None:
    """§4.1.4.3.1, §4.1.4.3.2: a power of two is shown until VIRTIO_F_RING_PACKED has been negotiated."""
    r = PciRig(queue_size=100, offered=VERSION_1 | RING_PACKED)
    r.map_bars()
    assert r.get("queue_size") == 64
    r.negotiate()
    assert r.get("queue_size") == 64
    for size in (100, 48):
        r.set("queue_size", size)
        assert r.get("queue_size") == 64
    assert r.clauses() == [DRIVER_RULES] * 2
    r.negotiate(RING_PACKED)
    assert r.get("queue_size") == 100
    for size in (1, 3, 99):
        r.set("queue_size", size)
        assert r.get("queue_size") == size
    assert r.clauses() == [DRIVER_RULES] * 2
    # More than the device has room for (CVE-2026-50626), and none at all.
    for size in (0, 101, 32768):
        r.set("queue_size", size)
        assert r.get("queue_size") == 99
    assert r.clauses() == [DRIVER_RULES] * 5
    r.set("device_status", 0)
    assert r.get("queue_size") == 64


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_a_smaller_queue_size_is_taken(size: int) -> None:
    r = mapped(queue_size=8)
    r.set("queue_size", size)
    assert r.get("queue_size") == size
    assert r.clauses() == []


@pytest.mark.parametrize("name", ["queue_size", "queue_desc", "queue_driver", "queue_device"])
def test_an_enabled_queue_keeps_what_it_was_started_with(name: str) -> None:
    """CVE-2026-5747 of another monitor: registers changed after DRIVER_OK."""
    r = started()
    before = r.get(name)
    r.set(name, 2)
    assert r.get(name) == before
    assert set(r.clauses()) == {DRIVER_RULES}
    r.expose()
    r.notify(0)
    assert r.used() == 1


@pytest.mark.parametrize("value", [0, 2, 0xFFFF])
def test_only_1_can_be_written_to_queue_enable(value: int) -> None:
    r = started()
    r.set("queue_enable", value)
    assert r.get("queue_enable") == 1
    assert r.clauses() == [DRIVER_RULES]


def test_the_administration_registers_read_0() -> None:
    r = mapped()
    assert (r.get("admin_queue_index"), r.get("admin_queue_num"), r.get("queue_notif_config_data")) == (
        0,
        0,
        0,
    )


@pytest.mark.parametrize(
    "name",
    ["device_feature", "num_queues", "config_generation", "queue_notify_off", "queue_notif_config_data"],
)
def test_read_only_registers_are_not_written(name: str) -> None:
    r = mapped()
    before = r.get(name)
    r.set(name, before ^ 0xFF)
    assert r.get(name) == before


def test_status_and_generation_are_the_devices() -> None:
    r = started(config=b"\1\2\3\4")
    assert r.get("device_status") == RUNNING
    before = r.get("config_generation")
    assert r.machine.read(r.where[DEVICE], 4) == 0x04030201
    assert r.get("config_generation") == before
    r.device.config[0] = 7
    r.device.config_changed()
    assert r.machine.read(r.where[DEVICE] + 2, 2) == 0x0403
    assert r.get("config_generation") == (before + 1) & 0xFF
    r.machine.write(r.where[DEVICE] + 1, 1, 0x55)
    assert r.device.config[1] == 0x55


# --- administration virtqueues: none (§4.1.4.3)


def test_there_is_no_administration_queue() -> None:
    r = mapped()
    assert (r.get("admin_queue_index"), r.get("admin_queue_num")) == (0, 0)
    assert not r.device.device_features >> 41 & 1
    r.negotiate(1 << 41)
    assert not r.get("device_status") & 8
    assert r.clauses() == ["VIRTIO 1.4 §2.2.1"]
