"""A virtio SCSI host device whose request queues are worked on by threads of their own.

    queue's thread      doorbell → ring → header, data mapped →╮                          ╭→ response → ring → interrupt
    the units' context                                         ╰→ unit, task set … finish ╯

What came together crosses together.  Units, with the order of their tasks, their conditions and reservations, belong to
one context, as do task management and events: there is nothing that two threads could see differently.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Unpack

from devmodels.iocontext import IoContext, IoThread
from devmodels.scsi import Outcome, Task
from devmodels.scsi.task import Countdown
from devmodels.virtio.devicetype import Surroundings
from devmodels.virtio.queue import VirtQueue
from devmodels.virtio.ring import Chain
from devmodels.virtio.threaded import Crossing
from devmodels.virtio_scsi.config import VirtioScsiOptions
from devmodels.virtio_scsi.device import VirtioScsi
from devmodels.virtio_scsi.layout import FIRST_REQUEST_QUEUE
from devmodels.virtio_scsi.request import ScsiRequest


class ThreadedVirtioScsi(VirtioScsi):
    """A virtio SCSI host device with a thread for each request queue, or one for several."""

    def __init__(
        self,
        options: VirtioScsiOptions,
        threads: Sequence[IoThread],
        **surroundings: Unpack[Surroundings],
    ) -> None:
        super().__init__(
            options,
            threads=threads,
            **surroundings,
        )
        over = super().done
        self._crossings: dict[int, Crossing[ScsiRequest]] = {
            queue.index: Crossing(queue, self.context, partial(self._arrive, queue), over)
            for queue in self.queues[FIRST_REQUEST_QUEUE:]
        }

    def handle(self, queue: VirtQueue, chains: Sequence[Chain]) -> None:
        """Make tasks of commands here, and have them started there."""
        crossing = self._crossings.get(queue.index)
        if crossing is None:
            super().handle(queue, chains)
            return
        requests = [
            each for each in map(partial(self.frame, queue), chains) if each is not None and self.map(each)
        ]
        if requests:
            crossing.submit(requests)

    def _arrive(self, queue: VirtQueue, requests: Sequence[ScsiRequest]) -> None:
        """At home: they are started."""
        if queue.resetting or self.resetting:
            # What the reset ended did not yet include these.
            for each in requests:
                each.outcome = Outcome.RESET
                each.done(each)
        else:
            found = [each for each in requests if self.find(each)]
            self.start(found, together=len(found) > 1)

    def done(self, task: Task) -> None:
        """A task is over: its queue's thread is told."""
        if TYPE_CHECKING:
            assert isinstance(task, ScsiRequest)
        self._crossings[task.queue.index].done(task)

    def when_taken(self, then: Callable[[], None]) -> None:
        """Let the threads take the commands that are available, and call `then` when these have arrived."""
        self._on_all_threads(self.process, then)

    def when_shown(self, then: Callable[[], None]) -> None:
        """Let the threads show what has ended, and call `then` when they have."""
        self._on_all_threads(_show, then)

    def _on_all_threads(self, do: Callable[[VirtQueue], None], then: Callable[[], None]) -> None:
        """Do this to each request queue on its thread, behind whatever was on its way there; then call `then` here."""
        by_context: dict[IoContext, list[VirtQueue]] = {}
        for queue in self.queues[FIRST_REQUEST_QUEUE:]:
            by_context.setdefault(queue.context, []).append(queue)
        left = Countdown(len(by_context), then)
        for context, queues in by_context.items():
            context.post(partial(self._on_thread, do, queues, left))

    def _on_thread(
        self, do: Callable[[VirtQueue], None], queues: Sequence[VirtQueue], left: Countdown
    ) -> None:
        for queue in queues:
            do(queue)
        self.context.post(left.one)


def _show(queue: VirtQueue) -> None:
    if queue.flush_due:
        queue.flush()
