"""What the legacy interface asks of a device, whatever transport carries it, VIRTIO 1.4 §2.2.3, §2.7.2, §3.1.2, §6.3.

A driver uses either the legacy or the modern interface from one reset to the next; the first write tells which.  Guests
are little-endian here: the legacy interface of others would have every field in their own order (§2.7.3).
"""

from __future__ import annotations

from devmodels.conformance import written
from devmodels.virtio.constants import UNUSED
from devmodels.virtio.device import VirtioDevice
from devmodels.virtio.layout import DESC_SIZE, avail_size
from devmodels.virtio.queue import VirtQueue

PAGE = 4096
"""The page by which the PCI transport counts and aligns, VIRTIO 1.4 §4.1.5.1.3.1."""


class Legacy:
    """The legacy interface of `device`; `clause` is that of the transport's registers."""

    def __init__(self, device: VirtioDevice, clause: str) -> None:
        self._device = device
        self._clause = clause

    def enter(self) -> bool:
        """The driver uses this interface: whether it may, until it resets the device."""
        device = self._device
        if device.legacy:
            return True
        if device.status or device.resetting:
            summary = "legacy interface used of a device that is used otherwise"
            self._violation("VIRTIO 1.4 §2.2.3", summary, written(device.status, 1))
            return False
        device.legacy = True
        return True

    def write_status(self, value: int) -> None:
        """The driver writes device status; there is no FEATURES_OK."""
        if value == 0 or self.enter():
            self._device.write_status(value)
            self._drain()

    def _drain(self) -> None:
        """Let a reset come to its end: drivers of this interface do not wait for it, so workers are waited for here."""
        device = self._device
        device.context.run_while(lambda: device.resetting or any(queue.resetting for queue in device.queues))

    @property
    def offered(self) -> int:
        """The 32 feature bits that can be seen, with those that only this interface has."""
        device = self._device
        return (device.device_features | device.legacy_features | UNUSED) & 0xFFFF_FFFF

    @property
    def accepted(self) -> int:
        """The 32 feature bits that the driver has accepted."""
        return self._device.driver_features & 0xFFFF_FFFF

    def write_features(self, value: int) -> None:
        """The driver accepts features, perhaps after it has begun to use a queue; nothing can be refused."""
        if not self.enter():
            return
        if value & UNUSED:
            self._violation(
                "VIRTIO 1.4 §6.3",
                "driver accepts feature bit 30, so it accepts without looking",
                written(value, 4),
            )
            value = 0
        extra = value & ~self.offered
        if extra:
            self._violation(
                "VIRTIO 1.4 §2.2.1",
                f"driver accepts features {extra:#x} that were not offered",
                written(value, 4),
            )
        self._device.write_legacy_features(value & self.offered)

    # --- queues

    def page_number(self, queue: VirtQueue | None, page: int) -> int:
        """The number of the page of `page` bytes at which a queue in use begins, else 0."""
        return queue.desc // page if queue is not None and queue.enabled else 0

    def place(self, queue: VirtQueue | None, number: int, page: int, align: int) -> None:
        """Let a queue begin at page `number`, and run; 0 takes it out of use (VIRTIO 1.4 §2.7.2), and resets QEMU's."""
        if not number and self._device.as_qemu:
            self._device.reset()
            self._drain()
            return
        if queue is None or not self.enter():
            return
        if not number:
            if queue.enabled:
                self._device.reset_queue(queue)
                self._drain()
            return
        if queue.enabled:
            self._violation(
                self._clause,
                f"queue {queue.index} placed at page {number:#x} while in use",
                written(number, 4),
            )
            return
        address = number * page
        queue.desc = address
        queue.driver = address + DESC_SIZE * queue.size
        queue.device = -(-(queue.driver + avail_size(queue.size)) // align) * align
        self._device.enable_queue(queue)

    # --- configuration space

    def read_config(self, offset: int, size: int) -> int:
        """A read of any width, at any place (VIRTIO 1.4 §4.1.4.10)."""
        if not self._device.status and not self._device.resetting:
            self._device.legacy = True
        return self._device.load_config(offset, size)

    def write_config(self, offset: int, size: int, value: int) -> None:
        """A write of any width does what one of each byte does; what changes nothing is no write."""
        if not self.enter():
            return
        device = self._device
        held = device.read_config(offset, size)
        for at in range(size):
            byte = value >> 8 * at & 0xFF
            if size == 1 or byte != held >> 8 * at & 0xFF:
                device.write_config(offset + at, 1, byte)

    def _violation(self, clause: str, summary: str, data: bytes = b"") -> None:
        self._device.violations.report(clause, summary, self._device.name, data)
