"""Whether a machine runs: while it is stopped, its block requests are held back.

In process the scripted guest stops too.  A guest outside cannot be stopped from here: its own time-outs run on, and
a reset drops what is held.
"""

from __future__ import annotations

from collections.abc import Callable


class RunState:
    """Running or stopped, and those who want to know.

    `reason` says why it was stopped last ("paused", "io-error", …, in the words of QMP's `query-status`).
    """

    __slots__ = ("_listeners", "reason", "running")

    def __init__(self) -> None:
        self.running = True
        self.reason = ""
        self._listeners: list[Callable[[bool], None]] = []

    def add_listener(self, listener: Callable[[bool], None]) -> None:
        """Call `listener(running)` after each change, in the order of addition."""
        self._listeners.append(listener)

    def remove_listener(self, listener: Callable[[bool], None]) -> None:
        """Stop calling `listener`.  Idempotent."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def stop(self, reason: str = "paused") -> None:
        """Stop.  Where it is stopped already only the reason changes."""
        self.reason = reason
        self._change(False)

    def cont(self) -> None:
        """Run on.  Nothing happens where it runs."""
        self._change(True)

    def _change(self, running: bool) -> None:
        if running is self.running:
            return
        self.running = running
        for listener in list(self._listeners):
            # A listener may change the state again; the others then hear only of the newest.
            if self.running is running:
                listener(running)
