"""A virtio device on PCI, VIRTIO 1.4 §4.1, as its driver sees it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devmodels.registers.check import check_registers
from devmodels.virtio.pci_modern import CommonConfig, QueueRegisters
from tests.unit.virtio.dut import NEEDS_RESET, RUNNING, Mode
from tests.unit.virtio.model import EVENT_IDX, NOTIFICATION_DATA, RING_RESET, VERSION_1, DriverRing
from tests.unit.virtio.packed_model import RING_PACKED
from tests.unit.virtio.pcirig import (
    COMMON,
    DEVICE,
    FIELDS,
    ISR,
    NO_VECTOR,
    NOTIFY,
    PCI_CFG,
    PciRig,
)
from tests.unit.virtio.plain import Kind
from tests.unit.virtio.rig import DATA

DRIVER_RULES = "VIRTIO 1.4 §4.1.4.3.2"
WIDTHS = "VIRTIO 1.4 §4.1.3.1"
NOTIF_CONFIG_DATA = 1 << 39
VECTOR = "VIRTIO 1.4 §4.1.5.1.2"
NOTIFICATION = "VIRTIO 1.4 §4.1.5.2.1"
WINDOW = "VIRTIO 1.4 §4.1.4.9.2"


def mapped(
    *, num_queues: int = 2, queue_size: int = 8, vectors: int | None = None, config: bytes = b""
) -> PciRig:
    r = PciRig(num_queues=num_queues, queue_size=queue_size, vectors=vectors, config=config)
    r.map_bars()
    return r


def started(
    features: int = 0, *, num_queues: int = 2, vectors: int | None = None, config: bytes = b""
) -> PciRig:
    r = PciRig(num_queues=num_queues, vectors=vectors, config=config)
    r.start(features)
    return r


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
    multiplier = r.config_read(r.capability(NOTIFY).at + 16, 4)
    assert multiplier == 4, "a multiple of 4 and a power of two, since NOTIFICATION_DATA is offered"
    assert r.capability(NOTIFY).size >= 1023 * multiplier + 4


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
    r.set("queue_size", 100)
    assert r.get("queue_size") == 64
    assert r.clauses() == [DRIVER_RULES]
    r.negotiate(RING_PACKED)
    assert r.get("queue_size") == 100
    for size in (1, 3, 99):
        r.set("queue_size", size)
        assert r.get("queue_size") == size
    assert r.clauses() == [DRIVER_RULES]
    # More than the device has room for (CVE-2026-50626), and none at all.
    for size in (0, 101, 32768):
        r.set("queue_size", size)
        assert r.get("queue_size") == 99
    assert r.clauses() == [DRIVER_RULES] * 4
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


# --- queue reset (§4.1.4.3.1)


def test_queue_reset_goes_through_its_states() -> None:
    r = started(RING_RESET)
    r.device.mode = Mode.LATER
    r.expose()
    r.notify(0)
    assert (r.get("queue_enable"), r.get("queue_reset")) == (1, 0)
    r.set("queue_reset", 1)
    assert r.get("queue_reset") == 1
    r.device.complete(r.device.waiting[0])
    assert (r.get("queue_enable"), r.get("queue_reset")) == (0, 0)
    assert (r.get("queue_size"), r.get("queue_desc"), r.get("queue_msix_vector")) == (8, 0, NO_VECTOR)
    r.device.mode = Mode.AT_ONCE
    r.set_queue()
    assert (r.get("queue_enable"), r.get("queue_reset")) == (1, 0)
    r.expose()
    r.notify(0)
    assert r.used() == 1
    assert r.clauses() == []


def test_queue_reset_needs_its_feature() -> None:
    r = started()
    r.set("queue_reset", 1)
    assert r.get("queue_enable") == 1
    assert len(r.clauses()) == 1


@pytest.mark.parametrize("value", [0, 2])
def test_only_1_can_be_written_to_queue_reset(value: int) -> None:
    r = started(RING_RESET)
    r.set("queue_reset", value)
    assert r.get("queue_enable") == 1
    assert r.clauses() == [DRIVER_RULES]
    (told,) = r.device.violations.recent
    assert told.data == value.to_bytes(2, "little"), "as it was written"


# --- notifications (§4.1.5.2)


def test_each_queue_has_its_own_place_to_notify() -> None:
    r = mapped(num_queues=4)
    r.negotiate()
    r.set_queue(3)
    r.go()
    r.expose()
    r.notify(3)
    assert r.used() == 1
    assert r.clauses() == []


@pytest.mark.parametrize(("size", "value"), [(1, 0), (4, 0), (2, 1), (2, 0xFFFF), (8, 0)])
def test_a_notification_of_another_form_works_and_is_reported(size: int, value: int) -> None:
    r = started()
    r.expose()
    r.notify(0, value, size)
    assert r.used() == 1
    assert r.clauses() == [NOTIFICATION]


def test_notification_data_is_32_bits() -> None:
    r = started(NOTIFICATION_DATA)
    r.expose()
    r.notify(0, r.driver.idx << 16, 4)
    assert r.used() == 1
    assert r.clauses() == []
    r.notify(0, 0, 2)
    assert r.clauses() == [NOTIFICATION]


def test_a_notification_beside_every_queue_goes_nowhere() -> None:
    r = started(num_queues=2)
    r.machine.write(r.where[NOTIFY] + 8, 2, 2)
    r.machine.write(r.where[NOTIFY] + 0xFFE, 2, 0x3FF)
    assert r.machine.read(r.where[NOTIFY], 4) == 0
    assert not r.device.taken


# --- interrupts (§4.1.4.5, §4.1.5.1.2, §4.1.5.3, §4.1.5.4)


def test_intx_until_isr_is_read() -> None:
    r = started()
    assert not r.line
    r.expose()
    r.notify(0)
    assert r.line
    assert r.config_read(6, 2) & 8, "Interrupt Status"
    assert r.isr() == 1
    assert not r.line
    assert not r.config_read(6, 2) & 8
    assert r.isr() == 0
    assert not r.messages


def test_isr_tells_queues_and_configuration_apart() -> None:
    r = started()
    r.device.config_changed()
    r.machine.run_until_idle()
    assert r.line
    assert r.isr() == 2
    r.device.config_changed()
    r.expose()
    r.notify(0)
    assert r.isr() == 3


def test_isr_cannot_be_written() -> None:
    r = started()
    r.expose()
    r.notify(0)
    r.machine.write(r.where[ISR], 1, 0)
    assert r.line
    assert r.isr() == 1


def test_interrupt_disable_holds_the_line_not_the_status() -> None:
    r = started()
    r.config_write(4, 2, 0x406)
    r.expose()
    r.notify(0)
    assert not r.line
    assert r.config_read(6, 2) & 8
    r.config_write(4, 2, 0x006)
    assert r.line


def test_each_event_sends_its_vector() -> None:
    r = mapped(num_queues=2)
    assert r.enable_msix() == 3
    r.negotiate()
    r.set("config_msix_vector", 0)
    r.set_queue(1)
    r.set("queue_msix_vector", 2)
    r.go()
    r.expose()
    r.notify(1)
    assert r.messages == [2]
    r.device.config_changed()
    r.machine.run_until_idle()
    assert r.messages == [2, 0]
    assert not r.line
    assert r.isr() == 2, "§4.1.4.5.1: the configuration bit is set with MSI-X too"


def test_events_may_share_a_vector() -> None:
    r = mapped()
    r.enable_msix()
    r.negotiate()
    r.set("config_msix_vector", 1)
    r.set_queue()
    r.set("queue_msix_vector", 1)
    r.go()
    r.expose()
    r.notify(0)
    r.device.config_changed()
    r.machine.run_until_idle()
    assert r.messages == [1, 1]


def test_an_unmapped_event_sends_nothing() -> None:
    r = mapped()
    r.enable_msix()
    r.negotiate()
    r.set_queue()
    assert (r.get("queue_msix_vector"), r.get("config_msix_vector")) == (NO_VECTOR, NO_VECTOR)
    r.go()
    r.expose()
    r.notify(0)
    r.device.config_changed()
    r.machine.run_until_idle()
    assert r.messages == []
    assert not r.line


@pytest.mark.parametrize("name", ["queue_msix_vector", "config_msix_vector"])
@pytest.mark.parametrize("vector", [3, 0x7FF, 0x800, 0xFFFE])
def test_a_vector_out_of_range_reads_back_as_none(name: str, vector: int) -> None:
    r = mapped(num_queues=2)
    r.set(name, 1)
    assert r.get(name) == 1
    r.set(name, vector)
    assert r.get(name) == NO_VECTOR
    assert r.clauses() == [VECTOR]
    r.set(name, 2)
    r.set(name, NO_VECTOR)
    assert r.get(name) == NO_VECTOR
    assert r.clauses() == [VECTOR]


def test_a_function_without_msix_takes_no_vector() -> None:
    r = started(vectors=0)
    assert 0x11 not in dict(r.capabilities())
    r.set("queue_msix_vector", 0)
    assert r.get("queue_msix_vector") == NO_VECTOR
    r.expose()
    r.notify(0)
    assert r.line


def test_a_masked_vector_waits() -> None:
    r = mapped()
    r.enable_msix(masked=True)
    r.negotiate()
    r.set_queue()
    r.set("queue_msix_vector", 1)
    r.go()
    r.expose()
    r.notify(0)
    assert r.messages == []
    _, _, table = r.msix()
    r.machine.write(table + 16 + 12, 4, 0)
    assert r.messages == [1]


def test_needs_reset_is_announced() -> None:
    r = started()
    r.driver.write_entry(0, 0xFFFF)
    r.driver.move_idx(1)
    r.notify(0)
    assert r.get("device_status") == RUNNING | NEEDS_RESET
    assert r.isr() == 2


def test_interrupt_status_is_what_isr_status_says_once_msix_is_off() -> None:
    """§4.1.4.5.1: with MSI-X on a configuration change is noted in ISR status alone."""
    r = mapped()
    r.enable_msix()
    at, _, _ = r.msix()
    r.negotiate()
    r.set_queue()
    r.go()
    r.driver.write_entry(0, 0xFFFF)
    r.driver.move_idx(1)
    r.notify(0)
    assert r.get("device_status") == RUNNING | NEEDS_RESET
    assert not r.line
    r.config_write(at + 2, 2, 0)
    assert r.config_read(6, 2) & 8
    assert r.line
    assert r.isr() == 2
    assert not r.config_read(6, 2) & 8
    assert not r.line


# --- bus mastering and reset


@pytest.mark.parametrize("kind", Kind)
def test_nothing_is_taken_or_shown_without_bus_mastering(kind: Kind) -> None:
    r = PciRig(kind=kind)
    r.start()
    r.device.mode = Mode.LATER
    r.expose()
    r.notify(0)
    r.device.mode = Mode.AT_ONCE
    r.bus_master(False)
    r.expose((DATA + 64, 16))
    r.notify(0)
    r.device.complete(r.device.waiting[0])
    assert r.used() == 0
    assert not r.line
    r.bus_master(True)
    assert r.used() == 2
    assert r.line


def test_a_device_that_starts_without_bus_mastering_waits_for_it() -> None:
    r = PciRig()
    r.map_bars(master=False)
    r.negotiate()
    r.set_queue()
    r.expose()
    r.go()
    assert r.used() == 0
    r.bus_master(True)
    assert r.used() == 1


def test_everything_is_as_new_after_a_device_reset() -> None:
    r = mapped(num_queues=2)
    r.enable_msix()
    r.negotiate(RING_RESET)
    r.set("config_msix_vector", 0)
    r.set_queue(1)
    r.set("queue_msix_vector", 2)
    r.go()
    r.set("device_status", 0)
    assert r.get("device_status") == 0
    assert r.get("config_msix_vector") == NO_VECTOR
    r.set("queue_select", 1)
    values = {name: r.get(name) for name, (offset, _) in FIELDS.items() if 0x18 <= offset < 0x3C}
    assert values == {
        "queue_size": 8,
        "queue_msix_vector": NO_VECTOR,
        "queue_enable": 0,
        "queue_notify_off": 1,
        "queue_desc": 0,
        "queue_driver": 0,
        "queue_device": 0,
        "queue_notif_config_data": 0,
        "queue_reset": 0,
    }


def test_a_device_reset_takes_the_interrupt_back() -> None:
    r = started()
    r.expose()
    r.notify(0)
    assert r.line
    r.set("device_status", 0)
    assert not r.line
    assert r.isr() == 0


def test_a_device_reset_waits_with_status() -> None:
    r = started()
    r.device.mode = Mode.LATER
    r.expose()
    r.notify(0)
    r.set("device_status", 0)
    assert r.get("device_status") == RUNNING
    r.device.complete(r.device.waiting[0])
    assert r.get("device_status") == 0
    assert not r.line


@pytest.mark.parametrize("running", [0, 2])
def test_a_function_reset_resets_the_device(running: int) -> None:
    r = started()
    r.device.mode = Mode.LATER
    for number in range(running):
        r.expose((DATA + 64 * number, 16))
    r.notify(0)
    r.machine.reset()
    for job in list(r.device.waiting):
        r.device.complete(job)
    r.device.idle()
    assert r.driver.used_idx == 0
    assert r.device.status == 0
    assert not r.line
    r.device.mode = Mode.AT_ONCE
    r.start()
    r.expose()
    r.notify(0)
    assert r.used() == 1


# --- the window in configuration space (§4.1.4.9)


class Window:
    """VIRTIO_PCI_CAP_PCI_CFG."""

    def __init__(self, r: PciRig) -> None:
        self.r = r
        self.at = r.capability(PCI_CFG).at

    def aim(self, kind: int, offset: int, length: int) -> None:
        found = self.r.capability(kind)
        self.r.config_write(self.at + 4, 1, found.bar)
        self.r.config_write(self.at + 8, 4, found.offset + offset)
        self.r.config_write(self.at + 12, 4, length)

    def read(self, kind: int, offset: int, length: int) -> int:
        self.aim(kind, offset, length)
        return self.r.config_read(self.at + 16, length)

    def write(self, kind: int, offset: int, length: int, value: int) -> None:
        self.aim(kind, offset, length)
        self.r.config_write(self.at + 16, length, value)


def test_a_driver_can_work_through_the_window_alone() -> None:
    """Not a BAR is mapped."""
    r = PciRig()
    r.config_write(4, 2, 4)
    window = Window(r)

    def put(name: str, value: int) -> None:
        offset, size = FIELDS[name]
        for at in range(0, size, 4):
            window.write(COMMON, offset + at, min(size, 4), value >> 8 * at & 0xFFFF_FFFF)

    for status in (0, 1, 3):
        put("device_status", status)
    put("driver_feature_select", 1)
    put("driver_feature", VERSION_1 >> 32)
    put("device_status", 11)
    r.features = VERSION_1
    r.driver = DriverRing(r.plain, 8, r.parts, VERSION_1)
    for name, address in zip(("queue_desc", "queue_driver", "queue_device"), r.parts, strict=True):
        put(name, address)
    put("queue_enable", 1)
    put("device_status", 15)
    assert window.read(COMMON, FIELDS["device_status"][0], 1) == 15
    r.expose()
    window.write(NOTIFY, 0, 2, 0)
    assert r.used() == 1
    assert r.line
    assert window.read(ISR, 0, 1) == 1
    assert not r.line
    assert r.clauses() == []


@pytest.mark.parametrize(
    ("bar", "offset", "length"),
    [
        (4, 0, 0),
        (4, 0, 3),
        (4, 0, 8),
        (4, 0, 5),
        (4, 2, 4),
        (4, 1, 2),
        (4, 0x4000, 1),
        (4, 0xFFFF_FFFC, 4),
        (5, 0, 4),
        (0, 0, 4),
        (2, 0, 4),
        (255, 0, 1),
    ],
)
def test_a_window_that_cannot_be_reads_what_was_there(bar: int, offset: int, length: int) -> None:
    r = mapped()
    at = r.capability(PCI_CFG).at
    r.config_write(at + 4, 1, bar)
    r.config_write(at + 8, 4, offset)
    r.config_write(at + 12, 4, length)
    r.config_write(at + 16, 4, 0x1234_5678)
    r.config_read(at + 16, 4)
    assert r.clauses() == [WINDOW, WINDOW]
    assert r.device.status == 0


def test_reading_all_of_configuration_space_is_no_mistake() -> None:
    r = mapped()
    for offset in range(0, 256, 4):
        r.config_read(offset, 4)
    assert r.clauses() == []


@pytest.mark.parametrize("width", [1, 2, 4])
def test_a_window_of_one_byte_takes_the_first_byte_of_any_write(width: int) -> None:
    r = mapped()
    window = Window(r)
    window.aim(COMMON, FIELDS["device_status"][0], 1)
    r.config_write(window.at + 16, width, 0x01)
    assert r.get("device_status") == 1
    assert r.config_read(window.at + 16, width) & 0xFF == 1
    assert r.clauses() == []


def test_the_rest_of_pci_cfg_data_stays() -> None:
    """§4.1.4.9.1: the first `length` bytes are stored, the others are left."""
    r = mapped(num_queues=2)
    window = Window(r)
    r.config_write(window.at + 12, 4, 0)
    r.config_write(window.at + 16, 4, 0xAABB_CCDD)
    window.aim(COMMON, FIELDS["num_queues"][0], 2)
    assert r.config_read(window.at + 16, 4) == 0xAABB_0002


# --- anything at all


accesses = st.lists(
    st.tuples(
        st.booleans(),
        st.one_of(st.integers(0, 0x47), st.integers(0, 0x3FFF), st.integers(0x3000, 0x3010)),
        st.sampled_from((1, 2, 4, 8)),
        st.one_of(st.integers(0, 15), st.integers(0, (1 << 64) - 1)),
    ),
    max_size=60,
)


@settings(max_examples=2 * settings().max_examples)
@given(accesses, st.sampled_from(Kind))
def test_no_accesses_to_the_registers_do_harm(script: list[tuple[bool, int, int, int]], kind: Kind) -> None:
    r = PciRig(kind=kind, config=bytes(16))
    r.start(RING_RESET)
    bar = r.bases[4]
    for write, offset, size, value in script:
        if write:
            r.machine.write(bar + offset, size, value)
        else:
            assert 0 <= r.machine.read(bar + offset, size) < 1 << 8 * size
        r.device.idle()
    r.device.violations.clear()
    r.start()
    r.expose()
    r.notify(0)
    assert r.used() == 1
    assert r.clauses() == []


@settings(max_examples=2 * settings().max_examples)
@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 0xFF), st.sampled_from((1, 2, 4)), st.integers(0, 2**32 - 1)),
        max_size=60,
    )
)
def test_no_accesses_to_configuration_space_do_harm(script: list[tuple[bool, int, int, int]]) -> None:
    r = started()
    for write, offset, size, value in script:
        offset -= offset % size
        if write:
            r.config_write(offset, size, value)
        else:
            r.config_read(offset, size)
        r.device.idle()
    r.machine.reset()
    r.device.violations.clear()
    r.start()
    r.expose()
    r.notify(0)
    assert r.used() == 1


# --- NOTIF_CONFIG_DATA (§4.1.5.2)


@pytest.mark.parametrize("data", [False, True])
def test_notifications_carry_what_the_device_gives_for_the_queue(data: bool) -> None:
    r = started(NOTIF_CONFIG_DATA | (NOTIFICATION_DATA if data else 0), num_queues=2)
    names = []
    for queue in range(2):
        r.set("queue_select", queue)
        names.append(r.get("queue_notif_config_data"))
    assert len(set(names)) == 2
    r.expose()
    value = names[0] | r.driver.notification << 16 if data else names[0]
    r.notify(0, value, size=4 if data else 2)
    assert r.used() == 1
    assert r.clauses() == []
    r.expose()
    value = r.driver.notification << 16 if data else 0
    r.notify(0, value, size=4 if data else 2)
    assert r.used() == 1, "the register itself says which queue"
    assert r.clauses() == [NOTIFICATION]


def test_without_the_feature_the_field_does_not_exist() -> None:
    r = started(num_queues=2)
    r.set("queue_select", 1)
    assert r.get("queue_notif_config_data") == 0


# --- administration virtqueues: none (§4.1.4.3)


def test_there_is_no_administration_queue() -> None:
    r = mapped()
    assert (r.get("admin_queue_index"), r.get("admin_queue_num")) == (0, 0)
    assert not r.device.device_features >> 41 & 1
    r.negotiate(1 << 41)
    assert not r.get("device_status") & 8
    assert r.clauses() == ["VIRTIO 1.4 §2.2.1"]
