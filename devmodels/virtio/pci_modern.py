"""The modern registers of a virtio PCI function, VIRTIO 1.4 §4.1.4: what lies in BAR 4, and its capabilities.

0x0000 common configuration    0x1000 ISR status
0x2000 device configuration    0x3000 notification, 4 bytes for each queue
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from devmodels.conformance import written
from devmodels.pci.vendor import VendorCapability
from devmodels.registers import HWINIT, RC, RO, RW, Bank, IllegalAccess, Register, RegisterFile
from devmodels.virtio.constants import NOTIF_CONFIG_DATA, NOTIFICATION_DATA, RING_RESET, feature_word
from devmodels.virtio.device import VirtioDevice
from devmodels.virtio.queue import VirtQueue

if TYPE_CHECKING:
    from devmodels.virtio.pci import VirtioPci

NO_VECTOR = 0xFFFF
"""VIRTIO_MSI_NO_VECTOR, VIRTIO 1.4 §4.1.5.1.2."""

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

NOTIF_CONFIG_BASE = 0x4000
"""Added to a queue's index, its queue_notif_config_data: a driver that sends the index instead is caught."""

QEMU_QUEUES = 1024
"""QEMU's functions take no higher number into queue_select: they go on with the last one."""

ISR_QUEUE = 1
ISR_CONFIG = 2


_LAYOUT = "VIRTIO 1.4 §4.1.4.3"
_DRIVER = "VIRTIO 1.4 §4.1.4.3.2"


class QueueRegisters(RegisterFile, size=0x24, closed=True):
    """The part of the common configuration that belongs to the selected virtqueue, VIRTIO 1.4 §4.1.4.3."""

    queue_size = Register(0x00, 2, RW, clause=_LAYOUT, doc="entries, the most at first")
    queue_msix_vector = Register(0x02, 2, RW, reset=NO_VECTOR, clause=_LAYOUT, doc="FFFFh: none")
    queue_enable = Register(0x04, 2, RW, clause=_LAYOUT, doc="1 starts the queue")
    queue_notify_off = Register(
        0x06, 2, RO, clause=_LAYOUT, doc="where notifications go, in units of notify_off_multiplier"
    )
    queue_desc = Register(0x08, 8, RW, widths=(4,), clause=_LAYOUT, doc="address of the descriptors")
    queue_driver = Register(0x10, 8, RW, widths=(4,), clause=_LAYOUT, doc="address of the driver's area")
    queue_device = Register(0x18, 8, RW, widths=(4,), clause=_LAYOUT, doc="address of the device's area")
    queue_notif_config_data = Register(
        0x20, 2, RO, clause=_LAYOUT, doc="what notifications begin with, with NOTIF_CONFIG_DATA"
    )
    queue_reset = Register(0x22, 2, RW, clause=_LAYOUT, doc="1 resets the queue alone, with RING_RESET")

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
        self._violation(_DRIVER, f"{name} written ({value:#x}) while the queue is enabled", written(value, 2))
        return True

    def _violation(self, clause: str, summary: str, data: bytes) -> None:
        self._transport.device.violations.report(clause, summary, self._queue.name, data)

    @queue_size.on_read
    def _read_size(self, _held: int) -> int:
        return self._queue.size

    @queue_size.on_write
    def _write_size(self, _old: int, value: int) -> None:
        if self._refused("queue_size", value):
            return
        if not self._queue.allows(value):
            kind = "1 to" if self._transport.device.packed else "a power of two up to"
            self._violation(
                _DRIVER, f"queue_size {value}, expected {kind} {self._queue.max_size}", written(value, 2)
            )
            return
        self._queue.size = value

    @queue_msix_vector.on_read
    def _read_vector(self, held: int) -> int:
        return held

    @queue_msix_vector.on_write
    def _write_vector(self, old: int, value: int) -> None:
        self.queue_msix_vector = self._transport.map_vector(old, value, self._queue.name)

    @queue_enable.on_read
    def _read_enable(self, _held: int) -> int:
        return int(self._queue.enabled and not self._queue.resetting)

    @queue_enable.on_write
    def _write_enable(self, _old: int, value: int) -> None:
        if not self._transport.common.enter():
            return
        if value == 1:
            self._transport.device.enable_queue(self._queue)
        else:
            self._violation(_DRIVER, f"queue_enable set to {value}, expected 1", written(value, 2))

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

    @queue_notif_config_data.on_read
    def _read_notif_config_data(self, _held: int) -> int:
        negotiated = self._transport.device.driver_features & NOTIF_CONFIG_DATA
        return NOTIF_CONFIG_BASE + self._queue.index if negotiated else 0

    @queue_reset.on_read
    def _read_reset(self, _held: int) -> int:
        return int(self._queue.resetting)

    @queue_reset.on_write
    def _write_reset(self, _old: int, value: int) -> None:
        if not self._transport.device.driver_features & RING_RESET:
            self._violation(_LAYOUT, "queue_reset written without VIRTIO_F_RING_RESET", written(value, 2))
        elif value != 1:
            self._violation(_DRIVER, f"queue_reset set to {value}, expected 1", written(value, 2))
        else:
            self._transport.device.reset_queue(self._queue)


class CommonConfig(RegisterFile, size=0x40, closed=True):
    """The common configuration structure, VIRTIO 1.4 §4.1.4.3.

    What belongs to the device is read from it and written through to it; the register values held here are only
    what the transport owns (selectors and vectors).  There is no administration virtqueue: its registers read 0.
    """

    device_feature_select = Register(0x00, 4, RW, clause=_LAYOUT, doc="which 32 bits device_feature shows")
    device_feature = Register(0x04, 4, RO, clause=_LAYOUT, doc="what is offered")
    driver_feature_select = Register(0x08, 4, RW, clause=_LAYOUT, doc="which 32 bits driver_feature is")
    driver_feature = Register(0x0C, 4, RW, clause=_LAYOUT, doc="what is accepted")
    config_msix_vector = Register(
        0x10, 2, RW, reset=NO_VECTOR, clause=_LAYOUT, doc="for configuration changes; FFFFh: none"
    )
    num_queues = Register(0x12, 2, RO, clause=_LAYOUT, doc="how many there are")
    device_status = Register(0x14, 1, RW, clause=_LAYOUT, doc="0 resets")
    config_generation = Register(
        0x15, 1, RO, clause=_LAYOUT, doc="another one when the configuration has changed"
    )
    queue_select = Register(0x16, 2, RW, clause=_LAYOUT, doc="whose registers follow")
    queue = Bank(QueueRegisters, 0x18, select=queue_select, count=65536, clause=_LAYOUT)
    admin_queue_index = Register(0x3C, 2, RO, clause=_LAYOUT, doc="no administration queues")
    admin_queue_num = Register(0x3E, 2, RO, clause=_LAYOUT, doc="no administration queues")

    def __init__(self, transport: VirtioPci) -> None:
        super().__init__()
        self._transport = transport
        self._device = transport.device
        self.lenient = not transport.device.violations.strict
        self.on_illegal = self._illegal

    def _illegal(self, access: IllegalAccess) -> None:
        clause = _DRIVER if access.wrong_way else "VIRTIO 1.4 §4.1.3.1"
        self._device.violations.report(clause, str(access), self._device.name, access.data)

    def enter(self) -> bool:
        """The driver uses this interface: whether it may, until it resets the device."""
        device = self._device
        if device.legacy:
            if device.status:
                summary = "modern interface used by a legacy driver"
                device.violations.report("VIRTIO 1.4 §2.2.3", summary, device.name, written(device.status, 1))
                return False
            device.legacy = False
        return True

    @queue.factory
    def _make_queue(self, index: int) -> QueueRegisters | None:
        queues = self._device.queues
        if index >= len(queues):
            return self._absent(index) if self._transport.as_qemu else None
        registers = QueueRegisters(self._transport, queues[index])
        registers.on_illegal = self._illegal
        return registers

    def _absent(self, index: int) -> QueueRegisters:
        from devmodels.virtio.absent_queue import AbsentQueue

        return AbsentQueue(self._transport, index)

    def vectors(self) -> Iterator[int]:
        """What all vector registers hold."""
        yield self.config_msix_vector
        for _, registers in self.queue.made():
            yield registers.queue_msix_vector

    @queue_select.on_write
    def _select(self, old: int, value: int) -> None:
        if value >= QEMU_QUEUES and self._transport.as_qemu:
            self.queue_select = old

    @device_feature.on_read
    def _read_device_feature(self, _held: int) -> int:
        return feature_word(self._device.device_features, self.device_feature_select)

    @driver_feature.on_read
    def _read_driver_feature(self, _held: int) -> int:
        device = self._device
        features = device.features_written if device.as_qemu else device.driver_features
        return feature_word(features, self.driver_feature_select)

    @driver_feature.on_write
    def _write_driver_feature(self, _old: int, value: int) -> None:
        if not self.enter():
            return
        self._device.write_features(value, select=self.driver_feature_select)

    @config_msix_vector.on_write
    def _write_vector(self, old: int, value: int) -> None:
        self.config_msix_vector = self._transport.map_vector(old, value, self._device.name)

    @num_queues.on_read
    def _read_num_queues(self, _held: int) -> int:
        return len(self._device.queues)

    @device_status.on_read
    def _read_status(self, _held: int) -> int:
        return self._device.shown_status

    @device_status.on_write
    def _write_status(self, _old: int, value: int) -> None:
        if value and not self.enter():
            return
        self._device.write_status(value)

    @config_generation.on_read
    def _read_generation(self, _held: int) -> int:
        return self._device.config_generation


class IsrStatus(RegisterFile, size=AREA_SIZE, widths=(1, 2, 4, 8), lenient=True):
    """ISR status, VIRTIO 1.4 §4.1.4.5: reading clears it and lets the interrupt go."""

    isr_status = Register(0, 1, clause="VIRTIO 1.4 §4.1.4.5", doc="reading takes the interrupt back")
    isr_queue = isr_status.bit(0, RC, doc="of a queue")
    isr_config = isr_status.bit(1, RC, doc="of the configuration")

    def __init__(self, transport: VirtioPci) -> None:
        super().__init__()
        self._transport = transport

    @isr_status.on_read
    def _read(self, _held: int) -> int:
        return self._transport.take_isr()


class DeviceConfig:
    """The device-specific configuration, VIRTIO 1.4 §4.1.4.6."""

    def __init__(self, device: VirtioDevice) -> None:
        self._device = device

    def read(self, offset: int, size: int) -> int:
        """Any width: neighbouring fields are read together."""
        self._judge(offset, size)
        return self._device.load_config(offset, size)

    def _judge(self, offset: int, size: int) -> None:
        device = self._device
        if (size > 4 or offset % size) and device.violations.strict:
            summary = f"{size}-byte access at configuration offset {offset}"
            device.violations.report("VIRTIO 1.4 §4.1.3.1", summary, device.name, written(offset, 4))

    def write(self, offset: int, size: int, value: int) -> None:
        """The device judges offset and size."""
        self._device.store_config(offset, size, value)


class Notify:
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
        features = device.driver_features
        expected = 4 if features & NOTIFICATION_DATA else 2
        name = NOTIF_CONFIG_BASE + index if features & NOTIF_CONFIG_DATA else index
        if size != expected or offset % NOTIFY_MULTIPLIER or value & 0xFFFF != name:
            device.violations.report(
                "VIRTIO 1.4 §4.1.5.2.1",
                f"notification of {size} bytes with value {value:#x} at offset {offset:#x},"
                f" expected {expected} bytes that begin with {name:#x}",
                device.name,
                written(value, size),
            )
        device.kick(index, value)


class VirtioCapability(VendorCapability, size=16):
    """struct virtio_pci_cap: where a structure lies, VIRTIO 1.4 §4.1.4."""

    cfg_type = Register(
        0x03,
        1,
        HWINIT,
        clause="VIRTIO 1.4 §4.1.4",
        doc="which structure: 1 common, 2 notification, 3 ISR, 4 device",
    )
    bar = Register(0x04, 1, HWINIT, clause="VIRTIO 1.4 §4.1.4", doc="the BAR that it lies in")
    id = Register(0x05, 1, HWINIT, clause="VIRTIO 1.4 §4.1.4", doc="0: there is one of each")
    offset = Register(0x08, 4, HWINIT, clause="VIRTIO 1.4 §4.1.4", doc="where in the BAR")
    length = Register(0x0C, 4, HWINIT, clause="VIRTIO 1.4 §4.1.4", doc="in bytes")

    def __init__(self, cfg_type: int, offset: int, length: int) -> None:
        super().__init__()
        self.cfg_type = cfg_type
        self.bar = VIRTIO_BAR
        self.offset = offset
        self.length = length


class NotifyCapability(VirtioCapability, size=20):
    """struct virtio_pci_notify_cap, VIRTIO 1.4 §4.1.4.4."""

    notify_off_multiplier = Register(
        0x10, 4, HWINIT, clause="VIRTIO 1.4 §4.1.4.4", doc="bytes between queues' places"
    )

    def __init__(self, offset: int, length: int) -> None:
        super().__init__(CFG_NOTIFY, offset, length)
        self.notify_off_multiplier = NOTIFY_MULTIPLIER


class AccessCapability(VendorCapability, size=20):
    """struct virtio_pci_cfg_cap: a window into a BAR from configuration space, VIRTIO 1.4 §4.1.4.9."""

    cfg_type = Register(0x03, 1, HWINIT, clause="VIRTIO 1.4 §4.1.4", doc="5")
    bar = Register(0x04, 1, RW, clause="VIRTIO 1.4 §4.1.4.9", doc="of the access")
    offset = Register(0x08, 4, RW, clause="VIRTIO 1.4 §4.1.4.9", doc="of the access")
    length = Register(0x0C, 4, RW, clause="VIRTIO 1.4 §4.1.4.9", doc="of the access: 1, 2 or 4")
    pci_cfg_data = Register(
        0x10, 4, RW, clause="VIRTIO 1.4 §4.1.4.9.1", doc="reading and writing it does the access"
    )

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
                written(self.offset, 4) + written(self.length, 4),
            )
        return good

    @pci_cfg_data.on_read
    def _read_data(self, held: int) -> int:
        if not (self.bar or self.offset or self.length):
            # Nobody has looked through it: somebody reads all of configuration space.
            return held
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
