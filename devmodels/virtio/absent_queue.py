"""Common configuration of a queue that is not there, as QEMU 7.2's functions have it: it holds what is written.

VIRTIO 1.4 §4.1.4.3.1 says no more of it than that its queue_size is 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.virtio.pci_modern import NO_VECTOR, QueueRegisters

if TYPE_CHECKING:
    from devmodels.virtio.pci import VirtioPci


class AbsentQueue(QueueRegisters):
    """Registers for queue number `index`; all but its size are like another queue's."""

    def __init__(self, transport: VirtioPci, index: int) -> None:
        super().__init__()
        self._transport = transport
        self._index = index
        self.lenient = True

    def _read_size(self, _held: int) -> int:
        return 0

    def _write_size(self, _old: int, value: int) -> None:
        """It is not looked at."""

    def _write_vector(self, old: int, value: int) -> None:
        self.queue_msix_vector = self._transport.map_vector(old, value, f"queue {self._index}")

    def _read_enable(self, held: int) -> int:
        return held

    def _write_enable(self, old: int, value: int) -> None:
        if value != 1:
            self.queue_enable = old
            self._transport.device.needs_reset()

    def _read_notify_off(self, _held: int) -> int:
        return self._index

    def _read_desc(self, _held: int) -> int:
        return _held

    def _write_desc(self, _old: int, value: int) -> None:
        """It is held."""

    _read_driver = _read_device = _read_desc
    _write_driver = _write_device = _write_desc

    def _read_notif_config_data(self, _held: int) -> int:
        return 0

    def _read_reset(self, _held: int) -> int:
        return 0

    def _write_reset(self, _old: int, value: int) -> None:
        if value == 1:
            self.queue_enable = 0
            self.queue_msix_vector = NO_VECTOR
