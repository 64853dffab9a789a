"""A virtqueue on a thread of its own.

The ring, and what is in flight of it, belong to the queue's thread: there buffers are taken, judged and given back.
The control plane - status, set-up, reset, state - belongs to the device's own context, and touches a queue only while
the queue's thread stands still (`VirtioDevice.hold`).  What the thread has to tell the control plane it posts there; by
the time this is heard the driver may have reset the queue, so it counts only for the ring that it came from.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from devmodels.iocontext import Hold, IoContext, IoThread
from devmodels.memory import GuestMemory
from devmodels.virtio.queue import VirtQueue
from devmodels.virtio.ring import Chain, Ring, RingError

if TYPE_CHECKING:
    from devmodels.virtio.device import VirtioDevice


class ThreadedQueue(VirtQueue):
    """A virtqueue that is worked on by `thread`."""

    __slots__ = ("thread",)

    def __init__(self, owner: VirtioDevice, index: int, largest: int, thread: IoThread) -> None:
        super().__init__(owner, index, largest)
        self.thread = thread
        self.context = thread.context
        self.serve = self._post_process

    # --- from the control plane to the thread

    def _post_process(self, _queue: VirtQueue) -> None:
        self.context.post(self._process)

    def _process(self) -> None:
        self.owner.process(self)

    def check_notification(self, position: int) -> None:
        """On the thread, before the buffers are taken that it tells of."""
        self.context.post(partial(super().check_notification, position))

    # --- from the thread to the control plane

    def finish(self, used: Sequence[tuple[Chain, int]]) -> None:
        """As anywhere; WrongContextError on another thread than the queue's."""
        self.context.assert_owner()
        super().finish(used)

    def settle(self) -> None:
        """A reset waits for the last one only."""
        if not self.in_flight:
            self._tell(super().settle)

    def settle_idle(self) -> None:
        """Whoever waits for that is the control plane's."""
        self._tell(super().settle_idle)

    def _tell(self, what: Callable[[], None]) -> None:
        """Have `what`, which looks again at how things are, done by the control plane."""

        def told() -> None:
            with self.owner.hold:
                what()

        self.owner.context.post(told)

    def broken(self, error: RingError) -> None:
        """The thread takes no more; a driver that has reset the queue meanwhile hears nothing of it."""
        self.open = False
        self._tell(partial(self._broken, self.ring, error))

    def _broken(self, ring: Ring | None, error: RingError) -> None:
        if self.ring is ring:
            super().broken(error)

    def notify(self) -> None:
        """Here, where the transport can do it anywhere; else from the control plane's context."""
        owner = self.owner
        if owner.notifies_anywhere:
            owner.notify_used(self.index)
        else:
            owner.context.post(partial(self._notify, self.ring))

    def _notify(self, ring: Ring | None) -> None:
        if self.ring is ring:
            super().notify()


R = TypeVar("R")


class Crossing(Generic[R]):
    """The way of `queue`'s requests from its thread to the context `home`, and back.

    `arrive` is called there with those that were submitted together; `over` here with each that is done.
    """

    __slots__ = ("_arrive", "_back", "_coming", "_home", "_over", "_queue")

    def __init__(
        self,
        queue: VirtQueue,
        home: IoContext,
        arrive: Callable[[Sequence[R]], None],
        over: Callable[[R], None],
    ) -> None:
        self._queue = queue
        self._home = home
        self._arrive = arrive
        self._over = over
        self._back: deque[R] = deque()
        self._coming = False
        """Whether the thread will look at `_back`."""

    def submit(self, requests: Sequence[R]) -> None:
        """On the queue's thread: they are on their way."""
        self._queue.context.assert_owner()
        self._home.post(partial(self._arrive, requests))

    def done(self, request: R) -> None:
        """At home: `request` is over."""
        self._back.append(request)
        if not self._coming:
            self._coming = True
            self._queue.context.post(self._take)

    def _take(self) -> None:
        # First this, then the look: whoever adds does the opposite, so nothing is left lying.
        self._coming = False
        back = self._back
        for _ in range(len(back)):
            self._over(back.popleft())


def queues_on(threads: Sequence[IoThread | None], owner: VirtioDevice, largest: int) -> Iterator[VirtQueue]:
    """The queues of `owner`, each on its thread where it has one; its memory can be reached from there."""
    reach_from_threads(owner.memory, owner.hold)
    for index, thread in enumerate(threads):
        yield (
            VirtQueue(owner, index, largest)
            if thread is None
            else ThreadedQueue(owner, index, largest, thread)
        )


def reach_from_threads(memory: GuestMemory, hold: Hold) -> None:
    """Devices' threads will reach `memory`: it changes only while they stand still.

    ValueError where some of it can only be copied, by functions that belong to one thread.
    """
    if any(region.view is None for region in memory.regions):
        raise ValueError("an iothread needs memory that is shared, and this machine's is reached by copies")
    before = memory.hold.threads if isinstance(memory.hold, Hold) else ()
    memory.hold = Hold((*(thread for thread in before if not thread.closed), *hold.threads))
