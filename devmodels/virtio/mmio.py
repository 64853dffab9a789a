"""A virtio device over MMIO, VIRTIO 1.4 §4.2: 256 bytes of control registers, then the device configuration.

One level-triggered interrupt line is up while InterruptStatus is not 0; the driver takes the events off by writing them
to InterruptACK.  The device itself knows nothing of MMIO; this file is its `Transport`.
"""

from __future__ import annotations

from collections.abc import Mapping

from devmodels.conformance import written
from devmodels.interrupts import LineSource
from devmodels.memory import GuestMemory
from devmodels.registers.state import nest, unnest
from devmodels.virtio.device import VirtioDevice
from devmodels.virtio.mmio_legacy import LegacyMmio
from devmodels.virtio.mmio_modern import CONTROL_SIZE, DRIVER_RULES, NOTIFICATION, ModernMmio

WINDOW_SIZE = 0x200
"""Bytes of memory space that a device takes."""

USED_BUFFER = 1
CONFIG_CHANGE = 2


class VirtioMmio:
    """A virtio device of version 2, or 1 where it is `legacy`, for `Machine.plug_mmio`."""

    size = WINDOW_SIZE

    def __init__(self, device: VirtioDevice, *, name: str, legacy: bool = False) -> None:
        self.device = device
        self.name = name
        self.accessing = False
        self.registers: LegacyMmio | ModernMmio = LegacyMmio(self) if legacy else ModernMmio(self)
        self._line: LineSource | None = None
        device.transport = self
        device.notification_clause = NOTIFICATION
        device.on_reset = self._device_reset

    @property
    def memory(self) -> GuestMemory:
        """The memory that the device masters."""
        return self.device.memory

    # --- accesses

    def read(self, offset: int, size: int) -> int:
        """A guest's read of the window."""
        if offset < CONTROL_SIZE:
            return self.registers.read(offset, size)
        offset -= CONTROL_SIZE
        self._judge(offset, size)
        if isinstance(self.registers, LegacyMmio):
            return self.registers.interface.read_config(offset, size)
        return self.device.load_config(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """A guest's write to the window."""
        if offset < CONTROL_SIZE:
            self.registers.write(offset, size, value)
            return
        offset -= CONTROL_SIZE
        self._judge(offset, size, written(value, size))
        if isinstance(self.registers, LegacyMmio):
            self.registers.interface.write_config(offset, size, value)
        else:
            self.device.store_config(offset, size, value)

    def _judge(self, offset: int, size: int, data: bytes = b"") -> None:
        violations = self.device.violations
        if (size > 4 or offset % size) and violations.strict:
            summary = f"{size}-byte access at configuration offset {offset}"
            violations.report(DRIVER_RULES, summary, self.device.name, data)

    # --- interrupts

    def notify_used(self, _queue: int) -> None:
        """A used buffer notification, VIRTIO 1.4 §4.2.3.4."""
        self._raise(USED_BUFFER)

    def notify_config(self) -> None:
        """A configuration change notification, VIRTIO 1.4 §4.2.3.4."""
        self._raise(CONFIG_CHANGE)

    def _raise(self, event: int) -> None:
        self.registers.interrupt_status |= event
        self.interrupt_changed()

    def interrupt_changed(self) -> None:
        """InterruptStatus has changed: so may the line."""
        if self._line is not None:
            self._line.set(bool(self.registers.interrupt_status))

    # --- the machine's side

    def plugged(self, line: LineSource) -> None:
        """The device is in a machine now, with its interrupt on `line`."""
        self._line = line
        self.interrupt_changed()

    def reset(self) -> None:
        """The machine is reset: registers and device."""
        self.registers.reset()
        self.device.reset()
        self.interrupt_changed()

    def save(self) -> dict[str, int]:
        """The registers that belong to the transport; the device itself saves its own state."""
        return nest("registers", self.registers.save())

    def judge(self, state: Mapping[str, int]) -> None:
        """ValueError where `restore` could not take `state`."""
        self.registers.judge(unnest("registers", state))

    def restore(self, state: Mapping[str, int]) -> None:
        """Take what `save` gave."""
        self.registers.restore(unnest("registers", state))
        self.interrupt_changed()

    def _device_reset(self) -> None:
        """The device was reset: no interrupt is pending (VIRTIO 1.4 §4.2.2.1)."""
        self.registers.interrupt_status = 0
        self.interrupt_changed()
