"""A virtio device over PCI, as an operating system's driver brings it up (VIRTIO 1.4 §3.1, §4.1, modern interface).

Order: reset and wait for 0, ACKNOWLEDGE, DRIVER, features, FEATURES_OK and read it back, queues with their vectors,
DRIVER_OK.  A device that sets NEEDS_RESET is noticed at its configuration interrupt, or when a wait is over.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING

from guestsim.drivers.layouts import (
    ISR_CONFIG,
    ISR_QUEUE,
    MAX_QUEUE_SIZE,
    Feature,
    Field,
    Status,
)
from guestsim.drivers.pci import Msix, PciFunction
from guestsim.drivers.virtio_registers import VirtioRegisters
from guestsim.drivers.virtqueue import QueueOptions, SplitQueue
from guestsim.errors import GuestCheckError, GuestError, GuestTimeoutError

if TYPE_CHECKING:
    from guestsim.guest import Guest

FEATURE_BITS = 128

RING_FEATURES = frozenset(
    {
        Feature.INDIRECT_DESC,
        Feature.EVENT_IDX,
        Feature.VERSION_1,
        Feature.IN_ORDER,
        Feature.NOTIFICATION_DATA,
        Feature.NOTIF_CONFIG_DATA,
        Feature.RING_RESET,
    }
)
"""What this driver understands of rings and transport."""


class NeedsResetError(GuestError):
    """The device has set NEEDS_RESET (VIRTIO 1.4 §2.1.2) and answers nothing before it is reset."""


class FeaturesRefusedError(GuestError):
    """The device did not keep FEATURES_OK: it cannot work with what was accepted (VIRTIO 1.4 §2.2.2)."""


class Interrupts(Enum):
    """How a driver hears of used buffers and configuration changes."""

    MSIX = "msix"
    INTX = "intx"
    POLLING = "polling"


class VirtioDevice(VirtioRegisters):
    """One virtio function and its driver's state.

    `features` is what was negotiated; `queues` the queues in use, by index.  `queue_interrupts` and `config_changes`
    count what the interrupt handlers were called for; `on_config_change` is called after each change.
    """

    __slots__ = (
        "_intx",
        "_mode",
        "_msix",
        "_vectors",
        "config_changes",
        "features",
        "guest",
        "needs_reset",
        "offered",
        "on_config_change",
        "queue_interrupts",
        "queues",
    )

    def __init__(self, guest: Guest, function: PciFunction) -> None:
        super().__init__(function)
        self.guest = guest
        self._mode = Interrupts.POLLING
        self._msix: Msix | None = None
        self._intx: int | None = None
        self._vectors: dict[int, int] = {}
        self.features: frozenset[int] = frozenset()
        self.offered: frozenset[int] = frozenset()
        self.queues: dict[int, SplitQueue] = {}
        self.queue_interrupts = 0
        self.config_changes = 0
        self.needs_reset = False
        self.on_config_change: Callable[[], None] | None = None

    # --- bringing up and down

    async def reset(self) -> None:
        """Reset the device and wait until it says so; chains in flight are forgotten (§2.4, §4.1.4.3.2)."""
        self.set("device_status", 0)
        await self.guest.wait_until(
            lambda: self.get("device_status") == 0, f"{self.function} to finish its reset"
        )
        self._disconnect()
        for queue in self.queues.values():
            queue.free()
        self.queues.clear()
        self.features = frozenset()
        self.needs_reset = False

    def negotiate(self, understood: Collection[int], *, force: Collection[int] = ()) -> None:
        """After a reset: accept those of `understood` that the device offers, and see that it agrees (§3.1.1).

        `force` is accepted whether offered or not: what no correct driver does.
        """
        self.add_status(Status.ACKNOWLEDGE)
        self.add_status(Status.DRIVER)
        self.offered = self._read_features()
        if Feature.VERSION_1 not in self.offered:
            self.add_status(Status.FAILED)
            raise GuestCheckError("VIRTIO 1.4 §6.2", f"{self.function}: VERSION_1 is not offered")
        self.features = self.offered & frozenset(understood) | frozenset(force)
        self.write_features(self.features)
        self.add_status(Status.FEATURES_OK)
        if not self.status & Status.FEATURES_OK:
            self.add_status(Status.FAILED)
            names = ", ".join(str(bit) for bit in sorted(self.features))
            raise FeaturesRefusedError(f"{self.function} refused the features {names} (VIRTIO 1.4 §2.2.2)")

    def _read_features(self) -> frozenset[int]:
        bits = 0
        for select in range(FEATURE_BITS // 32):
            self.set("device_feature_select", select)
            bits |= self.get("device_feature") << 32 * select
        return frozenset(bit for bit in range(FEATURE_BITS) if bits >> bit & 1)

    def write_features(self, features: Collection[int]) -> None:
        """Write the features accepted."""
        bits = sum(1 << bit for bit in features)
        for select in range(FEATURE_BITS // 32):
            self.set("driver_feature_select", select)
            self.set("driver_feature", bits >> 32 * select & 0xFFFF_FFFF)

    def connect(self, mode: Interrupts, queues: int) -> None:
        """Arrange for interrupts: before the queues are set up, with how many there will be."""
        self._mode = mode
        if mode is Interrupts.MSIX:
            self._connect_msix(queues)
        elif mode is Interrupts.INTX:
            self._intx = self.function.interrupt_pin
            if not self._intx:
                raise GuestError(f"{self.function} has no interrupt pin")
            self.guest.interrupts.connect(self.function.slot, self._intx, self._on_line)

    def _connect_msix(self, queues: int) -> None:
        """Entry 0 for configuration changes, one for each queue from 1 on; shared where there are too few."""
        msix = self._msix = self.function.msix()
        if msix is None:
            raise GuestError(f"{self.function} has no MSI-X capability")
        interrupts = self.guest.interrupts
        for entry in range(min(queues + 1, msix.size)):
            vector = interrupts.allocate(partial(self._on_message, entry), f"{self.function} entry {entry}")
            self._vectors[entry] = vector
            msix.program(entry, *interrupts.message(vector))
        msix.enable()
        self._map_vector("config_msix_vector", 0)

    def _queue_entry(self, index: int) -> int:
        entries = len(self._vectors)
        return 1 + index % (entries - 1) if entries > 1 else 0

    def _map_vector(self, register: str, entry: int) -> None:
        """Map an event to an MSI-X entry and read it back (§4.1.5.1.2.2)."""
        self.set(register, entry)
        if self.get(register) != entry:
            raise GuestError(f"{self.function} could not map {register} to entry {entry}")

    def _disconnect(self) -> None:
        if self._msix is not None:
            self._msix.disable()
            self._msix = None
        for vector in self._vectors.values():
            self.guest.interrupts.free(vector)
        self._vectors.clear()
        if self._intx is not None:
            self.guest.interrupts.disconnect(self.function.slot, self._intx, self._on_line)
            self._intx = None

    @property
    def vectors(self) -> dict[int, int]:
        """MSI-X table entry to the guest's vector."""
        return dict(self._vectors)

    def setup_queue(self, index: int, size: int | None = None) -> SplitQueue:
        """Set queue `index` up, with `size` entries or as many as the device allows, and enable it (§4.1.5.1.3)."""
        self.set("queue_select", index)
        limit = self.get("queue_size")
        if not limit:
            raise GuestError(f"{self.function} has no queue {index}")
        if limit & limit - 1 or limit > MAX_QUEUE_SIZE:
            raise GuestCheckError("VIRTIO 1.4 §4.1.4.3.1", f"{self.function} queue {index}: size {limit}")
        if self.get("queue_enable"):
            raise GuestCheckError(
                "VIRTIO 1.4 §4.1.4.3.1", f"{self.function} queue {index} is enabled after reset"
            )
        size = min(size or limit, limit)
        self.set("queue_size", size)
        queue = SplitQueue(self.guest.memory, index, size, self._notifier(index), self._queue_options())
        for register, address in zip(
            ("queue_desc", "queue_driver", "queue_device"), queue.addresses, strict=True
        ):
            self.set(register, address)
        if self._vectors:
            self._map_vector("queue_msix_vector", self._queue_entry(index))
        if self._mode is Interrupts.POLLING:
            queue.disable_interrupts()
        else:
            queue.enable_interrupts()
        self.set("queue_enable", 1)
        self.queues[index] = queue
        return queue

    def _queue_options(self) -> QueueOptions:
        return QueueOptions(
            event_idx=Feature.EVENT_IDX in self.features,
            indirect=Feature.INDIRECT_DESC in self.features,
            in_order=Feature.IN_ORDER in self.features,
        )

    def _notifier(self, index: int) -> Callable[[int], None]:
        """What notifies the device of queue `index`, which is selected (§4.1.5.2)."""
        bar = self._notify.bar
        offset = self.get("queue_notify_off") * self._multiplier
        size = 4 if Feature.NOTIFICATION_DATA in self.features else 2
        if offset + size > self._notify.length:
            raise GuestCheckError(
                "VIRTIO 1.4 §4.1.4.4.1", f"{self.function} queue {index}: notified out of bounds"
            )
        at = self._notify.offset + offset
        name = self.get("queue_notif_config_data") if Feature.NOTIF_CONFIG_DATA in self.features else index
        if size == 2:
            return lambda _available: bar.write(at, 2, name)
        return lambda available: bar.write(at, 4, available << 16 | name)

    def sees_needs_reset(self) -> bool:
        """Ask the device whether it has set NEEDS_RESET."""
        self.needs_reset = self.needs_reset or bool(self.status & Status.NEEDS_RESET)
        return self.needs_reset

    def driver_ok(self) -> None:
        """The driver is ready: the device is live (§3.1.1, step 8)."""
        self.add_status(Status.DRIVER_OK)

    async def reset_queue(self, index: int, size: int | None = None) -> SplitQueue:
        """Reset one queue, wait for it, and set it up anew (§2.6.1); its chains in flight are forgotten."""
        self.set("queue_select", index)
        self.set("queue_reset", 1)

        def is_reset() -> bool:
            self.set("queue_select", index)
            return self.get("queue_reset") == 0

        await self.guest.wait_until(is_reset, f"{self.function} queue {index} to finish its reset")
        self.queues.pop(index).free()
        return self.setup_queue(index, size)

    # --- interrupts

    def service(self) -> None:
        """Take used buffers back from every queue (what a polling driver does again and again)."""
        for queue in self.queues.values():
            self._service(queue)

    def _service(self, queue: SplitQueue) -> None:
        """Take used buffers back until none are left after interrupts were asked for again (§2.7.14)."""
        queue.poll()
        if self._mode is Interrupts.POLLING:
            return
        queue.enable_interrupts()
        while queue.poll():
            queue.enable_interrupts()

    def _on_message(self, entry: int) -> None:
        for index, queue in tuple(self.queues.items()):
            if self._queue_entry(index) == entry:
                self.queue_interrupts += 1
                self._service(queue)
        if entry == 0:
            self._on_config()

    def _on_line(self) -> bool:
        isr = self.isr.read(Field(0, 1))
        if isr & ISR_QUEUE:
            self.queue_interrupts += 1
            self.service()
        if isr & ISR_CONFIG:
            self._on_config()
        return bool(isr)

    def _on_config(self) -> None:
        self.config_changes += 1
        self.sees_needs_reset()
        if self.on_config_change is not None:
            self.on_config_change()

    async def wait_for(self, ready: Callable[[], bool], what: str, timeout_ns: int | None = None) -> None:
        """Wait for `ready()`, polling the queues where nobody interrupts.

        NeedsResetError where the device gives up meanwhile.
        """
        polling = self._mode is Interrupts.POLLING

        def look() -> bool:
            if polling:
                self.service()
            return self.needs_reset or ready()

        try:
            await self.guest.wait_until(look, what, timeout_ns)
        except GuestTimeoutError:
            if not self.sees_needs_reset():
                raise
        if self.needs_reset and not ready():
            raise NeedsResetError(f"waited for {what}: {self.function} has set NEEDS_RESET")
