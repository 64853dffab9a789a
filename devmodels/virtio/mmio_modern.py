"""The control registers of a virtio device over MMIO, VIRTIO 1.4 §4.2.2; those that version 1 shares come first.

Every register is 4 bytes wide, aligned, and takes accesses of just that; where it stands in one direction only, the
other is reported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.conformance import written
from devmodels.registers import HWINIT, RO, RW, WO, IllegalAccess, Register, RegisterFile
from devmodels.virtio.constants import NOTIFICATION_DATA, RING_RESET, feature_word

if TYPE_CHECKING:
    from devmodels.virtio.mmio import VirtioMmio
    from devmodels.virtio.queue import VirtQueue

MAGIC = 0x7472_6976
"""What MagicValue reads: "virt"."""
VENDOR_ID = 0x1AF4
CONTROL_SIZE = 0x100
"""Where the control registers end and the device configuration begins."""

LAYOUT = "VIRTIO 1.4 §4.2.2"
DRIVER_RULES = "VIRTIO 1.4 §4.2.2.2"
NOTIFICATION = "VIRTIO 1.4 §4.2.3.3"
NO_REGION = 0xFFFF_FFFF
"""Both halves of length and address of a shared memory region that isn't there."""
LOW, HIGH = 0xFFFF_FFFF, 0xFFFF_FFFF << 32


class MmioRegisters(RegisterFile, size=CONTROL_SIZE, widths=(4,), closed=True):
    """What versions 1 and 2 have in common."""

    magic_value = Register(0x000, 4, HWINIT, reset=MAGIC, clause=LAYOUT, doc="'virt'")
    device_id = Register(0x008, 4, HWINIT, clause=LAYOUT, doc="the type of the device")
    vendor_id = Register(0x00C, 4, HWINIT, reset=VENDOR_ID, clause=LAYOUT, doc="of the implementation")
    device_features = Register(0x010, 4, RO, clause=LAYOUT, doc="what is offered, 32 bits")
    device_features_sel = Register(0x014, 4, WO, clause=LAYOUT, doc="which 32 bits")
    driver_features = Register(0x020, 4, WO, clause=LAYOUT, doc="what is accepted, 32 bits")
    driver_features_sel = Register(0x024, 4, WO, clause=LAYOUT, doc="which 32 bits")
    queue_sel = Register(0x030, 4, WO, clause=LAYOUT, doc="whose registers are meant")
    queue_size_max = Register(0x034, 4, RO, clause=LAYOUT, doc="the most entries; 0: no such queue")
    queue_size = Register(0x038, 4, WO, clause=LAYOUT, doc="entries")
    queue_notify = Register(0x050, 4, WO, clause=LAYOUT, doc="a queue's index, or notification data")
    interrupt_status = Register(0x060, 4, RO, clause=LAYOUT, doc="bit 0 used buffers, bit 1 configuration")
    interrupt_ack = Register(0x064, 4, WO, clause=LAYOUT, doc="bits to be taken off InterruptStatus")
    status = Register(0x070, 4, RW, clause=LAYOUT, doc="0 resets")

    def __init__(self, transport: VirtioMmio) -> None:
        super().__init__()
        self._transport = transport
        self._device = transport.device
        self.device_id = transport.device.DEVICE_ID
        self.lenient = not transport.device.violations.strict
        self.on_illegal = self._illegal

    def _illegal(self, access: IllegalAccess) -> None:
        self.violation(DRIVER_RULES, str(access), access.data)

    def violation(self, clause: str, summary: str, data: bytes) -> None:
        """The driver broke `clause` with what it wrote."""
        self._device.violations.report(clause, summary, self._device.name, data)

    def selected(self) -> VirtQueue | None:
        """The queue that QueueSel names, or None where there is none."""
        queues = self._device.queues
        return queues[self.queue_sel] if self.queue_sel < len(queues) else None

    def configurable(self, name: str, value: int) -> VirtQueue | None:
        """The selected queue, if `name` may be written now: not while the queue is in use."""
        queue = self.selected()
        if queue is not None and queue.enabled:
            self.violation(
                DRIVER_RULES, f"{name} written while queue {queue.index} is in use", written(value, 4)
            )
            return None
        return queue

    @device_features.on_read
    def _read_device_features(self, _held: int) -> int:
        raise NotImplementedError

    @driver_features.on_write
    def _write_driver_features(self, _old: int, value: int) -> None:
        raise NotImplementedError

    @status.on_write
    def _write_status(self, _old: int, value: int) -> None:
        raise NotImplementedError

    @queue_size_max.on_read
    def _read_size_max(self, _held: int) -> int:
        queue = self.selected()
        return 0 if queue is None else queue.max_size

    @queue_size.on_write
    def _write_size(self, _old: int, value: int) -> None:
        queue = self.configurable("QueueSize", value)
        if queue is None:
            return
        if not queue.allows(value):
            kind = "1 to" if self._device.packed else "a power of two up to"
            self.violation(
                DRIVER_RULES, f"QueueSize {value}, expected {kind} {queue.max_size}", written(value, 4)
            )
            return
        queue.size = value

    @queue_notify.on_write
    def _notify(self, _old: int, value: int) -> None:
        data = bool(self._device.driver_features & NOTIFICATION_DATA)
        self._device.kick(value & 0xFFFF if data else value, value)

    @interrupt_ack.on_write
    def _acknowledge(self, _old: int, value: int) -> None:
        if value & ~3:
            self.violation(DRIVER_RULES, f"InterruptACK {value:#x} has undefined bits", written(value, 4))
        self.interrupt_status &= ~value
        self._transport.interrupt_changed()

    @status.on_read
    def _read_status(self, _held: int) -> int:
        return self._device.shown_status


class ModernMmio(MmioRegisters):
    """Version 2."""

    version = Register(0x004, 4, HWINIT, reset=2, clause=LAYOUT, doc="2")
    queue_ready = Register(0x044, 4, RW, clause=LAYOUT, doc="1 starts the queue, 0 ends it")
    queue_desc_low = Register(0x080, 4, WO, clause=LAYOUT, doc="address of the descriptors")
    queue_desc_high = Register(0x084, 4, WO, clause=LAYOUT, doc="its upper half")
    queue_driver_low = Register(0x090, 4, WO, clause=LAYOUT, doc="address of the driver's area")
    queue_driver_high = Register(0x094, 4, WO, clause=LAYOUT, doc="its upper half")
    queue_device_low = Register(0x0A0, 4, WO, clause=LAYOUT, doc="address of the device's area")
    queue_device_high = Register(0x0A4, 4, WO, clause=LAYOUT, doc="its upper half")
    shm_sel = Register(0x0AC, 4, WO, clause=LAYOUT, doc="kept; there are no shared memory regions")
    shm_len_low = Register(0x0B0, 4, HWINIT, reset=NO_REGION, clause=LAYOUT, doc="no region")
    shm_len_high = Register(0x0B4, 4, HWINIT, reset=NO_REGION, clause=LAYOUT, doc="no region")
    shm_base_low = Register(0x0B8, 4, HWINIT, reset=NO_REGION, clause=LAYOUT, doc="no region")
    shm_base_high = Register(0x0BC, 4, HWINIT, reset=NO_REGION, clause=LAYOUT, doc="no region")
    queue_reset = Register(0x0C0, 4, RW, clause=LAYOUT, doc="1 resets the queue alone, with RING_RESET")
    config_generation = Register(
        0x0FC, 4, RO, clause=LAYOUT, doc="another one when the configuration has changed"
    )

    def _read_device_features(self, _held: int) -> int:
        return feature_word(self._device.device_features, self.device_features_sel)

    def _write_driver_features(self, _old: int, value: int) -> None:
        self._device.write_features(value, select=self.driver_features_sel)

    def _write_status(self, _old: int, value: int) -> None:
        self._device.write_status(value)

    @queue_ready.on_read
    def _read_ready(self, _held: int) -> int:
        queue = self.selected()
        return int(queue is not None and queue.enabled)

    @queue_ready.on_write
    def _write_ready(self, _old: int, value: int) -> None:
        queue = self.selected()
        if queue is None:
            return
        if value > 1:
            self.violation(LAYOUT, f"QueueReady set to {value}, expected 0 or 1", written(value, 4))
        elif value:
            self._device.enable_queue(queue)
        elif queue.enabled:
            # It reads 1 until nothing of the queue is touched any more.
            self._device.reset_queue(queue)

    @queue_reset.on_read
    def _read_reset(self, _held: int) -> int:
        queue = self.selected()
        return int(queue is not None and queue.resetting)

    @queue_reset.on_write
    def _write_reset(self, _old: int, value: int) -> None:
        queue = self.selected()
        if not self._device.driver_features & RING_RESET:
            self.violation(LAYOUT, "QueueReset written without VIRTIO_F_RING_RESET", written(value, 4))
        elif value != 1:
            self.violation(LAYOUT, f"QueueReset set to {value}, expected 1", written(value, 4))
        elif queue is not None:
            self._device.reset_queue(queue)

    @queue_desc_low.on_write
    def _write_desc_low(self, _old: int, value: int) -> None:
        if (queue := self.configurable("QueueDescLow", value)) is not None:
            queue.desc = queue.desc & HIGH | value

    @queue_desc_high.on_write
    def _write_desc_high(self, _old: int, value: int) -> None:
        if (queue := self.configurable("QueueDescHigh", value)) is not None:
            queue.desc = queue.desc & LOW | value << 32

    @queue_driver_low.on_write
    def _write_driver_low(self, _old: int, value: int) -> None:
        if (queue := self.configurable("QueueDriverLow", value)) is not None:
            queue.driver = queue.driver & HIGH | value

    @queue_driver_high.on_write
    def _write_driver_high(self, _old: int, value: int) -> None:
        if (queue := self.configurable("QueueDriverHigh", value)) is not None:
            queue.driver = queue.driver & LOW | value << 32

    @queue_device_low.on_write
    def _write_device_low(self, _old: int, value: int) -> None:
        if (queue := self.configurable("QueueDeviceLow", value)) is not None:
            queue.device = queue.device & HIGH | value

    @queue_device_high.on_write
    def _write_device_high(self, _old: int, value: int) -> None:
        if (queue := self.configurable("QueueDeviceHigh", value)) is not None:
            queue.device = queue.device & LOW | value << 32

    @config_generation.on_read
    def _read_generation(self, _held: int) -> int:
        return self._device.config_generation
