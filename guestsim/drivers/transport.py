"""How a driver reaches a virtio device: what every transport offers to `VirtioDevice`.

PCI (modern and legacy), MMIO and a vhost-user socket each have one: the driver above never knows which.  Follows
VIRTIO 1.4 chapter 4, which says of each transport how the steps of chapters 2 and 3 are done on it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from guestsim.drivers.layouts import Field


class Interrupts(Enum):
    """How a driver hears of used buffers and configuration changes.

    `MSIX` stands for the best that the transport has: a message for each queue over PCI, the one line of an MMIO
    device.
    """

    MSIX = "msix"
    INTX = "intx"
    POLLING = "polling"


class Events(Protocol):
    """Who hears of a device's interrupts."""

    def on_used(self, queues: Collection[int] | None) -> None:
        """Buffers were used in one of `queues`; None where any queue may be meant."""
        ...

    def on_config(self) -> None:
        """The configuration has changed, or the device needs a reset."""
        ...


class Transport(Protocol):
    """One virtio device as its driver reaches it. `str()` of it names the device in messages.

    Methods raise `GuestCheckError`, with the clause, where the device breaks the transport's rules, and `GuestError`
    for what it or the transport doesn't have.
    """

    @property
    def legacy(self) -> bool:
        """Whether this is the legacy interface (§1.3.1): no FEATURES_OK, 32 feature bits, rings in one piece."""
        ...

    @property
    def fixed_queue_size(self) -> bool:
        """Whether the driver must take each queue with the size that the device has given it."""
        ...

    # --- status, features, configuration

    def read_status(self) -> int:
        """The device status field (§2.1)."""
        ...

    def write_status(self, value: int) -> None:
        """Write the device status field; 0 begins a reset, which is over when it is read as 0."""
        ...

    def read_features(self) -> int:
        """The feature bits offered."""
        ...

    def write_features(self, bits: int) -> None:
        """Accept feature bits; what they say of the transport itself holds from now on."""
        ...

    def read_config(self, fields: Iterable[Field]) -> list[int]:
        """Fields of the device-specific configuration, all of one moment (§2.5)."""
        ...

    def write_config(self, field: Field, value: int) -> None:
        """Write a field of the device-specific configuration."""
        ...

    # --- interrupts

    def connect(self, mode: Interrupts, queues: int, events: Events) -> None:
        """Have `events` called for interrupts; before the queues are enabled, with how many there will be."""
        ...

    def disconnect(self) -> None:
        """Have nobody called any more; after a reset. Idempotent."""
        ...

    # --- queues

    def queue_limit(self, index: int) -> int:
        """How many entries queue `index` may have; 0 where there is no such queue."""
        ...

    def notifier(self, index: int) -> Callable[[int], None]:
        """What notifies the device of queue `index`.

        It is called with the queue's state as NOTIFICATION_DATA has it (§2.9): next offset, and wrap counter where
        the ring is packed.
        """
        ...

    def enable_queue(self, index: int, size: int, addresses: Sequence[int]) -> None:
        """Tell the device of queue `index`, whose three areas lie at `addresses`, and make it live."""
        ...

    def reset_queue(self, index: int) -> None:
        """Begin to reset one queue (RING_RESET, §2.6.1)."""
        ...

    def queue_in_reset(self, index: int) -> bool:
        """Whether a queue's reset is still going on."""
        ...

    # --- below the driver: what scripts do on their own account

    def get(self, register: str) -> int:
        """Read a register by the name that it has in the common configuration over PCI (§4.1.4.3)."""
        ...

    def set(self, register: str, value: int) -> None:
        """Write a register by the name that it has in the common configuration over PCI (§4.1.4.3)."""
        ...

    def notify(self, queue: int, value: int, size: int | None) -> None:
        """Write any value, in any size (None: the usual one), to the notification register of queue `queue`."""
        ...
