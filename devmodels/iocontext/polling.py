"""Busy polling: looking for work for a while before going to sleep, as long as it pays."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

FIRST_SPIN_NS = 4_000
MAX_SKIP = 1024
"""At most so many waits go by without a spin before one is tried again."""


class Poller(Protocol):
    """A source of work that can be watched by looking (a ring's available index)."""

    def begin(self) -> None:
        """Looking starts: the other side need not notify any more."""
        ...

    def poll(self) -> bool:
        """Look once, do what is there; True where there was something."""
        ...

    def end(self) -> bool:
        """Looking ends: ask for notifications again, then look once more (True where there was something)."""
        ...


class BusyPolling:
    """The pollers of one context and how long looking at them has paid lately.

    `max_ns` bounds one spin; 0 switches polling off.  Between `begin` and `end` of its pollers a spin follows the
    other as long as each finds something.

    A wait that ends by a wake-up says little of how long a spin would have had to be, since waking up takes its time
    too.  So a spin of full length is tried now and then, ever more seldom as long as it finds nothing.
    """

    __slots__ = ("_active", "_failures", "_pollers", "_skip", "_spin_ns", "max_ns")

    def __init__(self) -> None:
        self.max_ns = 0
        self._pollers: list[Poller] = []
        self._spin_ns = 0
        self._active = False
        self._failures = 0
        self._skip = 1

    @property
    def enabled(self) -> bool:
        """Whether there is anything to look at."""
        return bool(self._pollers and self.max_ns) or self._active

    def add(self, poller: Poller) -> None:
        """Look at `poller` too."""
        self._pollers.append(poller)
        if self._active:
            poller.begin()

    def remove(self, poller: Poller) -> None:
        """Stop looking at `poller`.  Idempotent."""
        if poller in self._pollers:
            self._pollers.remove(poller)
            if self._active:
                poller.end()

    def spin(self, until: int | None, posted: deque[Callable[[], None]]) -> bool:
        """Look for as long as it is thought to pay, at most until the monotonic clock says `until`.

        True where something was found or posted.  When it returns False the pollers have asked for notifications.
        """
        if self._spin_ns and self._pollers:
            if not self._active:
                self._active = True
                for poller in self._pollers:
                    poller.begin()
            end = time.monotonic_ns() + self._spin_ns
            if self._look(end if until is None else min(end, until), posted):
                self._failures = 0
                return True
        return self.stop()

    def stop(self) -> bool:
        """The pollers ask for notifications again, where they have not; True where one of them found something."""
        if not self._active:
            return False
        self._active = False
        found = False
        for poller in self._pollers:
            found = poller.end() or found
        return found

    def _look(self, end: int, posted: deque[Callable[[], None]]) -> bool:
        polls = [poller.poll for poller in self._pollers]
        now = time.monotonic_ns
        while True:
            for poll in polls:
                if poll():
                    return True
            if posted:
                return True
            if now() >= end:
                return False

    def learn(self, waited_ns: int) -> None:
        """`waited_ns`: how long it was until something woke the context, spin included.

        Spin longer next time where that would have caught the event, not at all where the longest spin would not have;
        and try it again after a while.
        """
        if waited_ns <= self.max_ns:
            if waited_ns > self._spin_ns:
                self._spin_ns = min(self.max_ns, max(FIRST_SPIN_NS, self._spin_ns * 2))
        elif self._spin_ns:
            self._spin_ns = 0
            self._skip = min(1 << self._failures, MAX_SKIP)
            self._failures += 1
        elif self._skip:
            self._skip -= 1
        else:
            self._spin_ns = self.max_ns
