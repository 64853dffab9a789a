"""A virtio device's window in configuration space, VIRTIO 1.4 §4.1.4.9, and any accesses at all."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.virtio.model import RING_RESET, VERSION_1, DriverRing
from tests.unit.virtio.pcirig import (
    COMMON,
    FIELDS,
    ISR,
    NOTIFY,
    PCI_CFG,
    PciRig,
    mapped,
    started,
)
from tests.unit.virtio.plain import Kind

WINDOW = "VIRTIO 1.4 §4.1.4.9.2"


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
