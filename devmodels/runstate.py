"""Whether a machine runs: while it is stopped, its block requests are held back.

The guest itself cannot be stopped from here: its own time-outs run on, and a reset drops what is held.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from devmodels.events import Events


class RunState:
    """Running or stopped, those who want to know, and the events STOP and RESUME.

    `reason` says why it was stopped last, in the words of QMP's RunState ("paused", "io-error", …).
    """

    __slots__ = ("_listeners", "events", "reason", "running")

    def __init__(self, events: Events | None = None) -> None:
        self.running = True
        self.reason = ""
        self.events = Events() if events is None else events
        self._listeners: list[Callable[[bool], None]] = []

    @property
    def status(self) -> str:
        """The `status` of QMP's `query-status`."""
        return "running" if self.running else self.reason

    def add_listener(self, listener: Callable[[bool], None]) -> None:
        """Call `listener(running)` after each change, in the order of addition."""
        self._listeners.append(listener)

    def remove_listener(self, listener: Callable[[bool], None]) -> None:
        """Stop calling `listener`.  Idempotent."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def stop(self, reason: str = "paused") -> None:
        """Stop.  Nothing happens where it is stopped: the first reason counts."""
        if self.running:
            self.reason = reason
            self._change(False)

    def cont(self) -> None:
        """Run on.  Nothing happens where it runs."""
        if not self.running:
            self._change(True)

    def _change(self, running: bool) -> None:
        """What `running` is from now on; the event comes before all that follows from it, new errors above all."""
        self.running = running
        self.events.emit("RESUME" if running else "STOP")
        with ExitStack() as told:
            # Each one, in order, whatever another one raises.
            for listener in reversed(self._listeners):
                told.callback(self._tell, listener, running)

    def _tell(self, listener: Callable[[bool], None], running: bool) -> None:
        """A listener may change the state again; the others then hear only of the newest."""
        if self.running is running:
            listener(running)
