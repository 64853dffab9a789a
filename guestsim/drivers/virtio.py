"""A virtio device as an operating system's driver brings it up (VIRTIO 1.4 §3.1), over any transport.

Order: reset and wait for 0, ACKNOWLEDGE, DRIVER, features, FEATURES_OK and read it back, queues with their interrupts,
DRIVER_OK.  A device that sets NEEDS_RESET is noticed at its configuration interrupt, or when a wait is over.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from guestsim.drivers.layouts import LEGACY_PAGE, MAX_QUEUE_SIZE, Feature, Field, Status
from guestsim.drivers.packed import PackedQueue
from guestsim.drivers.ring import QueueOptions
from guestsim.drivers.transport import Interrupts, Transport
from guestsim.drivers.virtio_pci import PciTransport
from guestsim.drivers.virtqueue import SplitQueue
from guestsim.errors import GuestCheckError, GuestError, GuestTimeoutError

if TYPE_CHECKING:
    from guestsim.drivers.pci import PciFunction
    from guestsim.drivers.ring import Queue
    from guestsim.guest import Guest

FEATURE_BITS = 128

RING_FEATURES = frozenset(
    {
        Feature.ANY_LAYOUT,
        Feature.INDIRECT_DESC,
        Feature.EVENT_IDX,
        Feature.VERSION_1,
        Feature.RING_PACKED,
        Feature.IN_ORDER,
        Feature.NOTIFICATION_DATA,
        Feature.NOTIF_CONFIG_DATA,
        Feature.RING_RESET,
    }
)
"""What this driver understands of rings and transport."""

LEGACY_FEATURES = frozenset({Feature.NOTIFY_ON_EMPTY, Feature.ANY_LAYOUT})
"""Bits that mean something in the legacy interface only (§6.3)."""


def is_queue_size(size: int, *, packed: bool) -> bool:
    """Whether a queue may have `size` entries: a power of two where its ring is split (§2.7, §2.8.10.1)."""
    return 1 <= size <= MAX_QUEUE_SIZE and (packed or not size & size - 1)


class NeedsResetError(GuestError):
    """The device has set NEEDS_RESET (VIRTIO 1.4 §2.1.2) and answers nothing before it is reset."""


class FeaturesRefusedError(GuestError):
    """The device did not keep FEATURES_OK: it cannot work with what was accepted (VIRTIO 1.4 §2.2.2)."""


class VirtioDevice:
    """One virtio device and its driver's state.

    `features` is what was negotiated; `queues` the queues in use, by index.  `queue_interrupts` and `config_changes`
    count what the interrupt handlers were called for; `on_config_change` is called after each change.  `any_length` is
    for devices whose used lengths are known to mean nothing.
    """

    __slots__ = (
        "_mode",
        "any_length",
        "config_changes",
        "features",
        "guest",
        "needs_reset",
        "offered",
        "on_config_change",
        "queue_interrupts",
        "queues",
        "transport",
    )

    def __init__(self, guest: Guest, transport: Transport) -> None:
        self.guest = guest
        self.transport = transport
        self._mode = Interrupts.POLLING
        self.features: frozenset[int] = frozenset()
        self.offered: frozenset[int] = frozenset()
        self.queues: dict[int, Queue] = {}
        self.queue_interrupts = 0
        self.config_changes = 0
        self.needs_reset = False
        self.any_length = False
        self.on_config_change: Callable[[], None] | None = None

    def __str__(self) -> str:
        return str(self.transport)

    @property
    def pci(self) -> PciTransport:
        """The transport, which is PCI; GuestError where it is another."""
        if not isinstance(self.transport, PciTransport):
            raise GuestError(f"{self} is not on PCI")
        return self.transport

    @property
    def function(self) -> PciFunction:
        """The PCI function that the device is; GuestError where it is none."""
        return self.pci.function

    def get(self, register: str) -> int:
        """Read a register by the name that it has in the common configuration over PCI (§4.1.4.3)."""
        return self.transport.get(register)

    def set(self, register: str, value: int) -> None:
        """Write a register by the name that it has in the common configuration over PCI (§4.1.4.3)."""
        self.transport.set(register, value)

    @property
    def status(self) -> Status:
        """The device status field."""
        return Status(self.transport.read_status())

    def add_status(self, bits: Status) -> None:
        """Set bits of the device status field, keeping those that are set."""
        self.transport.write_status(self.status | bits)

    def read_config(self, fields: Iterable[Field]) -> list[int]:
        """Fields of the device-specific configuration, all of one moment (§2.5)."""
        return self.transport.read_config(fields)

    # --- bringing up and down

    async def reset(self) -> None:
        """Reset the device and wait until it says so; chains in flight are forgotten (§2.4, §4.1.4.3.2)."""
        transport = self.transport
        transport.write_status(0)
        await self.guest.wait_until(lambda: transport.read_status() == 0, f"{self} to finish its reset")
        transport.disconnect()
        for queue in self.queues.values():
            queue.free()
        self.queues.clear()
        self.features = frozenset()
        self.needs_reset = False

    def negotiate(self, understood: Collection[int], *, force: Collection[int] = ()) -> None:
        """After a reset: accept those of `understood` that the device offers, and see that it agrees (§3.1.1).

        `force` is accepted whether offered or not: what no correct driver does.
        """
        legacy = self.transport.legacy
        self.add_status(Status.ACKNOWLEDGE)
        self.add_status(Status.DRIVER)
        bits = self.transport.read_features()
        self.offered = frozenset(bit for bit in range(FEATURE_BITS) if bits >> bit & 1)
        if not legacy and Feature.VERSION_1 not in self.offered:
            self.add_status(Status.FAILED)
            raise GuestCheckError("VIRTIO 1.4 §6.2", f"{self}: VERSION_1 is not offered")
        if not legacy:
            understood = frozenset(understood) - LEGACY_FEATURES
        self.features = self.offered & frozenset(understood) | frozenset(force)
        self.write_features(self.features)
        if legacy:
            return  # There is no FEATURES_OK (§3.1.2).
        self.add_status(Status.FEATURES_OK)
        if not self.status & Status.FEATURES_OK:
            self.add_status(Status.FAILED)
            names = ", ".join(str(bit) for bit in sorted(self.features))
            raise FeaturesRefusedError(f"{self} refused the features {names} (VIRTIO 1.4 §2.2.2)")

    def write_features(self, features: Collection[int]) -> None:
        """Write the features accepted."""
        self.transport.write_features(sum(1 << bit for bit in features))

    def connect(self, mode: Interrupts, queues: int) -> None:
        """Arrange for interrupts: before the queues are set up, with how many there will be."""
        self._mode = mode
        self.transport.connect(mode, queues, self)

    def setup_queue(self, index: int, size: int | None = None) -> Queue:
        """Set queue `index` up, with `size` entries or as many as the device allows, and enable it (§2.6, §3.1.1)."""
        transport = self.transport
        limit = transport.queue_limit(index)
        if not limit:
            raise GuestError(f"{self} has no queue {index}")
        packed = Feature.RING_PACKED in self.features
        if not is_queue_size(limit, packed=packed):
            raise GuestCheckError("VIRTIO 1.4 §4.1.4.3.1", f"{self} queue {index}: size {limit}")
        size = limit if transport.fixed_queue_size else min(size or limit, limit)
        if not is_queue_size(size, packed=packed):
            raise GuestError(f"{self} queue {index}: size {size}, expected a power of two for a split ring")
        queue = self._make_queue(index, size, packed=packed)
        if self._mode is Interrupts.POLLING:
            queue.disable_interrupts()
        else:
            queue.enable_interrupts()
        transport.enable_queue(index, size, queue.addresses)
        self.queues[index] = queue
        return queue

    def _make_queue(self, index: int, size: int, *, packed: bool) -> Queue:
        options = QueueOptions(
            event_idx=Feature.EVENT_IDX in self.features,
            indirect=Feature.INDIRECT_DESC in self.features,
            in_order=Feature.IN_ORDER in self.features,
            any_length=self.any_length,
        )
        memory, notify = self.guest.memory, self.transport.notifier(index)
        if packed:
            return PackedQueue(memory, index, size, notify, options)
        page = LEGACY_PAGE if self.transport.legacy else None
        return SplitQueue(memory, index, size, notify, options, page=page)

    def sees_needs_reset(self) -> bool:
        """Ask the device whether it has set NEEDS_RESET."""
        self.needs_reset = self.needs_reset or bool(self.status & Status.NEEDS_RESET)
        return self.needs_reset

    def driver_ok(self) -> None:
        """The driver is ready: the device is live (§3.1.1, step 8)."""
        self.add_status(Status.DRIVER_OK)

    async def reset_queue(self, index: int, size: int | None = None) -> Queue:
        """Reset one queue, wait for it, and set it up anew (§2.6.1); its chains in flight are forgotten."""
        transport = self.transport
        transport.reset_queue(index)
        await self.guest.wait_until(
            lambda: not transport.queue_in_reset(index), f"{self} queue {index} to finish its reset"
        )
        self.queues.pop(index).free()
        return self.setup_queue(index, size)

    # --- interrupts

    def service(self) -> None:
        """Take used buffers back from every queue (what a polling driver does again and again)."""
        for queue in self.queues.values():
            self._service(queue)

    def _service(self, queue: Queue) -> None:
        """Take used buffers back until none are left after interrupts were asked for again (§2.7.14)."""
        queue.poll()
        if self._mode is Interrupts.POLLING:
            return
        queue.enable_interrupts()
        while queue.poll():
            queue.enable_interrupts()

    def on_used(self, queues: Collection[int] | None) -> None:
        """An interrupt for `queues`, or for any of them."""
        self.queue_interrupts += 1
        for index in tuple(self.queues) if queues is None else queues:
            if index in self.queues:
                self._service(self.queues[index])

    def on_config(self) -> None:
        """A configuration interrupt."""
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
            raise NeedsResetError(f"waited for {what}: {self} has set NEEDS_RESET")
