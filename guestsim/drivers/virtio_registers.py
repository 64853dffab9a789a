"""The registers of a virtio function: structures found by PCI capabilities (VIRTIO 1.4 §4.1.4), fields by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guestsim.drivers.layouts import (
    COMMON_CFG,
    NOTIFY_MULTIPLIER,
    PCI_CAP,
    PCI_CFG_DATA,
    CapType,
    Field,
    Status,
)
from guestsim.drivers.pci import CAP_VENDOR
from guestsim.errors import GuestCheckError

if TYPE_CHECKING:
    from guestsim.drivers.pci import Bar, PciFunction

VENDOR_ID = 0x1AF4
MODERN_ID_BASE = 0x1040


@dataclass(frozen=True, slots=True)
class Structure:
    """One of the device's register structures: `length` bytes at `offset` of `bar` (§4.1.4)."""

    bar: Bar
    offset: int
    length: int

    def read(self, field: Field) -> int:
        """Read a field at its own width; 64-bit fields as two halves, low first (§4.1.3.1)."""
        at = self.offset + field.offset
        if field.size == 8:
            return self.bar.read(at, 4) | self.bar.read(at + 4, 4) << 32
        return self.bar.read(at, field.size)

    def write(self, field: Field, value: int) -> None:
        """Write a field at its own width; 64-bit fields as two halves, low first."""
        at = self.offset + field.offset
        if field.size == 8:
            self.bar.write(at, 4, value & 0xFFFF_FFFF)
            self.bar.write(at + 4, 4, value >> 32)
        else:
            self.bar.write(at, field.size, value)


class VirtioRegisters:
    """The structures of one virtio function, whose BARs this places; `config` is None where it has no such structure.

    Raises `GuestCheckError` where a structure is missing or lies beyond its BAR.
    """

    __slots__ = ("_multiplier", "_notify", "_pci_cfg", "common", "config", "function", "isr")

    def __init__(self, function: PciFunction) -> None:
        self.function = function
        function.place_bars()
        self._multiplier = 0
        self._pci_cfg: int | None = None
        found = self._find_structures()
        for kind in (CapType.COMMON, CapType.NOTIFY, CapType.ISR):
            if kind not in found:
                raise GuestCheckError("VIRTIO 1.4 §4.1.4", f"{function}: no {kind.name} capability")
        self.common = found[CapType.COMMON]
        self._notify = found[CapType.NOTIFY]
        self.isr = found[CapType.ISR]
        self.config = found.get(CapType.DEVICE)

    def _find_structures(self) -> dict[CapType, Structure]:
        """The first structure of each type that this driver knows, in a BAR that exists (§4.1.4.1)."""
        found: dict[CapType, Structure] = {}
        read = self.function.read
        for capability in self.function.capabilities():
            if capability.id != CAP_VENDOR:
                continue
            at = capability.offset
            kind = read(at + PCI_CAP["cfg_type"].offset, 1)
            if kind == CapType.PCI:
                self._pci_cfg = at
                continue
            bar = self.function.bars.get(read(at + PCI_CAP["bar"].offset, 1))
            if kind not in (CapType.COMMON, CapType.NOTIFY, CapType.ISR, CapType.DEVICE) or bar is None:
                continue
            if kind in found:
                continue
            offset = read(at + PCI_CAP["offset"].offset, 4)
            length = read(at + PCI_CAP["length"].offset, 4)
            if offset + length > bar.size:
                raise GuestCheckError(
                    "VIRTIO 1.4 §4.1.4",
                    f"{self.function}: {CapType(kind).name} structure ends beyond its BAR",
                )
            found[CapType(kind)] = Structure(bar, offset, length)
            if kind == CapType.NOTIFY:
                self._multiplier = read(at + NOTIFY_MULTIPLIER.offset, 4)
        return found

    # --- registers

    def get(self, register: str) -> int:
        """Read a register of the common configuration by its name in §4.1.4.3."""
        return self.common.read(COMMON_CFG[register])

    def set(self, register: str, value: int) -> None:
        """Write a register of the common configuration by its name in §4.1.4.3."""
        self.common.write(COMMON_CFG[register], value)

    @property
    def status(self) -> Status:
        """The device status field."""
        return Status(self.get("device_status"))

    def add_status(self, bits: Status) -> None:
        """Set bits of the device status field, keeping those that are set."""
        self.set("device_status", self.status | bits)

    def read_config(self, fields: Iterable[Field]) -> list[int]:
        """Fields of the device-specific configuration, all of one generation (§2.5.1)."""
        if self.config is None:
            raise GuestCheckError("VIRTIO 1.4 §4.1.4.6", f"{self.function}: no DEVICE capability")
        wanted = list(fields)
        for _ in range(100):
            before = self.get("config_generation")
            values = [self.config.read(field) for field in wanted]
            if self.get("config_generation") == before:
                return values
        raise GuestCheckError("VIRTIO 1.4 §2.5", f"{self.function}: the configuration never holds still")

    def window_read(self, bar: int, offset: int, size: int) -> int:
        """Read a register of a BAR through the PCI configuration access capability (§4.1.4.9)."""
        at = self._open_window(bar, offset, size)
        return self.function.read(at, size)

    def window_write(self, bar: int, offset: int, size: int, value: int) -> None:
        """Write a register of a BAR through the PCI configuration access capability (§4.1.4.9)."""
        at = self._open_window(bar, offset, size)
        self.function.write(at, size, value)

    def _open_window(self, bar: int, offset: int, size: int) -> int:
        if self._pci_cfg is None:
            raise GuestCheckError(
                "VIRTIO 1.4 §4.1.4.9.1", f"{self.function}: no PCI configuration access capability"
            )
        self.function.write(self._pci_cfg + PCI_CAP["bar"].offset, 1, bar)
        self.function.write(self._pci_cfg + PCI_CAP["offset"].offset, 4, offset)
        self.function.write(self._pci_cfg + PCI_CAP["length"].offset, 4, size)
        return self._pci_cfg + PCI_CFG_DATA.offset

    def notify(self, queue: int, value: int, size: int) -> None:
        """Write any value, in any size, to the notification register of queue `queue`."""
        self.set("queue_select", queue)
        offset = self.get("queue_notify_off") * self._multiplier
        self._notify.bar.write(self._notify.offset + offset, size, value)
