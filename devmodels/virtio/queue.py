"""One virtqueue of a device: its set-up by the driver, its ring while it runs, and what is in flight.

VIRTIO 1.4 §2.6: enabling, used buffer notifications, and the reset of one queue.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from devmodels.trace import EventKind
from devmodels.virtio.layout import WRAP_COUNTER
from devmodels.virtio.ring import MAX_CHAIN_BYTES, Chain, Ring, RingError
from devmodels.virtio.split import SplitRing
from devmodels.virtio.state import QueueState

if TYPE_CHECKING:
    from devmodels.virtio.device import VirtioDevice
    from devmodels.virtio.packed import PackedRing


class VirtQueue:
    """One virtqueue: what the driver set up, its ring once it runs, and its in-flight table (by head)."""

    __slots__ = (
        "_resetting",
        "context",
        "desc",
        "device",
        "driver",
        "drops",
        "enabled",
        "flush_due",
        "in_flight",
        "index",
        "largest",
        "left",
        "make_packed",
        "make_split",
        "name",
        "on_clear",
        "on_demand",
        "on_idle",
        "open",
        "owner",
        "polled",
        "ring",
        "serve",
        "size",
    )

    def __init__(self, owner: VirtioDevice, index: int, largest: int) -> None:
        """`largest` is the most entries the ring may have where it is packed."""
        self.owner = owner
        self.context = owner.context
        """Where the ring is worked on."""
        self.serve: Callable[[VirtQueue], None] = owner.process
        """What a notification makes of it: take what is there, on this queue's context."""
        self.index = index
        self.name = f"{owner.name} queue {index}"
        self.largest = largest
        self.in_flight: dict[int, Chain] = {}
        as_qemu, steady = owner.violations.as_qemu, index < owner.steady_queues
        self.make_split: Callable[..., SplitRing] = partial(_split_ring, as_qemu=as_qemu, steady=steady)
        self.make_packed: Callable[..., PackedRing] = partial(_packed_ring, as_qemu=as_qemu, steady=steady)
        """What make the ring; a transport may have such that keep account of what is in flight."""
        self.open = False
        """Whether used buffers may be shown: the ring runs, nothing is being reset, the device masters the bus."""
        self.drops = False
        """Whether what comes back is not shown to the driver, now or later."""
        self._resetting = False
        self.polled = False
        self.on_demand = False
        """Whether buffers stay in the ring until the device has something for them: none of them is work to do."""
        self.on_idle: Callable[[], None] | None = None
        self.on_clear: Callable[[], None] | None = None
        self.clear()

    def clear(self) -> None:
        """Back to the state after reset (VIRTIO 1.4 §2.6.1.1.1)."""
        self.size = self.max_size
        self.desc = 0
        self.driver = 0
        self.device = 0
        self.enabled = False
        self.ring: Ring | None = None
        self.resetting = False
        self.flush_due = False
        self.left: int | None = None
        """How many buffers waited when the device was suspended, where that is known."""
        if self.on_clear is not None:
            self.on_clear()

    @property
    def max_size(self) -> int:
        """The most entries that the driver may choose: a power of two where the ring is not packed (§4.1.4.3.1)."""
        return self.largest if self.owner.packed else _power_below(self.largest)

    def allows(self, size: int) -> bool:
        """Whether the driver may choose `size` entries."""
        return 0 < size <= self.max_size and (self.owner.packed or not size & (size - 1))

    def settle_size(self) -> None:
        """Features were accepted: a size that nobody has chosen is the largest that there may be now."""
        if self.size == _power_below(self.largest):
            self.size = self.max_size

    def start(self, *, last_avail: int | None = None, used_idx: int | None = None) -> bool:
        """Build the ring from what the driver wrote; False, and the device needs a reset, where it is impossible.

        The positions are those of a ring that another device left, or None.
        """
        owner = self.owner
        start = WRAP_COUNTER if owner.packed else SplitRing.START
        make: Callable[..., Ring] = self.make_packed if owner.packed else self.make_split
        last_avail = start if last_avail is None else last_avail
        used_idx = start if used_idx is None else used_idx
        if owner.trace is not None:
            where = (self.desc, self.driver, self.device, last_avail, used_idx)
            owner.trace.emit(owner.name, EventKind.QUEUE, self.index, self.size, *where)
        try:
            self.ring = make(
                owner.memory,
                self.size,
                (self.desc, self.driver, self.device),
                owner.driver_features,
                self.in_flight,
                strict=owner.violations.strict,
                last_avail=last_avail,
                used_idx=used_idx,
                report=self.report,
            )
        except RingError as error:
            owner.ring_broken(self, error)
            return False
        self.settle_open()
        return True

    def waiting(self) -> int:
        """How many buffers wait in the ring, at most; 0 where it is broken, which shows when they are taken."""
        try:
            return 0 if self.ring is None else self.ring.available()
        except RingError:
            return 0

    def report(self, clause: str, summary: str, data: bytes = b"") -> None:
        """The driver did something wrong with this queue, from which the device goes on."""
        self.owner.violations.report(clause, summary, self.name, data)

    def renegotiate(self) -> None:
        """The features have changed while the ring runs, as the legacy interface allows: go on with them."""
        assert self.ring is not None
        self.show()
        state = self.ring.save()
        if self.start(last_avail=state.last_avail, used_idx=state.used_idx):
            self.ring.take_over(state)

    @property
    def resetting(self) -> bool:
        """Whether the queue is being reset by itself (VIRTIO 1.4 §2.6.1)."""
        return self._resetting

    @resetting.setter
    def resetting(self, value: bool) -> None:
        self._resetting = value
        self.settle_open()

    def settle_open(self) -> None:
        """Set `open` and `drops`, of which something has changed.

        QEMU's device gives back what it has done before a reset, and nothing without bus mastering.
        """
        owner = self.owner
        self.drops = self._resetting or owner.stopped or (owner.paused if owner.as_qemu else owner.resetting)
        self.open = self.ring is not None and not (
            self.drops or owner.resetting or owner.paused or owner.suspending
        )

    def finish(self, used: Sequence[tuple[Chain, int]]) -> None:
        """Give buffers back, each with the number of bytes written; the driver sees it at the end of this turn."""
        owner = self.owner
        in_flight = self.in_flight
        for chain, _ in used:
            del in_flight[chain.head]
        ring = self.ring
        if ring is None or self.drops:
            self.settle()
        else:
            if owner.trace is not None:
                for chain, written in used:
                    owner.trace.emit(owner.name, EventKind.USED, self.index, chain.head, written)
            try:
                ring.push(used)
            except RingError as error:
                self.broken(error)
            if not self.flush_due:
                self.flush_due = True
                owner.soon(self.context, self.flush)
        if self.on_idle is not None and not in_flight:
            self.settle_idle()

    def drop(self, chain: Chain) -> None:
        """What came with this buffer was given up by a reset, which may wait for that."""
        del self.in_flight[chain.head]
        self.settle()
        if self.on_idle is not None and not self.in_flight:
            self.settle_idle()

    def note_taken(self, chains: Sequence[Chain]) -> None:
        """Give the buffers that were taken to the trace."""
        for chain in chains:
            pieces = [number for piece in (*chain.readable, *chain.writable) for number in piece]
            self.owner.note(EventKind.CHAIN, self.index, chain.head, len(chain.readable), *pieces)

    # --- what the control plane is told by the ring's side

    def settle(self) -> None:
        """A buffer came back during a reset, which may be over."""
        self.owner.settle(self)

    def settle_idle(self) -> None:
        """Nothing is in flight: whoever waits for that goes on."""
        if self.on_idle is not None:
            self.when_idle(self.on_idle)

    def broken(self, error: RingError) -> None:
        """The driver broke the ring; QEMU's device asks for its next buffer all the same."""
        if self.owner.as_qemu and self.ring is not None:
            with suppress(RingError):
                self.ring.enable_notifications()
        self.owner.ring_broken(self, error)

    def notify(self) -> None:
        """The driver wants to know of used buffers."""
        self.owner.notify_used(self.index)

    def check_notification(self, position: int) -> None:
        """A notification says `position` comes next."""
        if self.ring is not None:
            self.ring.check_notification(position)

    # --- the end of what was taken

    def stop_when_idle(self, stopped: Callable[[], None]) -> None:
        """Take no more buffers; call `stopped` once everything taken has been given back and shown."""
        self.enabled = False
        self.when_idle(stopped)

    def when_idle(self, idle: Callable[[], None]) -> None:
        """Call `idle` once everything taken has been given back and shown."""
        if self.in_flight:
            self.on_idle = idle
            return
        self.on_idle = None
        self.flush()
        idle()

    def flush(self) -> None:
        """Publish what has been given back, and notify where the driver asked for it; later, while paused."""
        self.flush_due = False
        if not self.owner.paused:
            self.show()

    def show(self) -> None:
        """Publish what has been given back, and notify where the driver asked for it."""
        ring = self.ring
        if ring is None or self.drops:
            return
        try:
            if ring.publish():
                self.notify()
        except RingError as error:
            self.broken(error)

    def state(self) -> QueueState:
        """The queue's state; what a reset waits for is no part of it."""
        ring = None if self.ring is None else self.ring.save()
        dropped = self._resetting or self.owner.resetting
        in_flight = [] if dropped else [chain.save() for chain in self.in_flight.values()]
        parts = self.desc, self.driver, self.device
        return QueueState(self.size, *parts, self.enabled, ring, in_flight, self._resetting)

    def judge(self, state: QueueState, *, packed: bool, broken: bool) -> None:
        """ValueError where `state` cannot be this queue's, on a device that is `broken` (it needs a reset) or not."""
        size, ring = state.size, state.ring
        if not 0 < size <= self.largest or (size & (size - 1) and not packed):
            raise ValueError(f"{self.name}: size {size} in the state")
        chains = list(state.in_flight)
        if ring is not None:
            chains += [kept.chain for kept in ring.waiting]
        heads = [chain.head for chain in chains]
        if len(set(heads)) != len(heads) or not all(
            0 <= head < (65536 if packed else size) for head in heads
        ):
            raise ValueError(f"{self.name}: heads {heads} in flight in the state")
        for chain in chains:
            pieces = [*chain.readable, *chain.writable]
            if any(address < 0 or length < 0 for address, length in pieces) or (
                sum(length for _, length in pieces) > MAX_CHAIN_BYTES
            ):
                raise ValueError(f"{self.name}: buffer of head {chain.head} in the state: {pieces}")
        if ring is None:
            return
        if any(
            not (
                0 <= kept.chain.head <= 0xFFFF
                and 0 < kept.chain.count <= size
                and 0 <= kept.written < 1 << 32
            )
            for kept in ring.pushed
        ):
            raise ValueError(f"{self.name}: used buffers {ring.pushed} in the state")
        positions = ring.last_avail, ring.used_idx
        if not all(0 <= position <= 0xFFFF for position in positions):
            raise ValueError(f"{self.name}: indices {positions} in the state")
        counts = [chain.count for chain in chains]
        if packed:
            from devmodels.virtio.packed import held_fits

            if not held_fits(size, *positions, counts, broken=broken):
                raise ValueError(f"{self.name}: positions {positions} in the state, with {chains} in flight")

    def restore(self, state: QueueState) -> None:
        """Take what `save` gave; requests that were in flight start again."""
        self.size, self.desc, self.driver, self.device = state.size, state.desc, state.driver, state.device
        self.enabled = state.enabled
        ring = state.ring
        if ring is None or not self.start(last_avail=ring.last_avail, used_idx=ring.used_idx):
            return
        assert self.ring is not None
        self.ring.take_over(ring)
        chains = [Chain.restored(saved) for saved in state.in_flight]
        self.in_flight.update((chain.head, chain) for chain in chains)
        owner = self.owner
        owner.handle(self, chains)
        owner.soon(self.context, partial(owner.process, self))


def _power_below(number: int) -> int:
    """The largest power of two up to `number`."""
    return 1 << number.bit_length() - 1


def _split_ring(*args: Any, as_qemu: bool, steady: bool, **options: Any) -> SplitRing:
    if not as_qemu:
        return SplitRing(*args, **options)
    from devmodels.virtio.split_as_qemu import SplitRingAsQemu

    return SplitRingAsQemu(*args, steady=steady, **options)


def _packed_ring(*args: Any, as_qemu: bool, steady: bool, **options: Any) -> PackedRing:
    # Most drivers use split rings: a machine starts without what packed ones need.
    if not as_qemu:
        from devmodels.virtio.packed import PackedRing

        return PackedRing(*args, **options)
    from devmodels.virtio.packed_as_qemu import PackedRingAsQemu

    return PackedRingAsQemu(*args, steady=steady, **options)
