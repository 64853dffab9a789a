"""A disk that holds requests back, fails, and knows what of it would outlive a power cut."""

from __future__ import annotations

from devmodels.blockbackend.request import Flags, Op, Request
from devmodels.iocontext import Event, IoContext
from tests.unit.virtio.blkrig import Disk


class FuzzedDisk(Disk):
    """`stable`: what is there if the power goes now, as little as a write-back cache may leave."""

    def __init__(self, context: IoContext, size: int) -> None:
        super().__init__(context, size)
        self.stable = bytearray(self.data)
        self._flushing: list[bytearray] = []
        """What each flush that is under way will have made stable, the oldest first."""
        self._context = context
        self.frozen = False
        self.late = 0
        """Requests that were carried out while `frozen`."""
        self.flushes_itself = False
        """Whether what is above has flushes of its own, which nobody has to wait for."""

    def hold(self) -> None:
        """Requests wait from now on."""
        if self.gate is None:
            self.gate = Event(self._context)

    def release(self) -> None:
        """All that waits goes on."""
        gate, self.gate = self.gate, None
        if gate is not None:
            gate.set()

    async def _enter(self, request: Request) -> None:
        await super()._enter(request)
        if self.frozen and not (self.flushes_itself and request.op is Op.FLUSH):
            self.late += 1

    async def write(self, request: Request) -> None:
        """Into the cache; through it, with FUA."""
        await super().write(request)
        self._through(request)

    async def write_zeroes(self, request: Request) -> None:
        """The same."""
        await super().write_zeroes(request)
        self._through(request)

    def _through(self, request: Request) -> None:
        if request.flags & Flags.FUA:
            part = slice(request.offset, request.offset + request.length)
            for stable in (self.stable, *self._flushing):
                stable[part] = self.data[part]

    async def flush(self, request: Request) -> None:
        """What was written when the flush began is stable when it is over."""
        cached = bytearray(self.data)
        self._flushing.append(cached)
        try:
            await super().flush(request)
            # What is stable stays so when a flush ends that has begun before.
            for each in (self.stable, *self._flushing):
                if each is cached:
                    break
                each[:] = cached
        finally:
            self._flushing = [each for each in self._flushing if each is not cached]
