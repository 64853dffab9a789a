"""One vring of a vhost-user front end: what it was told, when it runs, and its three descriptors.

Follows "Ring states" of the protocol's document.  A ring starts when it has a size, addresses and a kick descriptor
and is enabled; GET_VRING_BASE stops it.  While it runs, memory, call descriptor and enabling may change under it.
"""

from __future__ import annotations

import logging
import os
import select
import sys
from collections.abc import Callable
from functools import partial

from devmodels.exports.eventfd import Notifier
from devmodels.exports.vhost_channel import RequestRefused
from devmodels.exports.vhost_inflight import SplitRegion, TrackedSplitRing
from devmodels.exports.vhost_inflight_packed import Descriptor, PackedRegion, TrackedPackedRing
from devmodels.exports.vhost_memory import FrontEndMemory
from devmodels.memoryregions import GuestMemoryError
from devmodels.memorywords import Words
from devmodels.trace import EventKind
from devmodels.virtio.constants import Status
from devmodels.virtio.device import VirtioDevice
from devmodels.virtio.layout import DESC_SIZE, EVENT_ALIGN, used_size
from devmodels.virtio.packed import PackedRing
from devmodels.virtio.queue import VirtQueue
from devmodels.virtio.ring import Chain, RingError
from devmodels.virtio.split import SplitRing

log = logging.getLogger("devmodels.vhost-user")

Again = list[int] | list[list[Descriptor]]
"""What was left in flight, in order: a split ring's heads, the descriptors of each of a packed ring's buffers."""


class Vring:
    """What the front end set up for `queue`."""

    def __init__(
        self,
        device: VirtioDevice,
        queue: VirtQueue,
        memory: FrontEndMemory,
        starting: Callable[[], None],
    ) -> None:
        """`starting` is called when a ring is about to start; RequestRefused where it must not."""
        self._starting = starting
        self._device = device
        self._context = queue.context
        self._memory = memory
        self.queue = queue
        self.enabled = False
        self.num = 0
        self.base: int | None = None
        """What SET_VRING_BASE said; None for a new ring."""
        self.parts: tuple[int, int, int] | None = None
        """User addresses of descriptor, driver and device area."""
        self._reachable = True
        self._polled = False
        self._kick: int | None = None
        self.call: Notifier | None = None
        self.err: Notifier | None = None
        self.region: SplitRegion | PackedRegion | None = None
        """Its part of the in-flight area, where the front end has one."""

    @property
    def started(self) -> bool:
        """Whether the ring has been started and not been stopped since, enabled or not."""
        return self.queue.ring is not None

    # --- set-up

    def set_kick(self, fd: int) -> None:
        """Take over a kick descriptor."""
        self._drop_kick()
        self._kick = fd
        # Edge-triggered and never read: one wake-up for each notification, and none is lost.
        self._context.watch(fd, select.EPOLLIN | select.EPOLLET, self._kicked)
        self.update()

    def set_call(self, fd: int | None) -> None:
        """Take over a call descriptor, or none."""
        if self.call is not None:
            self.call.close()
        self.call = None if fd is None else Notifier(fd)
        if self.call is not None and self.started:
            # What was used between the old descriptor and the new one may have gone unheard.
            self.call.signal()

    def set_err(self, fd: int | None) -> None:
        """Take over an error descriptor, or none."""
        if self.err is not None:
            self.err.close()
        self.err = None if fd is None else Notifier(fd)

    def set_base(self, base: int) -> None:
        """Take the positions to go on from ("Vring descriptor indices" of the protocol's document).

        A split ring's is the available index; a packed ring's has the used position above it.
        """
        if base > 0xFFFF and not self._device.packed:
            raise RequestRefused(f"base {base:#x} of vring {self.queue.index}, expected at most 65535")
        self.base = base

    def translate(self, parts: tuple[int, int, int]) -> tuple[int, int, int]:
        """Guest addresses of the ring's parts; RequestRefused where memory does not hold them."""
        desc, driver, device = (self._memory.guest_address(user) for user in parts)
        if desc is None or driver is None or device is None:
            raise RequestRefused(f"ring parts at user {', '.join(map(hex, parts))} are not in shared memory")
        return desc, driver, device

    def device_area_size(self) -> int:
        """Bytes of the used ring, or of a packed ring's device event suppression."""
        return EVENT_ALIGN if self._device.packed else used_size(self.num)

    def update(self) -> None:
        """Start the ring once everything is there; from then on follow what was changed."""
        if not self.started:
            if not self.enabled or self._kick is None or self.parts is None or not self.num:
                return
            self._start(self.translate(self.parts))
        active = self.enabled and self._reachable and not self._device.stopped
        if active is not self.queue.enabled:
            self._device.note(EventKind.ENABLE, self.queue.index, int(active))
        self.queue.enabled = active
        self._poll_it(active)
        if active:
            # Buffers may have been there before, or their notification was lost in the change.
            self._context.call_soon(self._look)

    def _start(self, parts: tuple[int, int, int]) -> None:
        queue = self.queue
        if self._device.stopped:
            broken = self._device.status & Status.DEVICE_NEEDS_RESET
            reason = "the device is broken and has not been reset" if broken else "SET_FEATURES is missing"
            raise RequestRefused(f"vring {queue.index} cannot be started: {reason}")
        self._starting()
        last_avail, used_idx, again = self._resume(parts)
        queue.size = self.num
        queue.desc, queue.driver, queue.device = parts
        if again:
            self._device.note(EventKind.AGAIN, queue.index, *again_numbers(again))
        log.info("%s: starts at %d, %d requests again", queue.name, last_avail, len(again))
        if not queue.start(last_avail=last_avail, used_idx=used_idx):
            raise RequestRefused(f"vring {queue.index} cannot be started where it is")
        self._reachable = True
        if self.call is not None and self.region is not None:
            # An earlier back end may have died between its last used buffer and the notification of it.
            self.call.signal()

    def _resume(self, parts: tuple[int, int, int]) -> tuple[int, int, Again]:
        """Where the ring goes on, available and used, and what is to be submitted again."""
        queue, region = self.queue, self.region
        again: Again = []
        if self._device.packed:
            last_avail, used_idx = self._packed_positions()
            queue.make_packed = PackedRing
            if isinstance(region, PackedRegion):
                base = last_avail, used_idx
                with self._memory.memory.unseen():
                    ring = self._descriptors(parts[0])
                    last_avail, used_idx, buffers = region.resume(self.num, base, ring)
                queue.make_packed = partial(TrackedPackedRing, region, list(buffers))
                again = buffers
        else:
            last_avail, used_idx = self.base or 0, self._load(parts[2] + 2)
            queue.make_split = SplitRing
            if isinstance(region, SplitRegion):
                last_avail, heads = region.resume(self.num, last_avail, used_idx)
                queue.make_split = partial(TrackedSplitRing, region, list(heads))
                again = heads
        return last_avail, used_idx, again

    def _packed_positions(self) -> tuple[int, int]:
        """Where a packed ring goes on: both positions were told, or neither (it is a new ring)."""
        base = PackedRing.START << 16 | PackedRing.START if self.base is None else self.base
        return base & 0xFFFF, base >> 16

    def _descriptors(self, address: int) -> Words:
        """A packed ring's descriptors as words of 2 bytes."""
        try:
            return self._memory.memory.words(address, DESC_SIZE // 2 * self.num, "H", write=True)
        except (GuestMemoryError, ValueError) as error:
            raise RequestRefused(f"ring at {address:#x} cannot be reached: {error}") from None

    def _load(self, address: int) -> int:
        """16 bits of the ring as they stand in memory: an earlier back end may have left them there."""
        memory = self._memory.memory
        if not memory.contains(address, 2):
            raise RequestRefused(f"ring at {address:#x} is not in shared memory")
        return int.from_bytes(memory.load(address, 2), "little")

    def memory_changed(self) -> None:
        """The memory table is another one: the ring may have moved in guest addresses, or be gone for a while."""
        ring = self.queue.ring
        if ring is None or self.parts is None:
            return
        try:
            ring.parts = self.translate(self.parts)
            self._device.note(EventKind.MOVED, self.queue.index, *ring.parts)
        except RequestRefused as error:
            self._reachable = False
            log.info("%s: waits: %s", self.queue.name, error)
        else:
            self._reachable = True
        self.update()

    # --- notifications

    def _kicked(self, _events: int) -> None:
        self._device.note(EventKind.KICK, self.queue.index, -1)
        self._device.process(self.queue)

    def _look(self) -> None:
        self._device.note(EventKind.LOOK, self.queue.index)
        self._device.process(self.queue)

    def begin(self) -> None:
        """Busy polling begins: kicks are not needed."""
        self.queue.polled = True
        if self.queue.ring is not None:
            self.queue.ring.disable_notifications()

    def poll(self) -> bool:
        """Look at the available index."""
        ring = self.queue.ring
        if ring is None or not ring.pending():
            return False
        self._look()
        return True

    def end(self) -> bool:
        """Busy polling ends: ask for kicks again, and look once more."""
        ring = self.queue.ring
        found = ring is not None and ring.pending()
        self.queue.polled = False
        self._look()
        return found

    def stop_polling(self) -> None:
        """Look no more by itself: the ring rests, or is broken."""
        self._poll_it(False)

    def _poll_it(self, polled: bool) -> None:
        polled = polled and not self.queue.on_demand
        if polled != self._polled:
            self._polled = polled
            if polled:
                self._context.add_poller(self)
            else:
                self._context.remove_poller(self)

    # --- the end

    def stop(self, stopped: Callable[[int], None]) -> None:
        """Stop the ring; `stopped(available index)` once everything taken has been given back."""
        queue = self.queue
        self.stop_polling()
        self._device.note(EventKind.STOP, queue.index)
        take_owed(self._device, queue)

        def idle() -> None:
            ring = queue.ring
            if ring is not None:
                if self.region is not None:
                    self.region.rest()
                self.base = ring.last_avail | (ring.used_idx << 16 if self._device.packed else 0)
            self._drop_kick()
            queue.clear()
            stopped(self.base or 0)

        queue.stop_when_idle(idle)

    def reset(self) -> None:
        """Back to the beginning, but for the descriptors of notifications to the front end."""
        self.stop_polling()
        self._drop_kick()
        self.enabled = False
        self.num = 0
        self.base = None
        self.parts = None

    def forget_in_flight(self) -> None:
        """The driver has reset the device: it waits for nothing any more."""
        if self.region is not None:
            self.region.forget()

    def close(self) -> None:
        """The front end has gone: give up what is its own."""
        self.reset()
        self.set_call(None)
        self.set_err(None)

    def _drop_kick(self) -> None:
        if self._kick is not None:
            self._context.unwatch(self._kick)
            os.close(self._kick)
            self._kick = None


def again_numbers(again: Again) -> list[int]:
    """As a trace has it: heads, or for each buffer how many descriptors and what is in them."""
    numbers: list[int] = []
    for each in again:
        if isinstance(each, int):
            numbers.append(each)
        else:
            numbers += [len(each), *(number for descriptor in each for number in descriptor)]
    return numbers


def take_owed(device: VirtioDevice, queue: VirtQueue) -> None:
    """What an earlier back end left in flight lies before the base: it has to be done before the ring may stop."""
    ring = queue.ring
    if isinstance(ring, TrackedSplitRing | TrackedPackedRing) and ring.owed and not device.stopped:
        chains: list[Chain] = []
        try:
            ring.take(ring.owed, sys.maxsize, chains)
        except RingError as error:
            device.ring_broken(queue, error)
        if chains:
            queue.note_taken(chains)
            device.handle(queue, chains)
