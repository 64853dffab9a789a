"""Virtio over MMIO (VIRTIO 1.4 §4.2): a window of registers that firmware tells of, version 2 and legacy version 1."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from guestsim.drivers.layouts import (
    ISR_CONFIG,
    ISR_QUEUE,
    LEGACY_PAGE,
    MMIO_CONFIG,
    MMIO_MAGIC,
    MMIO_REGISTERS,
    Feature,
    Field,
)
from guestsim.drivers.transport import Events, Interrupts
from guestsim.errors import GuestCheckError, GuestError

if TYPE_CHECKING:
    from guestsim.guest import Guest
    from guestsim.targets import MmioSlot, Target

_ATTEMPTS = 100
_WORDS = 2
"""Words of 32 feature bits: none above 63 means anything here, and QEMU takes every selection but 0 for 1."""

_LEGACY_VERSION = 1
_VERSION = 2


class MmioTransport(ABC):
    """One virtio device behind a window of registers; what both versions have in common."""

    __slots__ = ("_events", "_features", "_target", "guest", "slot")

    fixed_queue_size = False

    def __init__(self, guest: Guest, slot: MmioSlot) -> None:
        self.guest = guest
        self.slot = slot
        self._target: Target = guest.target
        self._events: Events | None = None
        self._features = 0

    def __str__(self) -> str:
        return self.slot.name

    # --- registers: 32 bits each, however few are used (§4.2.2.2)

    def get(self, register: str) -> int:
        """Read a register by the name that it has in the common configuration over PCI, else its own (§4.2.2)."""
        field = self._field(register)
        value = self._target.read(self.slot.base + field.offset, 4)
        if field.size == 8:
            value |= self._target.read(self.slot.base + field.offset + 4, 4) << 32
        return value

    def set(self, register: str, value: int) -> None:
        """Write a register by the name that it has in the common configuration over PCI, else its own (§4.2.2)."""
        field = self._field(register)
        self._target.write(self.slot.base + field.offset, 4, value & 0xFFFF_FFFF)
        if field.size == 8:
            self._target.write(self.slot.base + field.offset + 4, 4, value >> 32)

    def _field(self, register: str) -> Field:
        if register not in MMIO_REGISTERS:
            raise GuestError(f"{self}: there is no {register} over MMIO")
        return MMIO_REGISTERS[register]

    def notify(self, queue: int, value: int, size: int | None) -> None:  # noqa: ARG002
        """Write any value, in any size (None: 32 bits), to the notification register, whatever `queue` is."""
        self._target.write(self.slot.base + MMIO_REGISTERS["queue_notify"].offset, size or 4, value)

    # --- status, features, configuration

    def read_status(self) -> int:
        """The device status field."""
        return self.get("device_status")

    def write_status(self, value: int) -> None:
        """Write the device status field."""
        self.set("device_status", value)

    def _read_features(self, words: int) -> int:
        bits = 0
        for select in range(words):
            self.set("device_feature_select", select)
            bits |= self.get("device_feature") << 32 * select
        return bits

    def _write_features(self, bits: int, words: int) -> None:
        self._features = bits
        for select in range(words):
            self.set("driver_feature_select", select)
            self.set("driver_feature", bits >> 32 * select & 0xFFFF_FFFF)

    def _read_config(self, field: Field) -> int:
        """One field at its own width, 64 bits as two halves (§4.2.2.2)."""
        at = self.slot.base + MMIO_CONFIG + field.offset
        if field.size == 8:
            return self._target.read(at, 4) | self._target.read(at + 4, 4) << 32
        return self._target.read(at, field.size)

    def write_config(self, field: Field, value: int) -> None:
        """Write a field of the device-specific configuration."""
        self._target.write(self.slot.base + MMIO_CONFIG + field.offset, field.size, value)

    # --- interrupts

    def connect(self, mode: Interrupts, queues: int, events: Events) -> None:  # noqa: ARG002
        """Have `events` called for the device's interrupt, of which it has one."""
        if mode is not Interrupts.POLLING:
            self._events = events
            self.guest.interrupts.connect_irq(self.slot.irq, self._on_line)

    def disconnect(self) -> None:
        """Have nobody called any more; after a reset. Idempotent."""
        if self._events is not None:
            self._events = None
            self.guest.interrupts.disconnect_irq(self.slot.irq)

    def _on_line(self) -> bool:
        """Read the cause, acknowledge it, then look: what comes in between asserts the line anew (§4.2.3.4.1)."""
        assert self._events is not None
        events = self._events
        status = self.get("interrupt_status")
        if status & ~(ISR_QUEUE | ISR_CONFIG):
            raise GuestCheckError("VIRTIO 1.4 §4.2.2.1", f"{self}: interrupt status {status:#x}")
        if not status:
            return False
        self.set("interrupt_ack", status)
        if status & ISR_QUEUE:
            events.on_used(None)
        if status & ISR_CONFIG:
            events.on_config()
        return True

    # --- queues

    @abstractmethod
    def _is_live(self) -> bool:
        """Whether the selected queue is in use."""

    def queue_limit(self, index: int) -> int:
        """How many entries queue `index` may have; 0 where there is no such queue."""
        self.set("queue_select", index)
        if self._is_live():
            raise GuestCheckError("VIRTIO 1.4 §4.2.2.1", f"{self} queue {index} is in use after reset")
        return self.get("queue_size_max")

    def notifier(self, index: int) -> Callable[[int], None]:
        """What notifies the device of queue `index` (§4.2.3.3)."""
        if self._features >> Feature.NOTIFICATION_DATA & 1:
            return lambda state: self.set("queue_notify", state << 16 | index)
        return lambda _state: self.set("queue_notify", index)


class ModernMmio(MmioTransport):
    """A device of version 2; a `Transport`."""

    __slots__ = ()

    legacy = False

    def read_features(self) -> int:
        """The feature bits offered; a queue has no other number than its index here, so NOTIF_CONFIG_DATA is none."""
        return self._read_features(_WORDS) & ~(1 << Feature.NOTIF_CONFIG_DATA)

    def write_features(self, bits: int) -> None:
        """Accept feature bits."""
        self._write_features(bits, _WORDS)

    def read_config(self, fields: Iterable[Field]) -> list[int]:
        """Fields of the device-specific configuration, all of one generation (§2.5.1)."""
        wanted = list(fields)
        for _ in range(_ATTEMPTS):
            before = self.get("config_generation")
            values = [self._read_config(field) for field in wanted]
            if self.get("config_generation") == before:
                return values
        raise GuestCheckError("VIRTIO 1.4 §2.5", f"{self}: the configuration never holds still")

    def _is_live(self) -> bool:
        return bool(self.get("queue_enable"))

    def enable_queue(self, index: int, size: int, addresses: Sequence[int]) -> None:
        """Tell the device of queue `index` and make it live (§4.2.3.2)."""
        self.set("queue_select", index)
        self.set("queue_size", size)
        for register, address in zip(("queue_desc", "queue_driver", "queue_device"), addresses, strict=True):
            self.set(register, address)
        self.set("queue_enable", 1)

    def reset_queue(self, index: int) -> None:
        """Begin to reset one queue."""
        self.set("queue_select", index)
        self.set("queue_reset", 1)

    def queue_in_reset(self, index: int) -> bool:
        """Whether a queue's reset is still going on."""
        self.set("queue_select", index)
        return self.get("queue_reset") != 0


class LegacyMmio(MmioTransport):
    """A device of version 1, in pages (§4.2.4); a `Transport`."""

    __slots__ = ()

    legacy = True

    def read_features(self) -> int:
        """The feature bits offered, 0 to 31."""
        return self._read_features(1)

    def write_features(self, bits: int) -> None:
        """Accept feature bits, and say how large a page is: before any queue is used."""
        self._write_features(bits, 1)
        self.set("guest_page_size", LEGACY_PAGE)

    def read_config(self, fields: Iterable[Field]) -> list[int]:
        """Fields of the device-specific configuration: read until they are the same twice (§2.5.4)."""
        wanted = list(fields)
        values = [self._read_config(field) for field in wanted]
        for _ in range(_ATTEMPTS):
            before, values = values, [self._read_config(field) for field in wanted]
            if values == before:
                return values
        raise GuestCheckError("VIRTIO 1.4 §2.5", f"{self}: the configuration never holds still")

    def _is_live(self) -> bool:
        return bool(self.get("queue_pfn"))

    def enable_queue(self, index: int, size: int, addresses: Sequence[int]) -> None:
        """Tell the device of queue `index`, which begins at a page, by that page's number."""
        self.set("queue_select", index)
        self.set("queue_size", size)
        self.set("queue_align", LEGACY_PAGE)
        self.set("queue_pfn", addresses[0] // LEGACY_PAGE)

    def reset_queue(self, index: int) -> None:
        """There is none: GuestError."""
        raise GuestError(f"{self} queue {index}: the legacy interface cannot reset one queue")

    def queue_in_reset(self, index: int) -> bool:  # noqa: ARG002
        """Never."""
        return False


def probe(guest: Guest, slot: MmioSlot) -> tuple[int, ModernMmio | LegacyMmio] | None:
    """The device ID behind a window, and the transport to it; None where it is empty (§4.2.3.1.1)."""
    target = guest.target
    magic, version, device = (
        target.read(slot.base + MMIO_REGISTERS[name].offset, 4)
        for name in ("magic_value", "version", "device_id")
    )
    if magic != MMIO_MAGIC:
        raise GuestCheckError("VIRTIO 1.4 §4.2.2.1", f"{slot.name}: magic value {magic:#x}")
    if not device:
        return None
    if version not in (_LEGACY_VERSION, _VERSION):
        raise GuestCheckError("VIRTIO 1.4 §4.2.2.1", f"{slot.name}: version {version}")
    return device, (ModernMmio if version == _VERSION else LegacyMmio)(guest, slot)
