"""Requests straight to a node: through a BlockBackend, without a device or a guest."""

from __future__ import annotations

from functools import partial

from devmodels.blockbackend import BlockBackend, Op, Request
from devmodels.iocontext import Event
from guestsim.blocklog.events import Begin, payload
from guestsim.blocklog.replay import PIECE, Replay, Running


class Direct:
    """Carries a replay out on `backend`, on the clock of its context."""

    def __init__(self, backend: BlockBackend, replay: Replay) -> None:
        self._backend = backend
        self._replay = replay
        self._context = backend.context
        self._wake = Event(backend.context)

    async def play(self) -> None:
        """Do all of it."""
        replay, context, wake = self._replay, self._context, self._wake
        while not replay.over:
            found = replay.step(context.now_ns())
            if isinstance(found, Begin):
                self._go_on(replay.begin(found, context.now_ns()))
                continue
            if replay.over:
                break
            timer = None if found is None else context.call_at(found, wake.set)
            await wake.wait()
            wake.clear()
            if timer is not None:
                timer.cancel()

    def _go_on(self, running: Running) -> None:
        """Submit the request, or its next piece."""
        begin, at = running.begin, running.at
        offset, length, op = begin.offset + at, begin.length - at, begin.op
        if op not in (Op.READ, Op.WRITE) or begin.offset + begin.length > self._backend.size:
            # What is beyond the disk's end is refused as it is.
            self._submit(Request(op, offset, length, (), begin.flags), running, length)
            return
        length = min(length, PIECE)
        data = bytearray(length) if op is Op.READ else payload(begin, at, length)
        self._submit(Request(op, offset, length, [memoryview(data)], begin.flags), running, length)

    def _submit(self, request: Request, running: Running, length: int) -> None:
        request.done = partial(self._done, running, length)
        self._backend.submit(request)

    def _done(self, running: Running, length: int, request: Request) -> None:
        running.error = request.error
        if request.op is Op.READ and not request.error:
            running.read(request.vectors[0])
        else:
            running.at += length
        if not request.error and running.at < running.begin.length:
            self._go_on(running)
            return
        self._replay.end(running, self._context.now_ns())
        self._wake.set()
