"""The PCI transport's modern personality, VIRTIO 1.4 §4.1: a virtio device as a PCI function.

    BAR 1   MSI-X table and pending bits
    BAR 4   0x0000 common configuration    0x1000 ISR status
            0x2000 device configuration    0x3000 notification, 4 bytes for each queue

The device itself knows nothing of PCI; this file is its `Transport`.
"""

from __future__ import annotations

from collections.abc import Mapping

from devmodels.memory import GuestMemory
from devmodels.pci.bars import BarKind, Windows
from devmodels.pci.function import PciFunction, PciIdentity
from devmodels.pci.vendor import VendorCapability
from devmodels.registers import HWINIT, RO, RW, Bank, IllegalAccess, Register, RegisterFile
from devmodels.registers.state import nest, unnest
from devmodels.virtio.constants import NOTIFICATION_DATA, RING_RESET
from devmodels.virtio.device import VirtioDevice
from devmodels.virtio.queue import VirtQueue

VENDOR_ID = 0x1AF4
"""PCI vendor of virtio devices, VIRTIO 1.4 §4.1.2."""
MODERN_DEVICE_ID = 0x1040
"""Added to the virtio device id, VIRTIO 1.4 §4.1.2.1."""
NO_VECTOR = 0xFFFF
"""VIRTIO_MSI_NO_VECTOR, VIRTIO 1.4 §4.1.5.1.2."""

MSIX_BAR = 1
VIRTIO_BAR = 4
BAR_SIZE = 0x4000
COMMON_OFFSET = 0x0000
ISR_OFFSET = 0x1000
DEVICE_OFFSET = 0x2000
NOTIFY_OFFSET = 0x3000
AREA_SIZE = 0x1000
NOTIFY_MULTIPLIER = 4

CFG_COMMON = 1
CFG_NOTIFY = 2
CFG_ISR = 3
CFG_DEVICE = 4
CFG_PCI = 5

ISR_QUEUE = 1
ISR_CONFIG = 2


_LAYOUT = "VIRTIO 1.4 §4.1.4.3"
_DRIVER = "VIRTIO 1.4 §4.1.4.3.2"


class QueueRegisters(RegisterFile, size=0x24):
    """The part of the common configuration that belongs to the selected virtqueue, VIRTIO 1.4 §4.1.4.3."""

    queue_size = Register(0x00, 2, RW, clause=_LAYOUT)
    queue_msix_vector = Register(0x02, 2, RW, reset=NO_VECTOR, clause=_LAYOUT)
    queue_enable = Register(0x04, 2, RW, clause=_LAYOUT)
    queue_notify_off = Register(0x06, 2, RO, clause=_LAYOUT)
    queue_desc = Register(0x08, 8, RW, widths=(4, 8), clause=_LAYOUT)
    queue_driver = Register(0x10, 8, RW, widths=(4, 8), clause=_LAYOUT)
    queue_device = Register(0x18, 8, RW, widths=(4, 8), clause=_LAYOUT)
    queue_notif_config_data = Register(0x20, 2, RO, clause=_LAYOUT)
    queue_reset = Register(0x22, 2, RW, clause=_LAYOUT)

    def __init__(self, transport: VirtioPci | None = None, queue: VirtQueue | None = None) -> None:
        super().__init__()
        if transport is not None and queue is not None:
            self._transport = transport
            self._queue = queue
            self.lenient = not transport.device.violations.strict
            queue.on_clear = self.reset

    def _refused(self, name: str, value: int) -> bool:
        """Whether `name` must not be written now: a running queue keeps what it was started with."""
        if not self._queue.enabled:
            return False
        self._violation(_DRIVER, f"{name} written ({value:#x}) while the queue is enabled")
        return True

    def _violation(self, clause: str, summary: str) -> None:
        self._transport.device.violations.report(clause, summary, self._queue.name)

    @queue_size.on_read
    def _read_size(self, _held: int) -> int:
        return self._queue.size

    @queue_size.on_write
    def _write_size(self, _old: int, value: int) -> None:
        if self._refused("queue_size", value):
            return
        if value & (value - 1) or not 0 < value <= self._queue.max_size:
            most = self._queue.max_size
            self._violation(_DRIVER, f"queue_size {value}, expected a power of two up to {most}")
            return
        self._queue.size = value

    @queue_msix_vector.on_read
    def _read_vector(self, held: int) -> int:
        return held

    @queue_msix_vector.on_write
    def _write_vector(self, _old: int, value: int) -> None:
        self.queue_msix_vector = self._transport.valid_vector(value, self._queue.name)

    @queue_enable.on_read
    def _read_enable(self, _held: int) -> int:
        return int(self._queue.enabled and not self._queue.resetting)

    @queue_enable.on_write
    def _write_enable(self, _old: int, value: int) -> None:
        if value == 1:
            self._transport.device.enable_queue(self._queue)
        else:
            self._violation(_DRIVER, f"queue_enable set to {value}, expected 1")

    @queue_notify_off.on_read
    def _read_notify_off(self, _held: int) -> int:
        return self._queue.index

    @queue_desc.on_read
    def _read_desc(self, _held: int) -> int:
        return self._queue.desc

    @queue_desc.on_write
    def _write_desc(self, _old: int, value: int) -> None:
        if not self._refused("queue_desc", value):
            self._queue.desc = value

    @queue_driver.on_read
    def _read_driver(self, _held: int) -> int:
        return self._queue.driver

    @queue_driver.on_write
    def _write_driver(self, _old: int, value: int) -> None:
        if not self._refused("queue_driver", value):
            self._queue.driver = value

    @queue_device.on_read
    def _read_device(self, _held: int) -> int:
        return self._queue.device

    @queue_device.on_write
    def _write_device(self, _old: int, value: int) -> None:
        if not self._refused("queue_device", value):
            self._queue.device = value

    @queue_reset.on_read
    def _read_reset(self, _held: int) -> int:
        return int(self._queue.resetting)

    @queue_reset.on_write
    def _write_reset(self, _old: int, value: int) -> None:
        if not self._transport.device.driver_features & RING_RESET:
            self._violation(_LAYOUT, "queue_reset written without VIRTIO_F_RING_RESET")
        elif value != 1:
            self._violation(_DRIVER, f"queue_reset set to {value}, expected 1")
        else:
            self._transport.device.reset_queue(self._queue)


class CommonConfig(RegisterFile, size=0x40):
    """The common configuration structure, VIRTIO 1.4 §4.1.4.3.

    What belongs to the device is read from it and written through to it; the register values held here are only
    what the transport owns (selectors and vectors).  There is no administration virtqueue: its registers read 0.
    """

    device_feature_select = Register(0x00, 4, RW, clause=_LAYOUT)
    device_feature = Register(0x04, 4, RO, clause=_LAYOUT)
    driver_feature_select = Register(0x08, 4, RW, clause=_LAYOUT)
    driver_feature = Register(0x0C, 4, RW, clause=_LAYOUT)
    config_msix_vector = Register(0x10, 2, RW, reset=NO_VECTOR, clause=_LAYOUT)
    num_queues = Register(0x12, 2, RO, clause=_LAYOUT)
    device_status = Register(0x14, 1, RW, clause=_LAYOUT)
    config_generation = Register(0x15, 1, RO, clause=_LAYOUT)
    queue_select = Register(0x16, 2, RW, clause=_LAYOUT)
    queue = Bank(QueueRegisters, 0x18, select=queue_select, count=65536, clause=_LAYOUT)
    admin_queue_index = Register(0x3C, 2, RO, clause=_LAYOUT)
    admin_queue_num = Register(0x3E, 2, RO, clause=_LAYOUT)

    def __init__(self, transport: VirtioPci) -> None:
        super().__init__()
        self._transport = transport
        self._device = transport.device
        self.lenient = not transport.device.violations.strict
        self.on_illegal = self._illegal

    def _illegal(self, access: IllegalAccess) -> None:
        self._device.violations.report("VIRTIO 1.4 §4.1.3.1", str(access), self._device.name)

    @queue.factory
    def _make_queue(self, index: int) -> QueueRegisters | None:
        queues = self._device.queues
        if index >= len(queues):
            return None
        registers = QueueRegisters(self._transport, queues[index])
        registers.on_illegal = self._illegal
        return registers

    @device_feature.on_read
    def _read_device_feature(self, _held: int) -> int:
        return _features(self._device.device_features, self.device_feature_select)

    @driver_feature.on_read
    def _read_driver_feature(self, _held: int) -> int:
        return _features(self._device.driver_features, self.driver_feature_select)

    @driver_feature.on_write
    def _write_driver_feature(self, _old: int, value: int) -> None:
        self._device.write_features(value, select=self.driver_feature_select)

    @config_msix_vector.on_write
    def _write_vector(self, _old: int, value: int) -> None:
        self.config_msix_vector = self._transport.valid_vector(value, self._device.name)

    @num_queues.on_read
    def _read_num_queues(self, _held: int) -> int:
        return len(self._device.queues)

    @device_status.on_read
    def _read_status(self, _held: int) -> int:
        return int(self._device.status)

    @device_status.on_write
    def _write_status(self, _old: int, value: int) -> None:
        self._device.write_status(value)

    @config_generation.on_read
    def _read_generation(self, _held: int) -> int:
        return self._device.config_generation


def _features(bits: int, select: int) -> int:
    """32 feature bits from bit 32 * `select` on; 0 where none are defined (VIRTIO 1.4 §4.1.4.3.1)."""
    return bits >> 32 * select & 0xFFFF_FFFF if select < 8 else 0


class _IsrStatus:
    """ISR status, VIRTIO 1.4 §4.1.4.5: reading clears it and lets the interrupt go."""

    def __init__(self, transport: VirtioPci) -> None:
        self._transport = transport

    def read(self, offset: int, size: int) -> int:
        """Read the status byte and what lies behind it (0)."""
        del size
        return 0 if offset else self._transport.take_isr()

    def write(self, offset: int, size: int, value: int) -> None:
        """Writes are ignored."""


class _DeviceConfig:
    """The device-specific configuration, VIRTIO 1.4 §4.1.4.6."""

    def __init__(self, device: VirtioDevice) -> None:
        self._device = device

    def read(self, offset: int, size: int) -> int:
        """Any width: neighbouring fields are read together."""
        return self._device.load_config(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """The device judges offset and size."""
        self._device.write_config(offset, size, value)


class _Notify:
    """The notification area, VIRTIO 1.4 §4.1.4.4 and §4.1.5.2."""

    def __init__(self, device: VirtioDevice) -> None:
        self._device = device

    def read(self, offset: int, size: int) -> int:
        """Nothing can be read here."""
        del offset, size
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        """An available buffer notification of the queue at this place."""
        device = self._device
        index = offset // NOTIFY_MULTIPLIER
        expected = 4 if device.driver_features & NOTIFICATION_DATA else 2
        if size != expected or offset % NOTIFY_MULTIPLIER or value & 0xFFFF != index:
            device.violations.report(
                "VIRTIO 1.4 §4.1.5.2.1",
                f"notification of {size} bytes with value {value:#x} at offset {offset:#x},"
                f" expected {expected} bytes that begin with the queue's index",
                device.name,
            )
        device.kick(index, value)


class VirtioCapability(VendorCapability, size=16):
    """struct virtio_pci_cap: where a structure lies, VIRTIO 1.4 §4.1.4."""

    cfg_type = Register(0x03, 1, HWINIT, clause="VIRTIO 1.4 §4.1.4")
    bar = Register(0x04, 1, HWINIT, clause="VIRTIO 1.4 §4.1.4")
    id = Register(0x05, 1, HWINIT, clause="VIRTIO 1.4 §4.1.4")
    offset = Register(0x08, 4, HWINIT, clause="VIRTIO 1.4 §4.1.4")
    length = Register(0x0C, 4, HWINIT, clause="VIRTIO 1.4 §4.1.4")

    def __init__(self, cfg_type: int, offset: int, length: int) -> None:
        super().__init__()
        self.cfg_type = cfg_type
        self.bar = VIRTIO_BAR
        self.offset = offset
        self.length = length


class NotifyCapability(VirtioCapability, size=20):
    """struct virtio_pci_notify_cap, VIRTIO 1.4 §4.1.4.4."""

    notify_off_multiplier = Register(0x10, 4, HWINIT, clause="VIRTIO 1.4 §4.1.4.4")

    def __init__(self, offset: int, length: int) -> None:
        super().__init__(CFG_NOTIFY, offset, length)
        self.notify_off_multiplier = NOTIFY_MULTIPLIER


class AccessCapability(VendorCapability, size=20):
    """struct virtio_pci_cfg_cap: a window into a BAR from configuration space, VIRTIO 1.4 §4.1.4.9."""

    cfg_type = Register(0x03, 1, HWINIT, clause="VIRTIO 1.4 §4.1.4")
    bar = Register(0x04, 1, RW, clause="VIRTIO 1.4 §4.1.4.9")
    offset = Register(0x08, 4, RW, clause="VIRTIO 1.4 §4.1.4.9")
    length = Register(0x0C, 4, RW, clause="VIRTIO 1.4 §4.1.4.9")
    pci_cfg_data = Register(0x10, 4, RW, clause="VIRTIO 1.4 §4.1.4.9.1")

    def __init__(self, transport: VirtioPci) -> None:
        super().__init__()
        self._transport = transport
        self.cfg_type = CFG_PCI

    def _window(self) -> bool:
        """Whether bar, offset and length name a possible access."""
        bar = self._transport.bars.get(self.bar)
        good = (
            bar is not None
            and self.length in (1, 2, 4)
            and self.offset % self.length == 0
            and self.offset + self.length <= bar.size
        )
        if not good:
            device = self._transport.device
            device.violations.report(
                "VIRTIO 1.4 §4.1.4.9.2",
                f"pci_cfg_data accessed with bar {self.bar}, offset {self.offset:#x}, length {self.length}",
                device.name,
            )
        return good

    @pci_cfg_data.on_read
    def _read_data(self, held: int) -> int:
        if not self._window():
            return held
        value = self._transport.bars[self.bar].handler.read(self.offset, self.length)
        self.pci_cfg_data = held & ~((1 << 8 * self.length) - 1) | value
        return self.pci_cfg_data

    @pci_cfg_data.on_write
    def _write_data(self, _old: int, value: int) -> None:
        if self._window():
            mask = (1 << 8 * self.length) - 1
            self._transport.bars[self.bar].handler.write(self.offset, self.length, value & mask)


class VirtioPci(PciFunction):
    """A virtio device as a modern PCI function with `vectors` MSI-X vectors (0: INTx only)."""

    def __init__(
        self,
        device: VirtioDevice,
        *,
        class_code: int,
        name: str,
        vectors: int | None = None,
    ) -> None:
        """`vectors` defaults to one for each queue and one for configuration changes."""
        device_id = MODERN_DEVICE_ID + device.DEVICE_ID
        identity = PciIdentity(
            VENDOR_ID,
            device_id,
            class_code,
            revision=1,
            subsystem_vendor_id=VENDOR_ID,
            subsystem_id=0x1100,
        )
        super().__init__(identity, name=name)
        self.device = device
        self._isr = 0
        device.transport = self
        device.paused = True
        device.on_reset = self._device_reset
        queues = len(device.queues)
        self.common = CommonConfig(self)
        windows = Windows(BAR_SIZE)
        windows.place(COMMON_OFFSET, AREA_SIZE, self.common)
        windows.place(ISR_OFFSET, AREA_SIZE, _IsrStatus(self))
        windows.place(DEVICE_OFFSET, AREA_SIZE, _DeviceConfig(device))
        windows.place(NOTIFY_OFFSET, NOTIFY_MULTIPLIER * queues, _Notify(device))
        self.add_bar(VIRTIO_BAR, BAR_SIZE, windows, kind=BarKind.PREFETCHABLE64)
        self._vectors = queues + 1 if vectors is None else vectors
        if self._vectors:
            self.msix = self.add_msix(self._vectors, bar=MSIX_BAR)
        self.add_capability(VirtioCapability(CFG_COMMON, COMMON_OFFSET, AREA_SIZE))
        self.add_capability(VirtioCapability(CFG_ISR, ISR_OFFSET, AREA_SIZE))
        self.add_capability(VirtioCapability(CFG_DEVICE, DEVICE_OFFSET, AREA_SIZE))
        self.add_capability(NotifyCapability(NOTIFY_OFFSET, NOTIFY_MULTIPLIER * queues))
        self.add_capability(AccessCapability(self))

    @property
    def memory(self) -> GuestMemory:
        """The memory that the device masters."""
        return self.device.memory

    # --- interrupts

    def valid_vector(self, value: int, place: str) -> int:
        """What a vector register reads after `value` was written: NO_VECTOR where there is no such vector."""
        if value < self._vectors or value == NO_VECTOR:
            return value
        self.device.violations.report(
            "VIRTIO 1.4 §4.1.5.1.2", f"vector {value} of {self._vectors}", place, value.to_bytes(2, "little")
        )
        return NO_VECTOR

    def notify_used(self, queue: int) -> None:
        """A used buffer notification, VIRTIO 1.4 §4.1.5.3.1."""
        if self.msix is not None and self.msix.enabled:
            self._message(self.common.queue[queue].queue_msix_vector)
        else:
            self._raise(ISR_QUEUE)

    def notify_config(self) -> None:
        """A configuration change notification, VIRTIO 1.4 §4.1.5.4.1."""
        if self.msix is not None and self.msix.enabled:
            self._isr |= ISR_CONFIG
            self._message(self.common.config_msix_vector)
        else:
            self._raise(ISR_CONFIG)

    def _message(self, vector: int) -> None:
        if vector != NO_VECTOR and self.msix is not None:
            self.msix.notify(vector)

    def _raise(self, bit: int) -> None:
        self._isr |= bit
        self.set_intx(True)

    def take_isr(self) -> int:
        """Read and clear ISR status (VIRTIO 1.4 §4.1.4.5.1)."""
        value, self._isr = self._isr, 0
        self.set_intx(False)
        return value

    # --- PCI

    def save(self) -> dict[str, int]:
        """Configuration space, selectors and vectors, ISR status; the device itself saves its own state."""
        return {**super().save(), **nest("common", self.common.save()), "isr": self._isr}

    def restore(self, state: Mapping[str, int]) -> None:
        """Take what `save` gave."""
        self.common.restore(unnest("common", state))
        self._isr = state["isr"]
        own = {name for name in state if name == "isr" or name.startswith("common.")}
        super().restore({name: value for name, value in state.items() if name not in own})

    def on_bus_master(self, enabled: bool) -> None:
        """Without bus mastering the device takes no buffers; what came meanwhile is found when it is switched on."""
        if enabled:
            self.device.resume()
        else:
            self.device.pause()

    def unplugged(self) -> None:
        """The function has left the bus: the device does nothing more."""
        super().unplugged()
        self.device.pause()
        self.device.reset()

    def on_reset(self) -> None:
        """The function was reset: so is the device."""
        self.device.reset()

    def _device_reset(self) -> None:
        """The device was reset: no vector is mapped, no interrupt is pending (VIRTIO 1.4 §4.1.5.1.2.1)."""
        self.common.reset()
        self.take_isr()
        if self.msix is not None:
            for vector in range(self._vectors):
                self.msix.forget(vector)
