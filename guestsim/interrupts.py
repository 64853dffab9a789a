"""The guest's interrupt controller: messages (MSI, MSI-X) by vector, PCI's INTx lines,
and the inputs of devices outside PCI.

A handler runs when the guest looks (`poll`), between two steps of its vCPUs: an interrupt never comes in the middle
of a driver's work.  Handlers are plain functions and may not wait.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from guestsim.errors import GuestError

if TYPE_CHECKING:
    from guestsim.targets import Target

VECTORS = 2048

Handler = Callable[[], None]
LineHandler = Callable[[], bool]
"""Quiets its device and returns whether the device had asked for anything."""


class InterruptController:
    """Vectors and lines of one guest, and what arrived on them.

    `counts` numbers the messages of each vector in use; `stray` those of vectors that nobody has (a device that
    interrupts after it was reset).
    """

    __slots__ = ("_arrived", "_handlers", "_irqs", "_lines", "_target", "_watched", "counts", "stray")

    def __init__(self, target: Target) -> None:
        self._target = target
        self._handlers: dict[int, Handler] = {}
        self._arrived: Counter[int] = Counter()
        self._watched = False
        self._lines: dict[tuple[int, int], list[LineHandler]] = {}
        self._irqs: dict[int, LineHandler] = {}
        self.counts: Counter[int] = Counter()
        self.stray: Counter[int] = Counter()

    def allocate(self, handler: Handler, name: str) -> int:
        """A vector of the guest's whose messages call `handler`; GuestError, for `name`, where none is left."""
        for vector in range(VECTORS):
            if vector not in self._handlers:
                self._handlers[vector] = handler
                self._watched = True
                self.counts[vector] = 0
                return vector
        raise GuestError(f"no interrupt vector is left for {name}")

    def free(self, vector: int) -> None:
        """Give a vector back, what has arrived on it forgotten; messages that still come are strays."""
        del self._handlers[vector]
        self._take()
        self._arrived.pop(vector, None)

    def _take(self) -> None:
        for vector, number in self._target.take_messages().items():
            self._arrived[vector] += number

    def message(self, vector: int) -> tuple[int, int]:
        """The (address, data) to be programmed into an MSI or MSI-X entry."""
        return self._target.message(vector)

    def connect(self, slot: int, pin: int, handler: LineHandler) -> None:
        """Have `handler` called while the line of PCI slot `slot`, pin `pin` (1 = INTA#) is asserted."""
        self._lines.setdefault((slot, pin), []).append(handler)

    def disconnect(self, slot: int, pin: int, handler: LineHandler) -> None:
        """No longer call `handler`."""
        handlers = self._lines[slot, pin]
        handlers.remove(handler)
        if not handlers:
            del self._lines[slot, pin]

    def connect_irq(self, irq: int, handler: LineHandler) -> None:
        """Have `handler` called while interrupt input `irq`, of a device outside PCI, is asserted."""
        if irq in self._irqs:
            raise GuestError(f"interrupt {irq} has a handler already")
        self._irqs[irq] = handler

    def disconnect_irq(self, irq: int) -> None:
        """No longer call the handler of interrupt input `irq`."""
        del self._irqs[irq]

    def poll(self) -> bool:
        """Serve everything that has arrived, once; False where there was nothing."""
        served = False
        if self._watched:
            self._take()
        if self._arrived:
            arrived, self._arrived = self._arrived, Counter()
            for vector, number in arrived.items():
                served = True
                handler = self._handlers.get(vector)
                if handler is None:
                    self.stray[vector] += number
                else:
                    self.counts[vector] += number
                    handler()
        for (slot, pin), handlers in tuple(self._lines.items()):
            if self._target.intx_level(slot, pin):
                for line_handler in tuple(handlers):
                    served = line_handler() or served
        for irq, line_handler in tuple(self._irqs.items()):
            if self._target.irq_level(irq):
                served = line_handler() or served
        return served
