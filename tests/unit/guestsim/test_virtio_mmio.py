"""The MMIO drivers, held against a window of registers that a test plays by hand, lies included."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from guestsim.drivers import virtio_blk, virtio_mmio
from guestsim.drivers.layouts import BLK_CONFIG, Feature, Field
from guestsim.drivers.transport import Interrupts
from guestsim.drivers.virtio_mmio import LegacyMmio, ModernMmio
from guestsim.errors import GuestCheckError, GuestError
from guestsim.guest import Guest
from guestsim.targets import MachineLayout, MmioSlot

from .fakes import FakeTarget

BASE = 0xFEB0_0000
SLOT = MmioSlot(BASE, 7, "bus.0")


class Registers(FakeTarget):
    """A window whose registers read what was put or written there; `written` lists the writes."""

    def __init__(self, version: int = 2, device: int = 2) -> None:
        super().__init__()
        self.values = {0x000: 0x7472_6976, 0x004: version, 0x008: device, 0x034: 16}
        self.written: list[tuple[int, int, int]] = []

    @property
    def layout(self) -> MachineLayout:
        return MachineLayout(self.windows, super().layout.mmio, super().layout.io, None, (SLOT,))

    def read(self, address: int, size: int) -> int:
        assert size == 4 or address >= BASE + 0x100
        return self.values.get(address - BASE, 0)

    def write(self, address: int, size: int, value: int) -> None:
        self.written.append((address - BASE, size, value))

    def io_read(self, port: int, size: int) -> int:
        return (1 << 8 * size) - 1

    def io_write(self, port: int, size: int, value: int) -> None:
        pass


class Seen:
    """Events that came."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def on_used(self, queues: Collection[int] | None) -> None:
        assert queues is None
        self.log.append("used")

    def on_config(self) -> None:
        self.log.append("config")


def modern(target: Registers) -> ModernMmio:
    found = virtio_mmio.probe(Guest(target), SLOT)
    assert found is not None
    assert isinstance(found[1], ModernMmio)
    return found[1]


@pytest.mark.parametrize(("version", "kind"), [(1, LegacyMmio), (2, ModernMmio)])
def test_a_device_is_found_with_its_version(version: int, kind: type) -> None:
    (found,) = virtio_blk.find(Guest(Registers(version)))
    assert type(found) is kind
    assert str(found) == "bus.0"


def test_a_place_without_a_device_or_with_another_is_passed_over() -> None:
    assert virtio_blk.find(Guest(Registers(device=0))) == []
    assert virtio_blk.find(Guest(Registers(device=1))) == []


@pytest.mark.parametrize(("at", "value"), [(0, 0), (4, 3)])
def test_no_virtio_and_unknown_versions_are_found(at: int, value: int) -> None:
    target = Registers()
    target.values[at] = value
    with pytest.raises(GuestCheckError) as caught:
        virtio_mmio.probe(Guest(target), SLOT)
    assert caught.value.clause == "VIRTIO 1.4 §4.2.2.1"


@pytest.mark.parametrize(("version", "at"), [(1, 0x40), (2, 0x44)])
def test_a_queue_that_is_in_use_after_a_reset_is_found(version: int, at: int) -> None:
    target = Registers(version)
    target.values[at] = 1
    (found,) = virtio_blk.find(Guest(target))
    with pytest.raises(GuestCheckError, match="queue 3 is in use"):
        found.queue_limit(3)


def test_an_interrupt_is_acknowledged_before_it_is_served() -> None:
    target, seen = Registers(), Seen()
    transport = modern(target)
    transport.connect(Interrupts.MSIX, 1, seen)
    target.lines.add((7, 0))
    target.values[0x60] = 3
    assert transport.guest.interrupts.poll()
    assert seen.log == ["used", "config"]
    assert target.written[-1] == (0x64, 4, 3)
    target.values[0x60] = 0
    assert not transport.guest.interrupts.poll(), "the line is somebody else's"
    target.values[0x60] = 4
    with pytest.raises(GuestCheckError, match="interrupt status 0x4"):
        transport.guest.interrupts.poll()
    transport.disconnect()
    transport.disconnect()


def test_notifications_carry_the_state_where_that_was_negotiated() -> None:
    target = Registers()
    transport = modern(target)
    transport.notifier(3)(0x8005)
    assert target.written[-1] == (0x50, 4, 3)
    transport.write_features(1 << Feature.NOTIFICATION_DATA)
    transport.notifier(3)(0x8005)
    assert target.written[-1] == (0x50, 4, 0x8005_0003)


def test_a_feature_that_means_nothing_on_mmio_is_not_taken() -> None:
    target = Registers()
    target.values[0x10] = 0xFFFF_FFFF
    bits = modern(target).read_features()
    assert not bits >> Feature.NOTIF_CONFIG_DATA & 1
    assert bits >> Feature.RING_PACKED & 1


@pytest.mark.parametrize("version", [1, 2])
def test_fields_are_read_at_their_own_width(version: int) -> None:
    target = Registers(version)
    sizes: list[tuple[int, int]] = []
    real = target.read

    def read(address: int, size: int) -> int:
        if address >= BASE + 0x100:
            sizes.append((address - BASE - 0x100, size))
        return real(address, size)

    target.read = read  # type: ignore[method-assign]
    (found,) = virtio_blk.find(Guest(target))
    found.read_config([BLK_CONFIG["capacity"], BLK_CONFIG["writeback"], BLK_CONFIG["num_queues"]])
    assert set(sizes) == {(0, 4), (4, 4), (32, 1), (34, 2)}


@pytest.mark.parametrize("version", [1, 2])
def test_a_configuration_that_never_holds_still_is_found(version: int) -> None:
    target = Registers(version)
    real = target.read

    def read(address: int, size: int) -> int:
        target.values[address - BASE] = target.values.get(address - BASE, 0) + 1
        return real(address, size)

    (found,) = virtio_blk.find(Guest(target))
    target.read = read  # type: ignore[method-assign]
    with pytest.raises(GuestCheckError, match="never holds still"):
        found.read_config([Field(0, 4)])


def test_what_a_version_has_not_is_refused() -> None:
    (found,) = virtio_blk.find(Guest(Registers(1)))
    with pytest.raises(GuestError, match="cannot reset one queue"):
        found.reset_queue(0)
    with pytest.raises(GuestError, match="no config_msix_vector"):
        found.get("config_msix_vector")
