"""How the driver reaches the device: its registers over PCI (modern) and over MMIO (version 2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from devmodels.machine import Machine
from devmodels.virtio.device import VirtioDevice
from devmodels.virtio.mmio import VirtioMmio
from devmodels.virtio.pci import VirtioPci
from tests.unit.virtio.pcirig import FIELDS, SLOT, PciRig

MMIO_BASE, IRQ = 0xFEB0_0000, 5
REGISTERS = {
    "device_feature_select": 0x14,
    "device_feature": 0x10,
    "driver_feature_select": 0x24,
    "driver_feature": 0x20,
    "queue_select": 0x30,
    "queue_size": 0x38,
    "queue_enable": 0x44,
    "device_status": 0x70,
    "queue_desc": 0x80,
    "queue_driver": 0x90,
    "queue_device": 0xA0,
    "queue_reset": 0xC0,
    "config_generation": 0xFC,
}
"""VIRTIO 1.4 §4.2.2, by the names that PCI has for them."""


class Transport(Protocol):
    """Registers by their names in struct virtio_pci_common_cfg."""

    machine: Machine
    where: dict[int, int]

    def get(self, name: str) -> int:
        """Read a register."""

    def set(self, name: str, value: int) -> None:
        """Write one; addresses of 64 bits as a whole."""

    def notify(self, queue: int, value: int) -> None:
        """An available buffer notification."""

    def any_register(self) -> tuple[str, ...]:
        """All registers but those that say where rings are."""

    def own_address(self) -> int:
        """Where a notification is written to."""


class OverPci(PciRig):
    """A function in slot 5, its BARs where they are put."""

    def __init__(self, device: VirtioDevice, on_message: Callable[[int, int], None]) -> None:
        self.machine = Machine(device.memory, device.context, ecam=None, on_message=on_message)
        self.function = VirtioPci(device, class_code=0x010000, name="vd0")
        self.machine.plug(self.function, SLOT)
        self.map_bars()

    def notify(self, queue: int, value: int | None = None, size: int = 2) -> None:
        """A write to the queue's notification address, of 4 bytes where data goes with it."""
        super().notify(queue, value, 4 if value is not None and value > 0xFFFF else size)

    def any_register(self) -> tuple[str, ...]:
        """What the common configuration has, but for where rings are."""
        return tuple(name for name in FIELDS if name not in ("queue_desc", "queue_driver", "queue_device"))

    def own_address(self) -> int:
        """Where a notification would be written to."""
        return self.where[2]


class OverMmio:
    """A window of registers."""

    def __init__(self, device: VirtioDevice) -> None:
        self.machine = Machine(device.memory, device.context, ecam=None)
        self.machine.plug_mmio(VirtioMmio(device, name="vd0"), MMIO_BASE, IRQ)
        self.where: dict[int, int] = {4: MMIO_BASE + 0x100}

    def get(self, name: str) -> int:
        """A register, or a pair of them."""
        at = MMIO_BASE + REGISTERS[name]
        return self.machine.read(at, 4)

    def set(self, name: str, value: int) -> None:
        """The same."""
        at = MMIO_BASE + REGISTERS[name]
        self.machine.write(at, 4, value & 0xFFFF_FFFF)
        if name in ("queue_desc", "queue_driver", "queue_device"):
            self.machine.write(at + 4, 4, value >> 32)

    def notify(self, queue: int, value: int) -> None:
        """QueueNotify: the value's lower half is the queue."""
        self.machine.write(MMIO_BASE + 0x50, 4, value | queue)

    def any_register(self) -> tuple[str, ...]:
        """All but where rings are."""
        return tuple(name for name in REGISTERS if name not in ("queue_desc", "queue_driver", "queue_device"))

    def own_address(self) -> int:
        """Where a notification would be written to."""
        return MMIO_BASE + 0x50
