"""A virtio device's state as plain data, for snapshots: what the driver set up, and the requests in flight."""

from __future__ import annotations

import msgspec


class ChainState(msgspec.Struct, frozen=True):
    """A buffer that the device has taken: head, (guest address, length) of its parts, descriptors of the ring."""

    head: int
    readable: list[tuple[int, int]]
    writable: list[tuple[int, int]]
    count: int


class KeptState(msgspec.Struct, frozen=True):
    """A buffer that is done, `written` bytes of it, and that IN_ORDER keeps back."""

    chain: ChainState
    written: int


class RingState(msgspec.Struct, frozen=True):
    """A running ring's positions, and for IN_ORDER the heads in order and what is kept back.

    `hints` is what it knows of its driver and need not find out, or tell, again; `pushed` are used buffers that a
    packed ring has not shown.
    """

    last_avail: int
    used_idx: int
    order: list[int]
    waiting: list[KeptState]
    hints: dict[str, int] = {}
    pushed: list[KeptState] = []


class QueueState(msgspec.Struct, frozen=True):
    """One virtqueue; `ring` is None where it does not run.

    `resetting`: its reset is over as soon as it is restored, so nothing is in flight.
    """

    size: int
    desc: int
    driver: int
    device: int
    enabled: bool
    ring: RingState | None
    in_flight: list[ChainState]
    resetting: bool = False


class DeviceState(msgspec.Struct, frozen=True):
    """One device; `own` is the device type's own part, `parts` those of what is behind it.

    `legacy`: its driver uses the legacy interface.  `suspending`: it has asked for a suspension, which waits.
    `resetting`: for a reset, which is over as soon as the state is restored.
    """

    status: int
    driver_features: int
    config_generation: int
    config_changed: bool
    queues: list[QueueState]
    own: dict[str, int]
    legacy: bool = False
    suspending: bool = False
    resetting: bool = False
    parts: dict[str, bytes] = {}
