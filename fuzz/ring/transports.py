"""How the driver reaches the device: its registers over PCI and over MMIO, modern and legacy."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Protocol

from devmodels.machine import Machine
from devmodels.virtio.device import VirtioDevice
from devmodels.virtio.mmio import VirtioMmio
from devmodels.virtio.pci import VirtioPci
from guestsim.drivers.layouts import (
    LEGACY_CFG,
    LEGACY_CONFIG,
    LEGACY_CONFIG_MSIX,
    LEGACY_PAGE,
    MMIO_CONFIG,
    MMIO_REGISTERS,
)
from tests.unit.virtio.dut import ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK
from tests.unit.virtio.pcirig import DEVICE, FIELDS, NOTIFY, SLOT, PciRig

MMIO_BASE, IRQ = 0xFEB0_0000, 5
PORTS = 0xC000
NOTIF_CONFIG_DATA = 1 << 39
PLACES = ("queue_desc", "queue_driver", "queue_device", "queue_pfn", "queue_align", "guest_page_size")
"""Registers that say where rings are."""
_BOTH = (
    "device_feature_select",
    "device_feature",
    "driver_feature_select",
    "driver_feature",
    "queue_select",
    "queue_size",
    "device_status",
)
MODERN_REGISTERS = (*_BOTH, "queue_enable", *PLACES[:3], "queue_reset", "config_generation")
LEGACY_REGISTERS = (*_BOTH, "guest_page_size", "queue_align", "queue_pfn")
"""Those of MMIO that are written and read, with the names that PCI has for them."""
LEGACY_FIELDS = (
    "device_feature",
    "driver_feature",
    "queue_pfn",
    "queue_size",
    "queue_select",
    "device_status",
)
"""Those of PCI's legacy interface, but for MSI-X's."""


class Over(Enum):
    """The ways there are."""

    PCI = "pci"
    MMIO = "mmio"
    PCI_LEGACY = "pci-legacy"
    MMIO_LEGACY = "mmio-legacy"

    @property
    def legacy(self) -> bool:
        """Whether it is the legacy interface."""
        return self in (Over.PCI_LEGACY, Over.MMIO_LEGACY)


class Transport(Protocol):
    """Registers by their names in struct virtio_pci_common_cfg, and what drivers do with them."""

    machine: Machine

    def get(self, name: str) -> int:
        """Read a register."""

    def set(self, name: str, value: int) -> None:
        """Write one; addresses of 64 bits as a whole."""

    def begin(self, features: int) -> None:
        """After a reset, up to features that are accepted."""

    def place(self, queue: int, size: int, parts: tuple[int, int, int]) -> None:
        """Where a queue is; it is used from now on."""

    def run(self) -> None:
        """DRIVER_OK."""

    def reset_queue(self, queue: int) -> None:
        """Begin to take a queue out of use."""

    def queue_resetting(self, queue: int) -> bool:
        """Whether that is not over yet."""

    def kick(self, queue: int, position: int) -> None:
        """An available buffer notification; `position` goes with it where it is not negative."""

    def load(self, offset: int, size: int) -> int:
        """Read the device configuration."""

    def store(self, offset: int, size: int, value: int) -> None:
        """Write it."""

    def bus_master(self, on: bool) -> None:
        """Whether the device may reach memory, where that can be said."""

    def any_register(self) -> tuple[str, ...]:
        """All registers but those that say where rings are."""

    def own_address(self) -> int:
        """Where a notification is written to."""


class Modern:
    """A driver's steps with the registers of the modern interface."""

    def get(self, name: str) -> int:
        """Read a register."""
        raise NotImplementedError

    def set(self, name: str, value: int) -> None:
        """Write one."""
        raise NotImplementedError

    def begin(self, features: int) -> None:
        """VIRTIO 1.4 §3.1.1."""
        self.set("device_status", ACKNOWLEDGE)
        self.set("device_status", ACKNOWLEDGE | DRIVER)
        for select in (0, 1):
            self.set("driver_feature_select", select)
            self.set("driver_feature", features >> 32 * select & 0xFFFF_FFFF)
        self.set("device_status", ACKNOWLEDGE | DRIVER | FEATURES_OK)
        assert self.get("device_status") & FEATURES_OK

    def place(self, queue: int, size: int, parts: tuple[int, int, int]) -> None:
        """Three addresses, in any place."""
        self.set("queue_select", queue)
        self.set("queue_size", size)
        for name, address in zip(("queue_desc", "queue_driver", "queue_device"), parts, strict=True):
            self.set(name, address)
        self.set("queue_enable", 1)

    def run(self) -> None:
        """The last step."""
        self.set("device_status", ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK)

    def reset_queue(self, queue: int) -> None:
        """VIRTIO 1.4 §2.6.1."""
        self.set("queue_select", queue)
        self.set("queue_reset", 1)

    def queue_resetting(self, queue: int) -> bool:
        """The register reads 1 as long as it goes on."""
        self.set("queue_select", queue)
        return bool(self.get("queue_reset"))


class Legacy:
    """A driver's steps with the registers of the legacy interface; a queue is a piece of pages."""

    def get(self, name: str) -> int:
        """Read a register."""
        raise NotImplementedError

    def set(self, name: str, value: int) -> None:
        """Write one."""
        raise NotImplementedError

    def begin(self, features: int) -> None:
        """VIRTIO 1.4 §3.1.2."""
        self.set("device_status", ACKNOWLEDGE)
        self.set("device_status", ACKNOWLEDGE | DRIVER)
        self.set("driver_feature", features)

    def place(self, queue: int, size: int, parts: tuple[int, int, int]) -> None:
        """The number of its first page."""
        del size
        self.set("queue_select", queue)
        self.set("queue_pfn", parts[0] // LEGACY_PAGE)

    def run(self) -> None:
        """There is no FEATURES_OK."""
        self.set("device_status", ACKNOWLEDGE | DRIVER | DRIVER_OK)

    def reset_queue(self, queue: int) -> None:
        """VIRTIO 1.4 §2.7.2."""
        self.set("queue_select", queue)
        self.set("queue_pfn", 0)

    def queue_resetting(self, queue: int) -> bool:
        """Its page is 0 when it is over."""
        self.set("queue_select", queue)
        return bool(self.get("queue_pfn"))


class _Function(PciRig):
    """A function in slot 5, its BARs where they are put."""

    legacy = False

    def __init__(self, device: VirtioDevice, on_message: Callable[[int, int], None]) -> None:
        self.machine = Machine(device.memory, device.context, ecam=None, on_message=on_message)
        self.function = VirtioPci(device, class_code=0x010000, name="vd0", legacy=self.legacy)
        self.machine.plug(self.function, SLOT)
        self.map_bars()

    def own_address(self) -> int:
        """Where a notification would be written to."""
        return self.where[NOTIFY]


class OverPci(Modern, _Function):
    """The modern interface."""

    def __init__(self, device: VirtioDevice, on_message: Callable[[int, int], None]) -> None:
        super().__init__(device, on_message)
        self._step = self.config_read(self.capability(NOTIFY).at + 16, 4)
        self._named = False
        self._names: dict[int, int] = {}

    def get(self, name: str) -> int:
        """A field of the common configuration."""
        return PciRig.get(self, name)

    def set(self, name: str, value: int) -> None:
        """The same."""
        PciRig.set(self, name, value)

    def begin(self, features: int) -> None:
        """What notifications begin with depends on the features."""
        super().begin(features)
        self._named = bool(features & NOTIF_CONFIG_DATA)

    def place(self, queue: int, size: int, parts: tuple[int, int, int]) -> None:
        """Remember how it is notified."""
        super().place(queue, size, parts)
        self._names[queue] = self.get("queue_notif_config_data") if self._named else queue

    def kick(self, queue: int, position: int) -> None:
        """A write to the queue's notification address, of 4 bytes where a position goes with it."""
        value = max(position, 0) << 16 | self._names[queue]
        self.machine.write(self.where[NOTIFY] + self._step * queue, 2 if position < 0 else 4, value)

    def load(self, offset: int, size: int) -> int:
        """Where the capability says."""
        return self.machine.read(self.where[DEVICE] + offset, size)

    def store(self, offset: int, size: int, value: int) -> None:
        """The same."""
        self.machine.write(self.where[DEVICE] + offset, size, value)

    def any_register(self) -> tuple[str, ...]:
        """What the common configuration has, but for where rings are."""
        return tuple(name for name in FIELDS if name not in PLACES)


class OverPciLegacy(Legacy, _Function):
    """The legacy interface of a transitional function."""

    legacy = True

    def __init__(self, device: VirtioDevice, on_message: Callable[[int, int], None]) -> None:
        super().__init__(device, on_message)
        self._messages = False
        self.config_write(0x10, 4, PORTS)
        self.bus_master(True)

    def bus_master(self, on: bool) -> None:
        """The ports are decoded all the time."""
        self.config_write(0x04, 2, 7 if on else 3)

    def enable_msix(self, *, masked: bool = False) -> int:
        """Two registers more."""
        self._messages = True
        return super().enable_msix(masked=masked)

    def get(self, name: str) -> int:
        """A port."""
        field = LEGACY_CFG[name]
        return self.machine.io_read(PORTS + field.offset, field.size)

    def set(self, name: str, value: int) -> None:
        """The same."""
        field = LEGACY_CFG[name]
        self.machine.io_write(PORTS + field.offset, field.size, value & (1 << 8 * field.size) - 1)

    def kick(self, queue: int, position: int) -> None:
        """There is one register for all queues."""
        del position
        self.set("queue_notify", queue)

    def _configuration(self) -> int:
        return PORTS + (LEGACY_CONFIG_MSIX if self._messages else LEGACY_CONFIG)

    def load(self, offset: int, size: int) -> int:
        """Behind the registers."""
        return self.machine.io_read(self._configuration() + offset, size)

    def store(self, offset: int, size: int, value: int) -> None:
        """The same."""
        self.machine.io_write(self._configuration() + offset, size, value)

    def any_register(self) -> tuple[str, ...]:
        """All but where rings are."""
        return tuple(name for name in LEGACY_FIELDS if name not in PLACES)


class _Window:
    """A window of registers."""

    legacy = False
    registers: tuple[str, ...] = MODERN_REGISTERS

    def __init__(self, device: VirtioDevice) -> None:
        self.machine = Machine(device.memory, device.context, ecam=None)
        self.machine.plug_mmio(VirtioMmio(device, name="vd0", legacy=self.legacy), MMIO_BASE, IRQ)

    def get(self, name: str) -> int:
        """A register."""
        return self.machine.read(MMIO_BASE + MMIO_REGISTERS[name].offset, 4)

    def set(self, name: str, value: int) -> None:
        """One, or a pair of them."""
        field = MMIO_REGISTERS[name]
        for at in range(0, field.size, 4):
            self.machine.write(MMIO_BASE + field.offset + at, 4, value >> 8 * at & 0xFFFF_FFFF)

    def kick(self, queue: int, position: int) -> None:
        """QueueNotify: the value's lower half is the queue."""
        self.set("queue_notify", max(position, 0) << 16 | queue)

    def load(self, offset: int, size: int) -> int:
        """Behind the registers."""
        return self.machine.read(MMIO_BASE + MMIO_CONFIG + offset, size)

    def store(self, offset: int, size: int, value: int) -> None:
        """The same."""
        self.machine.write(MMIO_BASE + MMIO_CONFIG + offset, size, value)

    def bus_master(self, on: bool) -> None:
        """There is no such thing."""

    def any_register(self) -> tuple[str, ...]:
        """All but where rings are."""
        return tuple(name for name in self.registers if name not in PLACES)

    def own_address(self) -> int:
        """Where a notification would be written to."""
        return MMIO_BASE + MMIO_REGISTERS["queue_notify"].offset


class OverMmio(_Window, Modern):
    """Version 2."""


class OverMmioLegacy(_Window, Legacy):
    """Version 1."""

    legacy = True
    registers = LEGACY_REGISTERS

    def begin(self, features: int) -> None:
        """The unit of page numbers comes first."""
        self.set("guest_page_size", LEGACY_PAGE)
        super().begin(features)


def carry(device: VirtioDevice, over: Over, on_message: Callable[[int, int], None]) -> Transport:
    """Put the device into a machine."""
    match over:
        case Over.PCI:
            return OverPci(device, on_message)
        case Over.PCI_LEGACY:
            return OverPciLegacy(device, on_message)
        case Over.MMIO:
            return OverMmio(device)
        case Over.MMIO_LEGACY:
            return OverMmioLegacy(device)
