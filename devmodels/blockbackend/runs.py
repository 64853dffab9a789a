"""Neighbours that a node serves by one request; where that fails, one by one, so that only the right ones fail."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from devmodels.blockbackend.request import DerivedRequest, Flags, Op, Request
from devmodels.iocontext import Cancelled

if TYPE_CHECKING:
    from devmodels.blockbackend.serving import Serving

_WRITE, _NO_FLAGS = Op.WRITE, Flags.NONE


def whole_of(run: list[Request]) -> DerivedRequest:
    """One request for neighbours."""
    first = run[0]
    length = sum([request.length for request in run])
    vectors = [vector for request in run for vector in request.vectors]
    whole = first.derive(first.offset, length, vectors)
    whole.behalf = run
    return whole


class Runs:
    """The runs of neighbours among a backend's requests (see `merge`)."""

    __slots__ = ("_serving",)

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    def dispatch(self, run: list[Request]) -> None:
        """Serve `run` by one request of the node, if it has several."""
        if len(run) == 1:
            self._serving.dispatch(run[0])
        elif self._begun(run):
            pass
        elif self._serving.context.start(self.merged(run)) is not None and self._serving.trace is not None:
            self._serving.told.later.update(run)

    def _begun(self, run: list[Request]) -> bool:
        """Whether a write of neighbours needs no coroutine and has begun."""
        first, begin = run[0], self._serving.begin_write
        if begin is None or first.op is not _WRITE or first.flags is not _NO_FLAGS:
            return False
        whole = whole_of(run)
        try:
            return begin(whole.offset, whole.vectors, whole.length, whole, self._written_as_one)
        except Exception as error:
            self._serving.context.call_soon(partial(self._one_by_one, run, error))
            return True

    def _written_as_one(self, whole: Request, error: BaseException | None) -> None:
        """The write of neighbours that needed no coroutine is over."""
        if TYPE_CHECKING:
            assert isinstance(whole, DerivedRequest)
        run = whole.behalf
        if error is not None:
            self._one_by_one(run, error)
            return
        self._serving.stats.account_merged(_WRITE, len(run) - 1)
        for request in run:
            self._serving.written(request, None)

    async def merged(self, run: list[Request]) -> None:
        """Serve neighbours by one request; where that fails, one by one, so that only the right ones fail."""
        op = run[0].op
        try:
            await self._serving.handlers[op](whole_of(run))
        except (Exception, Cancelled) as error:
            self._one_by_one(run, error)
        else:
            self._serving.stats.account_merged(op, len(run) - 1)
            for request in run:
                self._serving.complete(request, 0)

    def _one_by_one(self, run: Sequence[Request], error: BaseException) -> None:
        """What became of neighbours that failed together, with `error`."""
        cancelled = isinstance(error, OSError) and error.errno == errno.ECANCELED
        for request in run:
            if cancelled:
                self._serving.complete(request, errno.ECANCELED)
            elif self._serving.waiting.stopped:
                self._serving.put_back(request)
            else:
                self._serving.dispatch(request)
