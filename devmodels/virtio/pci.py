"""A virtio device as a PCI function, VIRTIO 1.4 §4.1: modern, transitional, or legacy only.

    BAR 0   legacy registers (I/O ports)          where it has the legacy interface
    BAR 1   MSI-X table and pending bits
    BAR 4   modern registers                      where it has the modern interface

The device itself knows nothing of PCI; this file is its `Transport`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from devmodels.memory import GuestMemory
from devmodels.pci.bars import BarKind, Windows
from devmodels.pci.function import PciFunction, PciIdentity
from devmodels.registers.state import nest, unnest
from devmodels.virtio.configread import shown_size
from devmodels.virtio.constants import NOTIF_CONFIG_DATA
from devmodels.virtio.device import VirtioDevice
from devmodels.virtio.pci_legacy import MSIX_HEADER_SIZE, LegacyBar
from devmodels.virtio.pci_modern import (
    AREA_SIZE,
    BAR_SIZE,
    CFG_COMMON,
    CFG_DEVICE,
    CFG_ISR,
    COMMON_OFFSET,
    DEVICE_OFFSET,
    ISR_CONFIG,
    ISR_OFFSET,
    ISR_QUEUE,
    NO_VECTOR,
    NOTIFY_MULTIPLIER,
    NOTIFY_OFFSET,
    VIRTIO_BAR,
    AccessCapability,
    CommonConfig,
    DeviceConfig,
    IsrStatus,
    Notify,
    NotifyCapability,
    VirtioCapability,
)

VENDOR_ID = 0x1AF4
"""PCI vendor of virtio devices, VIRTIO 1.4 §4.1.2."""
MODERN_DEVICE_ID = 0x1040
"""Added to the virtio device id, VIRTIO 1.4 §4.1.2.1."""
TRANSITIONAL_DEVICE_IDS = {1: 0x1000, 2: 0x1001, 3: 0x1003, 4: 0x1005, 5: 0x1002, 8: 0x1004, 9: 0x1009}
"""Virtio device id to the PCI device id of a function with the legacy interface, VIRTIO 1.4 §4.1.2.1."""

LEGACY_BAR = 0
MSIX_BAR = 1


class VirtioPci(PciFunction):
    """A virtio device as a PCI function with `vectors` MSI-X vectors (0: INTx only) and at least one interface."""

    def __init__(
        self,
        device: VirtioDevice,
        *,
        class_code: int,
        name: str,
        vectors: int | None = None,
        modern: bool = True,
        legacy: bool = False,
    ) -> None:
        """`vectors` defaults to one for each queue and one for configuration changes.

        ValueError where the device type has no legacy interface but is to have one.
        """
        identity = _identity(device.DEVICE_ID, class_code, legacy=legacy)
        super().__init__(identity, name=name, as_qemu=device.violations.as_qemu)
        self.device = device
        self._isr = 0
        self._isr_with_message = ISR_QUEUE if device.violations.as_qemu else 0
        """QEMU's function sets the queue bit with MSI-X, too (VIRTIO 1.4 §4.1.4.5.1)."""
        self._vector_uses: dict[int, int] = {}
        """How many registers have named a vector, of QEMU's functions."""
        self._when_settled: list[Callable[[], None]] = []
        device.transport = self
        device.paused = True
        device.on_reset = self._device_reset
        if modern and not self.as_qemu:
            device.device_features |= NOTIF_CONFIG_DATA
        self.common = CommonConfig(self)
        self.legacy = LegacyBar(self) if legacy else None
        if self.legacy is not None:
            size = MSIX_HEADER_SIZE + shown_size(device)
            self.add_bar(LEGACY_BAR, 1 << (size - 1).bit_length(), self.legacy, kind=BarKind.IO)
        self._notify_size = AREA_SIZE if self.as_qemu else NOTIFY_MULTIPLIER * len(device.queues)
        if modern:
            self._place_registers()
        if modern and self.as_qemu:
            self._add_capabilities()
        self._vectors = len(device.queues) + 1 if vectors is None else vectors
        if self._vectors:
            self.msix = self.add_msix(self._vectors, bar=MSIX_BAR)
        if modern and not self.as_qemu:
            self._add_capabilities()

    def _place_registers(self) -> None:
        windows = Windows(BAR_SIZE)
        windows.place(COMMON_OFFSET, AREA_SIZE, self.common)
        windows.place(ISR_OFFSET, AREA_SIZE, IsrStatus(self))
        windows.place(DEVICE_OFFSET, AREA_SIZE, DeviceConfig(self.device))
        windows.place(NOTIFY_OFFSET, self._notify_size, Notify(self.device))
        self.add_bar(VIRTIO_BAR, BAR_SIZE, windows, kind=BarKind.PREFETCHABLE64)

    def _add_capabilities(self) -> None:
        """As programs for QEMU expect them: at 40h, 50h, 60h, 70h, 84h, then MSI-X; the list begins with the last."""
        for capability in (
            VirtioCapability(CFG_COMMON, COMMON_OFFSET, AREA_SIZE),
            VirtioCapability(CFG_ISR, ISR_OFFSET, AREA_SIZE),
            VirtioCapability(CFG_DEVICE, DEVICE_OFFSET, AREA_SIZE),
            NotifyCapability(NOTIFY_OFFSET, self._notify_size),
            AccessCapability(self),
        ):
            self.add_capability(capability, first=self.as_qemu)

    @property
    def memory(self) -> GuestMemory:
        """The memory that the device masters."""
        return self.device.memory

    # --- interrupts

    def map_vector(self, old: int, value: int, place: str) -> int:
        """What a vector register reads after `value` was written over `old`: NO_VECTOR for one that is not there."""
        if value >= self._vectors and value != NO_VECTOR:
            self.device.violations.report(
                "VIRTIO 1.4 §4.1.5.1.2",
                f"vector {value} of {self._vectors}",
                place,
                value.to_bytes(2, "little"),
            )
            value = NO_VECTOR
        if self.as_qemu:
            self._count_vectors(old, value)
        return value

    def _count_vectors(self, old: int, new: int) -> None:
        """Of QEMU's: a message is forgotten where nothing is mapped to its vector any more (PCI 3.0 §6.8.3.4)."""
        uses = self._vector_uses
        left = uses.get(old, 0)
        if left:
            uses[old] = left - 1
        if left == 1 and self.msix is not None:
            self.msix.forget(old)
        if new != NO_VECTOR:
            uses[new] = uses.get(new, 0) + 1

    def notify_used(self, queue: int) -> None:
        """A used buffer notification, VIRTIO 1.4 §4.1.5.3.1."""
        if self.msix is not None and self.msix.enabled:
            self._isr |= self._isr_with_message
            self._message(self.common.queue[queue].queue_msix_vector)
        else:
            self._raise(ISR_QUEUE)

    def notify_config(self) -> None:
        """A configuration change notification, VIRTIO 1.4 §4.1.5.4.1."""
        if self.msix is not None and self.msix.enabled:
            self._isr |= ISR_CONFIG | self._isr_with_message
            self._message(self.common.config_msix_vector)
        else:
            # QEMU tells of the queues as well.
            self._raise(ISR_CONFIG | ISR_QUEUE if self.device.violations.as_qemu else ISR_CONFIG)

    def _message(self, vector: int) -> None:
        if vector != NO_VECTOR and self.msix is not None:
            self.msix.notify(vector)

    def _raise(self, bit: int) -> None:
        self._isr |= bit
        self.set_intx(True)

    def take_isr(self) -> int:
        """Read and clear ISR status (VIRTIO 1.4 §4.1.4.5.1)."""
        value, self._isr = self._isr, 0
        self.set_intx(False)
        return value

    # --- PCI

    def intx_changed(self) -> None:
        """Interrupt Status is the logical OR of ISR status as long as MSI-X is off (VIRTIO 1.4 §4.1.4.5.1)."""
        if self.msix is None or not self.msix.enabled:
            self.header.interrupt_status = int(self._isr != 0)
        super().intx_changed()

    def save(self) -> dict[str, int]:
        """Configuration space, selectors and vectors, ISR status; the device itself saves its own state."""
        legacy = {} if self.legacy is None else nest("legacy", self.legacy.header.save())
        return {**super().save(), **nest("common", self.common.save()), **legacy, "isr": self._isr}

    def judge(self, state: Mapping[str, int]) -> None:
        """ValueError where `state` is of a function that was made otherwise, or none that a function can have."""
        super().judge(state)
        self.common.judge(unnest("common", state))
        if self.legacy is not None:
            self.legacy.header.judge(unnest("legacy", state))
        if state.get("isr") not in range(4):
            raise ValueError(f"{self.name}: ISR status {state.get('isr')} in the state, expected 0 to 3")

    def restore(self, state: Mapping[str, int]) -> None:
        """Take what `save` gave."""
        self.common.restore(unnest("common", state))
        if self.legacy is not None:
            self.legacy.header.restore(unnest("legacy", state))
        self._isr = state["isr"]
        self._vector_uses.clear()
        if self.as_qemu:
            for vector in self.common.vectors():
                self._count_vectors(NO_VECTOR, vector)
        own = {name for name in state if name == "isr" or name.startswith(("common.", "legacy."))}
        super().restore({name: value for name, value in state.items() if name not in own})

    def on_bus_master(self, enabled: bool) -> None:
        """Without bus mastering the device takes no buffers; what came meanwhile is found when it is switched on."""
        if enabled:
            self.device.resume()
        else:
            self.device.pause()

    def on_reset(self) -> None:
        """The function was reset: so is the device, and its interrupt goes at once."""
        self.take_isr()
        self.device.reset()

    def _device_reset(self) -> None:
        """The device was reset: no vector is mapped, no interrupt is pending (VIRTIO 1.4 §4.1.5.1.2.1)."""
        self.common.reset()
        self._vector_uses.clear()
        if self.legacy is not None:
            self.legacy.header.reset()
        self.take_isr()
        if self.msix is not None:
            for vector in range(self._vectors):
                self.msix.forget(vector)
        settled, self._when_settled = self._when_settled, []
        for then in settled:
            then()

    def when_settled(self, then: Callable[[], None]) -> None:
        """Call `then` when the device's reset, if one is going on, is complete."""
        if self.device.resetting:
            self._when_settled.append(then)
        else:
            then()


def _identity(device_id: int, class_code: int, *, legacy: bool) -> PciIdentity:
    """VIRTIO 1.4 §4.1.2.1, and §4.1.2.3 for a function with the legacy interface."""
    if not legacy:
        return PciIdentity(
            VENDOR_ID,
            MODERN_DEVICE_ID + device_id,
            class_code,
            revision=1,
            subsystem_vendor_id=VENDOR_ID,
            subsystem_id=0x1100,
        )
    if device_id not in TRANSITIONAL_DEVICE_IDS:
        raise ValueError(f"virtio devices of type {device_id} have no legacy interface")
    return PciIdentity(
        VENDOR_ID,
        TRANSITIONAL_DEVICE_IDS[device_id],
        class_code,
        revision=0,
        subsystem_vendor_id=VENDOR_ID,
        subsystem_id=device_id,
    )
