"""The legacy interface of virtio over PCI: a header of registers in an I/O BAR (VIRTIO 1.4 §4.1.4.10).

Rings lie in one piece whose page number is all the device is told; their sizes are the device's; there is no
FEATURES_OK, no configuration generation, and there are no features above bit 31.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from guestsim.drivers.layouts import LEGACY_CFG, LEGACY_CONFIG, LEGACY_CONFIG_MSIX, LEGACY_PAGE, Field
from guestsim.drivers.virtio_pci import PciTransport
from guestsim.errors import GuestCheckError, GuestError

if TYPE_CHECKING:
    from guestsim.drivers.pci import Bar, PciFunction
    from guestsim.guest import Guest

_ATTEMPTS = 100


class LegacyPci(PciTransport):
    """One transitional or legacy virtio function by its legacy interface; a `Transport`.

    Raises `GuestCheckError` where BAR 0 is not in I/O space.
    """

    __slots__ = ("header",)

    legacy = True
    fixed_queue_size = True

    def __init__(self, guest: Guest, function: PciFunction) -> None:
        super().__init__(guest, function)
        bar = function.bars.get(0)
        if bar is None or not bar.io:
            raise GuestCheckError("VIRTIO 1.4 §4.1.4.10", f"{function}: BAR 0 is no I/O region")
        self.header: Bar = bar

    def get(self, register: str) -> int:
        """Read a register of the header, by the name that it has in the common configuration where it is there."""
        field = self._field(register)
        return self.header.read(field.offset, field.size)

    def set(self, register: str, value: int) -> None:
        """Write a register of the header, by the name that it has in the common configuration where it is there."""
        field = self._field(register)
        self.header.write(field.offset, field.size, value)

    def _field(self, register: str) -> Field:
        if register not in LEGACY_CFG.fields:
            raise GuestError(f"{self}: the legacy interface has no {register}")
        return LEGACY_CFG[register]

    def read_isr(self) -> int:
        """Read the ISR status, which clears it and lowers the line."""
        return self.get("isr")

    # --- status, features, configuration

    def read_status(self) -> int:
        """The device status field."""
        return self.get("device_status")

    def write_status(self, value: int) -> None:
        """Write the device status field."""
        self.set("device_status", value)

    def read_features(self) -> int:
        """The feature bits offered, 0 to 31."""
        return self.get("device_feature")

    def write_features(self, bits: int) -> None:
        """Accept feature bits; those above 31 cannot be (§2.2.3)."""
        self.set("driver_feature", bits & 0xFFFF_FFFF)

    def read_config(self, fields: Iterable[Field]) -> list[int]:
        """Fields of the device-specific configuration: read until they are the same twice (§2.5.4)."""
        wanted = list(fields)
        values = [self._read_config(field) for field in wanted]
        for _ in range(_ATTEMPTS):
            before, values = values, [self._read_config(field) for field in wanted]
            if values == before:
                return values
        raise GuestCheckError("VIRTIO 1.4 §2.5", f"{self}: the configuration never holds still")

    def _read_config(self, field: Field) -> int:
        at = self._config + field.offset
        if field.size == 8:
            return self.header.read(at, 4) | self.header.read(at + 4, 4) << 32
        return self.header.read(at, field.size)

    def write_config(self, field: Field, value: int) -> None:
        """Write a field of the device-specific configuration."""
        self.header.write(self._config + field.offset, field.size, value)

    @property
    def _config(self) -> int:
        """Where the device-specific configuration begins: it moves when MSI-X is switched (§4.1.4.10)."""
        return LEGACY_CONFIG if self._msix is None else LEGACY_CONFIG_MSIX

    # --- queues

    def queue_limit(self, index: int) -> int:
        """How many entries queue `index` has; 0 where there is no such queue."""
        self.set("queue_select", index)
        size = self.get("queue_size")
        if size and self.get("queue_pfn"):
            raise GuestCheckError(
                "VIRTIO 1.4 §4.1.5.1.3.1", f"{self} queue {index} has an address after reset"
            )
        return size

    def notifier(self, index: int) -> Callable[[int], None]:
        """What notifies the device of queue `index`: its number, to one register for all (§4.1.4.10)."""
        return lambda _state: self.set("queue_notify", index)

    def enable_queue(self, index: int, size: int, addresses: Sequence[int]) -> None:  # noqa: ARG002
        """Tell the device of queue `index`, which begins at a page, by that page's number (§4.1.5.1.3.1)."""
        self.set("queue_select", index)
        self.set("queue_pfn", addresses[0] // LEGACY_PAGE)
        self.map_queue(index)

    def reset_queue(self, index: int) -> None:
        """There is none: GuestError."""
        raise GuestError(f"{self} queue {index}: the legacy interface cannot reset one queue")

    def queue_in_reset(self, index: int) -> bool:  # noqa: ARG002
        """Never."""
        return False

    # --- below the driver

    def notify(self, queue: int, value: int, size: int | None) -> None:  # noqa: ARG002
        """Write any value, in any size (None: 16 bits), to the notification register, whatever `queue` is."""
        self.header.write(LEGACY_CFG["queue_notify"].offset, size or 2, value)
