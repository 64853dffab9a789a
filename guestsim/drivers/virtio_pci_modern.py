"""The modern interface of virtio over PCI: structures found by capabilities (VIRTIO 1.4 §4.1.4), fields by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guestsim.drivers.layouts import (
    COMMON_CFG,
    NOTIFY_MULTIPLIER,
    PCI_CAP,
    PCI_CFG_DATA,
    CapType,
    Feature,
    Field,
)
from guestsim.drivers.pci import CAP_VENDOR
from guestsim.drivers.virtio_pci import ISR, MODERN_ID_BASE, PciTransport
from guestsim.errors import GuestCheckError

if TYPE_CHECKING:
    from guestsim.drivers.pci import Bar, PciFunction
    from guestsim.guest import Guest

FEATURE_WORDS = 4


def has_modern_interface(function: PciFunction) -> bool:
    """Whether a function tells of a common configuration, or has only an ID that legacy drivers don't know (§4.1.2).

    Without the capability, a transitional ID means that only the legacy interface is there (§4.1.5.1.1.1).
    """
    return function.device >= MODERN_ID_BASE or any(
        capability.id == CAP_VENDOR
        and function.read(capability.offset + PCI_CAP["cfg_type"].offset, 1) == CapType.COMMON
        for capability in function.capabilities()
    )


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


class ModernPci(PciTransport):
    """One virtio function by its modern interface; a `Transport`. `config` is None where it has no such structure.

    Raises `GuestCheckError` where a structure is missing or lies beyond its BAR.
    """

    __slots__ = ("_features", "_multiplier", "_notify", "_pci_cfg", "common", "config", "isr")

    legacy = False
    fixed_queue_size = False

    def __init__(self, guest: Guest, function: PciFunction) -> None:
        super().__init__(guest, function)
        self._features = 0
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

    def read_isr(self) -> int:
        """Read the ISR status, which clears it and lowers the line (§4.1.4.5)."""
        return self.isr.read(ISR)

    # --- status, features, configuration

    def read_status(self) -> int:
        """The device status field."""
        return self.get("device_status")

    def write_status(self, value: int) -> None:
        """Write the device status field."""
        self.set("device_status", value)

    def read_features(self) -> int:
        """The feature bits offered."""
        bits = 0
        for select in range(FEATURE_WORDS):
            self.set("device_feature_select", select)
            bits |= self.get("device_feature") << 32 * select
        return bits

    def write_features(self, bits: int) -> None:
        """Accept feature bits."""
        self._features = bits
        for select in range(FEATURE_WORDS):
            self.set("driver_feature_select", select)
            self.set("driver_feature", bits >> 32 * select & 0xFFFF_FFFF)

    def read_config(self, fields: Iterable[Field]) -> list[int]:
        """Fields of the device-specific configuration, all of one generation (§2.5.1)."""
        config = self._config()
        wanted = list(fields)
        for _ in range(100):
            before = self.get("config_generation")
            values = [config.read(field) for field in wanted]
            if self.get("config_generation") == before:
                return values
        raise GuestCheckError("VIRTIO 1.4 §2.5", f"{self.function}: the configuration never holds still")

    def write_config(self, field: Field, value: int) -> None:
        """Write a field of the device-specific configuration."""
        self._config().write(field, value)

    def _config(self) -> Structure:
        if self.config is None:
            raise GuestCheckError("VIRTIO 1.4 §4.1.4.6", f"{self}: no DEVICE capability")
        return self.config

    # --- queues

    def queue_limit(self, index: int) -> int:
        """How many entries queue `index` may have; 0 where there is no such queue."""
        self.set("queue_select", index)
        limit = self.get("queue_size")
        if limit and self.get("queue_enable"):
            raise GuestCheckError("VIRTIO 1.4 §4.1.4.3.1", f"{self} queue {index} is enabled after reset")
        return limit

    def notifier(self, index: int) -> Callable[[int], None]:
        """What notifies the device of queue `index` (§4.1.5.2)."""
        self.set("queue_select", index)
        bar = self._notify.bar
        offset = self.get("queue_notify_off") * self._multiplier
        size = 4 if self._has(Feature.NOTIFICATION_DATA) else 2
        if offset + size > self._notify.length:
            raise GuestCheckError("VIRTIO 1.4 §4.1.4.4.1", f"{self} queue {index}: notified out of bounds")
        at = self._notify.offset + offset
        name = self.get("queue_notif_config_data") if self._has(Feature.NOTIF_CONFIG_DATA) else index
        if size == 2:
            return lambda _state: bar.write(at, 2, name)
        return lambda state: bar.write(at, 4, state << 16 | name)

    def _has(self, feature: Feature) -> bool:
        return bool(self._features >> feature & 1)

    def enable_queue(self, index: int, size: int, addresses: Sequence[int]) -> None:
        """Tell the device of queue `index` and make it live (§4.1.5.1.3)."""
        self.set("queue_select", index)
        self.set("queue_size", size)
        for register, address in zip(("queue_desc", "queue_driver", "queue_device"), addresses, strict=True):
            self.set(register, address)
        self.map_queue(index)
        self.set("queue_enable", 1)

    def reset_queue(self, index: int) -> None:
        """Begin to reset one queue (§4.1.4.3.2)."""
        self.set("queue_select", index)
        self.set("queue_reset", 1)

    def queue_in_reset(self, index: int) -> bool:
        """Whether a queue's reset is still going on."""
        self.set("queue_select", index)
        return self.get("queue_reset") != 0

    # --- below the driver

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
            raise GuestCheckError("VIRTIO 1.4 §4.1.4.9.1", f"{self}: no PCI configuration access capability")
        self.function.write(self._pci_cfg + PCI_CAP["bar"].offset, 1, bar)
        self.function.write(self._pci_cfg + PCI_CAP["offset"].offset, 4, offset)
        self.function.write(self._pci_cfg + PCI_CAP["length"].offset, 4, size)
        return self._pci_cfg + PCI_CFG_DATA.offset

    def notify(self, queue: int, value: int, size: int | None) -> None:
        """Write any value, in any size (None: 16 bits), to the notification register of queue `queue`."""
        self.set("queue_select", queue)
        offset = self.get("queue_notify_off") * self._multiplier
        self._notify.bar.write(self._notify.offset + offset, size or 2, value)
