"""The control registers of version 1, the legacy interface over MMIO, VIRTIO 1.4 §4.2.4: queues are placed by page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.conformance import written
from devmodels.registers import HWINIT, RW, WO, Bank, Register, RegisterFile
from devmodels.virtio.legacy import PAGE, Legacy
from devmodels.virtio.mmio_modern import MmioRegisters

if TYPE_CHECKING:
    from devmodels.virtio.mmio import VirtioMmio

LAYOUT = "VIRTIO 1.4 §4.2.4"


class QueueAlign(RegisterFile, size=4, closed=True):
    """QueueAlign of one queue."""

    align = Register(0x00, 4, WO, reset=PAGE, clause=LAYOUT, doc="of the used ring, in bytes")

    def __init__(self, registers: LegacyMmio | None = None) -> None:
        super().__init__()
        self._registers = registers
        if registers is not None:
            self.lenient = registers.lenient
            self.on_illegal = registers.on_illegal

    @align.on_write
    def _write_align(self, old: int, value: int) -> None:
        registers = self._registers
        if registers is None:
            return
        good = value and not value & (value - 1)
        if not good:
            registers.violation(LAYOUT, f"QueueAlign {value}, expected a power of two", written(value, 4))
        if not good or registers.configurable("QueueAlign", value) is None:
            self.align = old


class LegacyMmio(MmioRegisters):
    """Version 1.  GuestPageSize outlives a reset by the driver: drivers set it once, before their first reset."""

    version = Register(0x004, 4, HWINIT, reset=1, clause=LAYOUT, doc="1")
    guest_page_size = Register(0x028, 4, WO, clause=LAYOUT, doc="unit of QueuePFN, in bytes")
    queue_align = Bank(QueueAlign, 0x03C, select=MmioRegisters.queue_sel, count=65536, clause=LAYOUT)
    queue_pfn = Register(0x040, 4, RW, clause=LAYOUT, doc="page of the selected queue; 0 ends it")

    def __init__(self, transport: VirtioMmio) -> None:
        super().__init__(transport)
        self.interface = Legacy(transport.device, LAYOUT)

    @queue_align.factory
    def _make_align(self, index: int) -> QueueAlign | None:
        return QueueAlign(self) if index < len(self._device.queues) else None

    def _read_device_features(self, _held: int) -> int:
        return 0 if self.device_features_sel else self.interface.offered

    def _write_driver_features(self, _old: int, value: int) -> None:
        if not self.driver_features_sel:
            self.interface.write_features(value)
        elif value:
            self.violation(
                "VIRTIO 1.4 §2.2.3", f"features {value:#x} written above bit 31", written(value, 4)
            )

    def _write_status(self, _old: int, value: int) -> None:
        self.interface.write_status(value)

    @guest_page_size.on_write
    def _write_page_size(self, old: int, value: int) -> None:
        if not value or value & (value - 1):
            self.violation(LAYOUT, f"GuestPageSize {value}, expected a power of two", written(value, 4))
            self.guest_page_size = old

    @queue_pfn.on_read
    def _read_pfn(self, _held: int) -> int:
        return self.interface.page_number(self.selected(), self.guest_page_size or PAGE)

    @queue_pfn.on_write
    def _write_pfn(self, _old: int, value: int) -> None:
        if value and not self.guest_page_size:
            self.violation(LAYOUT, "QueuePFN written before GuestPageSize", written(value, 4))
            return
        align = self.queue_align.get(self.queue_sel)
        if align is not None:
            self.interface.place(self.selected(), value, self.guest_page_size, align.align)
