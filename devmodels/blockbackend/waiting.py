"""What a backend holds back, and why: for the end of a batch, the machine to run on, a drained section, or `done`.

It goes on in order, but neighbours together (see `merge`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING

from devmodels.blockbackend.merge import bring_together, joins, take_run
from devmodels.blockbackend.request import Op, Request

if TYPE_CHECKING:
    from devmodels.blockbackend.listing import Where
    from devmodels.blockbackend.serving import Serving

BATCH, STOPPED, QUIESCED, BUSY = 1, 2, 4, 8
"""Why requests wait (bits of `Waiting.aside`): a batch is gathered, the machine is stopped, the graph is being changed,
a request's `done` has not returned."""

_WRITE = Op.WRITE
"""A name of the module: half the price of an enumeration's member, which counts here."""


class Waiting:
    """`requests` wait while `aside` is not 0; as a context manager it gathers a batch, which nests.

    `out_of_order` says that what had been begun already is behind what came later; `quiesced` is how many drained
    sections there are.
    """

    __slots__ = ("_batches", "_serving", "aside", "out_of_order", "quiesced", "requests")

    def __init__(self, serving: Serving, *, stopped: bool) -> None:
        self._serving = serving
        self.requests: deque[Request] = deque()
        self.aside = STOPPED if stopped else 0
        self.out_of_order = False
        self.quiesced = 0
        self._batches = 0

    def __enter__(self) -> None:
        self._batches += 1
        self.aside |= BATCH

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._batches -= 1
        self.set_aside(BATCH, self._batches > 0)

    @property
    def stopped(self) -> bool:
        """Whether they wait for the machine to run on."""
        return bool(self.aside & STOPPED)

    @property
    def where(self) -> Where:
        """Where those are that wait."""
        if self.aside & STOPPED:
            return "held"
        return "drained" if self.aside & QUIESCED else "batched"

    def set_aside(self, reason: int, on: bool) -> None:
        """There is, or is no longer, a `reason` to wait."""
        if on:
            self.aside |= reason
        else:
            self.aside &= ~reason
            if self.requests:
                self.go_on()

    def quiesce(self, by: int) -> None:
        """There are so many more drained sections, or fewer."""
        self.quiesced += by
        self.set_aside(QUIESCED, self.quiesced > 0)

    def put_back(self, request: Request) -> None:
        """`request` had been begun; it waits again, in its old place."""
        self.requests.append(request)
        self.out_of_order = True

    def put_again(self, requests: Iterable[Request], *, out_of_order: bool) -> None:
        """These waited, in this order, when a recording began."""
        self.requests.extend(requests)
        self.out_of_order = out_of_order

    def take(self, wanted: Callable[[Request], bool] | None) -> list[Request]:
        """What of it is `wanted`, or all: it waits no longer."""
        held: list[Request] = []
        kept: list[Request] = []
        for request in self.requests:
            (held if wanted is None or wanted(request) else kept).append(request)
        self.requests.clear()
        self.requests.extend(kept)
        return held

    def go_on(self) -> None:
        """Begin what waits, in order but neighbours together, until something holds it back again."""
        waiting, serving = self.requests, self._serving
        while waiting and not self.aside:
            self.aside = BUSY
            if self.out_of_order:
                self.out_of_order = False
                among = set(waiting)
                waiting.clear()
                waiting.extend(request for request in serving.in_flight if request in among)
            together = len(waiting) > 1 and bring_together(waiting)
            try:
                # What waits now, in one go, as long as nobody's `done` holds the rest back or throws it away.
                if not together and serving.begin_write is not None:
                    self._begin_writes()
                for _ in range(len(waiting)):
                    if self.aside != BUSY or not waiting:
                        break
                    first = waiting.popleft()
                    if together and waiting and joins(first, waiting[0]):
                        serving.runs.dispatch(
                            take_run(first, waiting, serving.node.size, serving.node.limits)
                        )
                    else:
                        serving.dispatch(first)
            except BaseException:
                serving.context.call_soon(self.go_on)
                raise
            finally:
                self.aside &= ~BUSY

    def _begin_writes(self) -> None:
        """Begin the first of what waits as far as that is plain writes; nobody is told of an end meanwhile."""
        waiting, begun = self.requests, self._serving.begun
        while waiting and waiting[0].op is _WRITE and begun(waiting[0]):
            waiting.popleft()
