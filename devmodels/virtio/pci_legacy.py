"""The legacy registers of a virtio PCI function: an I/O BAR 0, VIRTIO 1.4 §4.1.4.10.

0x00 device features    0x04 driver features    0x08 queue address (its page)    0x0C queue size
0x0E queue select       0x10 queue notify       0x12 device status, 0x13 ISR status
0x14 config MSI-X vector and 0x16 queue MSI-X vector, while MSI-X is enabled
then the device configuration, of which any part can be accessed in any width
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.registers import RC, RO, RW, IllegalAccess, Register, RegisterFile
from devmodels.virtio.constants import Status
from devmodels.virtio.legacy import PAGE, Legacy
from devmodels.virtio.pci_modern import NO_VECTOR, QEMU_QUEUES

if TYPE_CHECKING:
    from devmodels.virtio.pci import VirtioPci
    from devmodels.virtio.queue import VirtQueue

HEADER_SIZE = 20
ACKNOWLEDGED = Status.ACKNOWLEDGE | Status.DRIVER
MSIX_HEADER_SIZE = 24

_LAYOUT = "VIRTIO 1.4 §4.1.4.10"


class LegacyHeader(RegisterFile, size=MSIX_HEADER_SIZE, closed=True):
    """The legacy configuration structure, with the two vectors that are there while MSI-X is enabled."""

    device_features = Register(0x00, 4, RO, clause=_LAYOUT, doc="what is offered, bits 31:0")
    driver_features = Register(0x04, 4, RW, clause=_LAYOUT, doc="what is accepted")
    queue_address = Register(0x08, 4, RW, clause=_LAYOUT, doc="page of the selected queue; 0 ends it")
    queue_size = Register(0x0C, 2, RO, clause=_LAYOUT, doc="entries of the selected queue")
    queue_select = Register(0x0E, 2, RW, clause=_LAYOUT, doc="which queue")
    queue_notify = Register(0x10, 2, RW, clause=_LAYOUT, doc="a queue's index")
    device_status = Register(0x12, 1, RW, clause=_LAYOUT, doc="0 resets")
    isr_status = Register(0x13, 1, clause=_LAYOUT, doc="reading takes the interrupt back")
    isr_queue = isr_status.bit(0, RC, doc="of a queue")
    isr_config = isr_status.bit(1, RC, doc="of the configuration")
    config_msix_vector = Register(
        0x14, 2, RW, reset=NO_VECTOR, clause=_LAYOUT, doc="FFFFh: none; there while MSI-X is enabled"
    )
    queue_msix_vector = Register(
        0x16, 2, RW, reset=NO_VECTOR, clause=_LAYOUT, doc="FFFFh: none; there while MSI-X is enabled"
    )

    def __init__(self, transport: VirtioPci) -> None:
        super().__init__()
        self._transport = transport
        self._device = transport.device
        self.interface = Legacy(transport.device, _LAYOUT)
        self.lenient = not transport.device.violations.strict
        self.on_illegal = self._illegal

    def _illegal(self, access: IllegalAccess) -> None:
        self._device.violations.report(_LAYOUT, str(access), self._device.name, access.data)

    def _queue(self) -> VirtQueue | None:
        queues = self._device.queues
        return queues[self.queue_select] if self.queue_select < len(queues) else None

    @device_features.on_read
    def _read_device_features(self, _held: int) -> int:
        return self.interface.offered

    @driver_features.on_read
    def _read_driver_features(self, _held: int) -> int:
        return self.interface.accepted

    @driver_features.on_write
    def _write_driver_features(self, _old: int, value: int) -> None:
        self.interface.write_features(value)

    @queue_address.on_read
    def _read_queue_address(self, _held: int) -> int:
        return self.interface.page_number(self._queue(), PAGE)

    @queue_address.on_write
    def _write_queue_address(self, _old: int, value: int) -> None:
        self.interface.place(self._queue(), value, PAGE, PAGE)

    @queue_size.on_read
    def _read_queue_size(self, _held: int) -> int:
        queue = self._queue()
        return 0 if queue is None else queue.size

    @queue_select.on_write
    def _select(self, old: int, value: int) -> None:
        if value >= QEMU_QUEUES and self._transport.as_qemu:
            self.queue_select = old

    @queue_notify.on_write
    def _notify(self, _old: int, value: int) -> None:
        self._device.kick(value)

    @device_status.on_read
    def _read_status(self, _held: int) -> int:
        return self._device.shown_status

    @device_status.on_write
    def _write_status(self, _old: int, value: int) -> None:
        self.interface.write_status(value)
        transport = self._transport
        if value == ACKNOWLEDGED and transport.as_qemu:
            # As drivers of old never did it.
            transport.header.bus_master_enable = 1
            transport.bus_master_changed()

    @isr_status.on_read
    def _read_isr(self, _held: int) -> int:
        return self._transport.take_isr()

    @config_msix_vector.on_read
    def _read_config_vector(self, _held: int) -> int:
        return self._transport.common.config_msix_vector

    @config_msix_vector.on_write
    def _write_config_vector(self, _old: int, value: int) -> None:
        common = self._transport.common
        old = common.config_msix_vector
        common.config_msix_vector = self._transport.map_vector(old, value, self._device.name)

    @queue_msix_vector.on_read
    def _read_queue_vector(self, _held: int) -> int:
        registers = self._transport.common.queue.get(self.queue_select)
        return NO_VECTOR if registers is None else registers.queue_msix_vector

    @queue_msix_vector.on_write
    def _write_queue_vector(self, _old: int, value: int) -> None:
        registers = self._transport.common.queue.get(self.queue_select)
        if registers is not None:
            old = registers.queue_msix_vector
            registers.queue_msix_vector = self._transport.map_vector(old, value, self._device.name)


class LegacyBar:
    """BAR 0: the header, and the device configuration where the header ends just now."""

    def __init__(self, transport: VirtioPci) -> None:
        self._transport = transport
        self.header = LegacyHeader(transport)

    def _header_size(self) -> int:
        msix = self._transport.msix
        return MSIX_HEADER_SIZE if msix is not None and msix.enabled else HEADER_SIZE

    def read(self, offset: int, size: int) -> int:
        """A read of the header's registers, or of any part of the device configuration."""
        header = self._header_size()
        if offset < header:
            return self.header.read(offset, size)
        return self.header.interface.read_config(offset - header, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """A write to the header's registers, or to any part of the device configuration."""
        header = self._header_size()
        if offset < header:
            self.header.write(offset, size, value)
        else:
            self.header.interface.write_config(offset - header, size, value)
