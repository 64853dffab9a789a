"""A virtio device's interrupts on PCI: INTx, ISR status and MSI-X, VIRTIO 1.4 §4.1.4.5 and §4.1.5."""

from __future__ import annotations

import pytest

from tests.unit.virtio.dut import NEEDS_RESET, RUNNING
from tests.unit.virtio.pcirig import (
    ISR,
    NO_VECTOR,
    mapped,
    started,
)

VECTOR = "VIRTIO 1.4 §4.1.5.1.2"


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
