"""What the core of a virtio device asks of its type and of its transport."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NotRequired, Protocol, TypedDict

from devmodels.virtio.queue import VirtQueue
from devmodels.virtio.ring import Chain, RingError

if TYPE_CHECKING:
    from devmodels.conformance import ViolationLog
    from devmodels.iocontext import IoContext
    from devmodels.memory import GuestMemory


class Surroundings(TypedDict):
    """What a device of any type is made with, besides its own options."""

    name: str
    context: IoContext
    memory: GuestMemory
    violations: NotRequired[ViolationLog | None]
    core_features: NotRequired[int]
    """What the device core is to offer; all that it can where nobody says."""


class Transport(Protocol):
    """What a device may ask of the transport that carries it."""

    def notify_used(self, queue: int) -> None:
        """Send a used buffer notification for the queue."""
        ...

    def notify_config(self) -> None:
        """Send a configuration change notification."""
        ...


class DeviceType(ABC):
    """A type says `DEVICE_ID`, has a configuration space, and handles buffers; all else it may leave as it is."""

    DEVICE_ID: int
    CONFIG_SIZE: int
    """Bytes of the device configuration space."""
    qemu_config_size: int | None = None
    """How many QEMU's has; None: as many."""

    steady_queues = 0
    """How many, the first ones, of which QEMU's device never says that it need not be notified."""

    ioeventfd = True
    """Whether QEMU's device looks into its rings when DRIVER_OK is set, as ours does (VIRTIO 1.4 §3.1.1)."""

    name: str
    violations: ViolationLog

    def violation(self, clause: str, summary: str, data: bytes = b"") -> None:
        """The driver did something wrong, from which the device goes on."""
        self.violations.report(clause, summary, self.name, data)

    # --- configuration space and work

    @abstractmethod
    def read_config(self, offset: int, size: int) -> int:
        """A little-endian value of `size` bytes from the device configuration space; 0 beyond its end."""

    @abstractmethod
    def write_config(self, offset: int, size: int, value: int) -> None:
        """The driver writes the device configuration space."""

    def config_bytes(self) -> bytes:
        """The whole device configuration space, for others than the driver; empty where the type has none."""
        return b""

    @abstractmethod
    def handle(self, queue: VirtQueue, chains: Sequence[Chain]) -> None:
        """Start the work of buffers that came together; `queue.finish` gives them back, perhaps before this returns."""

    def handle_last(self, queue: VirtQueue, chains: Sequence[Chain], error: RingError) -> None:
        """What came before a broken buffer is whole; then the ring is broken."""
        if chains:
            self.handle(queue, chains)
        queue.flush()
        queue.broken(error)

    def judge_chains(self, queue: VirtQueue, chains: list[Chain]) -> None:
        """RingError where one of these cannot be a request, and QEMU's device needs a reset then (profile `qemu`).

        `chains` keeps those before it; it and the others are no longer in flight.
        """
        for number, chain in enumerate(chains):
            if not self.may_be_request(chain):
                for each in chains[number:]:
                    del queue.in_flight[each.head]
                del chains[number:]
                raise RingError("VIRTIO 1.4 §2.1.2", f"head {chain.head} cannot be a request")

    def may_be_request(self, chain: Chain) -> bool:
        """Whether QEMU's device takes it for one: no part of it is empty."""
        return all(length for _, length in chain.readable) and all(length for _, length in chain.writable)

    def cancel(self, queue: VirtQueue) -> None:
        """Drop requests of `queue` that have not started."""

    # --- what the driver, or the front end, has done

    def features_accepted(self) -> None:
        """FEATURES_OK was just accepted: `driver_features` are final until reset.

        Through the legacy interface: the driver has written its features, which it may do again until DRIVER_OK.
        """

    def resumed(self) -> None:
        """The driver has resumed the device: the configuration space may show what has changed meanwhile."""

    def legacy_driver_ok(self) -> None:
        """A driver that uses the legacy interface has set DRIVER_OK (VIRTIO 1.4 §3.1.2)."""

    def device_was_reset(self) -> None:
        """The device has been reset: drop what the type itself keeps."""

    def driver_reset(self) -> None:
        """The device has been reset by a front end whose driver has done so, which it tells from a pause."""

    def driver_left(self) -> None:
        """The front end has gone: whatever a driver set for good is over."""

    def activate(self) -> None:
        """A transport out of process starts the first ring; OSError where what the device needs cannot be had."""

    def inactivate(self, done: Callable[[], None]) -> None:
        """The last ring of such a transport has stopped: give up what others may want; `done` when that is over."""
        done()

    # --- state

    def migration_state(self) -> dict[str, int]:
        """What a driver chose that outlives resets by a front end, for another device to go on with."""
        return {}

    def take_migration_state(self, state: dict[str, int]) -> None:
        """Go on where another device's `migration_state` was taken; ValueError where `state` is none of this type."""
        if state:
            raise ValueError(f"unknown parts {', '.join(sorted(state))}")

    def save_own(self) -> dict[str, int]:
        """The device type's own part of the state."""
        return {}

    def restore_own(self, state: dict[str, int]) -> None:
        """Take what `save_own` gave."""
        del state

    def save_parts(self) -> dict[str, bytes]:
        """The state of what is behind the device, by name."""
        return {}

    def judge_parts(self, parts: dict[str, bytes]) -> None:
        """ValueError where `save_parts` of such a device cannot have given that."""
        if parts:
            raise ValueError(
                f"{self.name}: the state has {sorted(parts)}, expected nothing behind the device"
            )

    def restore_parts(self, parts: dict[str, bytes]) -> None:
        """Take what `save_parts` gave."""
        del parts
