"""A virtio block device whose queues are worked on by threads of their own.

    queue's thread      doorbell → ring → header, data mapped →╮       ╭→ status byte → ring → interrupt
    backend's context                                          ╰→ submit … done ╯

What came together crosses together, in both directions, in one message.  The block layer is one context's alone: there
limits of throttling are kept, neighbours merged, requests held, and everything counted, as without threads.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Unpack

from devmodels.blockbackend.backend import BlockBackend
from devmodels.blockbackend.request import Op, Request
from devmodels.iocontext import IoThread
from devmodels.virtio.devicetype import Surroundings
from devmodels.virtio.queue import VirtQueue
from devmodels.virtio.ring import Chain
from devmodels.virtio.threaded import Crossing
from devmodels.virtio_blk.config import VirtioBlkOptions
from devmodels.virtio_blk.device import VirtioBlk
from devmodels.virtio_blk.request import BlkRequest


class ThreadedVirtioBlk(VirtioBlk):
    """A virtio block device with a thread for each queue, or one for several."""

    def __init__(
        self,
        backend: BlockBackend,
        options: VirtioBlkOptions,
        threads: Sequence[IoThread],
        **surroundings: Unpack[Surroundings],
    ) -> None:
        super().__init__(
            backend,
            options,
            threads=threads,
            **surroundings,
        )
        over = super().io_done
        home = backend.context
        self._crossings: list[Crossing[Request]] = [
            Crossing(queue, home, partial(self._arrive, queue), over) for queue in self.queues
        ]

    def handle(self, queue: VirtQueue, chains: Sequence[Chain]) -> None:
        """Make requests of them here, and have them submitted there.

        No read is done here, be its data at hand or not: who runs on the node, what it holds back and what is counted
        is for the backend's context to know.
        """
        self.submit(queue, self._parse(queue, chains))

    def submit(self, queue: VirtQueue, starting: Sequence[Request]) -> None:
        """They are on their way there."""
        if starting:
            self._crossings[queue.index].submit(starting)

    def _arrive(self, queue: VirtQueue, requests: Sequence[Request]) -> None:
        """On the backend's context: they are submitted together."""
        backend = self.backend
        if queue.resetting or self.resetting:
            # What the reset threw away of the backend did not yet hold these.
            for each in requests:
                each.error = errno.ECANCELED
                if each.done is not None:
                    each.done(each)
        elif len(requests) > 1 and self.options.request_merging:
            with backend.batch():
                for each in requests:
                    backend.submit(each)
        else:
            for each in requests:
                backend.submit(each)

    def io_done(self, request: Request) -> None:
        """A request is over: its queue's thread is told."""
        if TYPE_CHECKING:
            assert isinstance(request, BlkRequest)
        self._crossings[request.queue.index].done(request)

    def _account_invalid(self, op: Op) -> None:
        self.backend.context.post(partial(self.backend.account_invalid, op))
