"""Progress bars, where somebody watches: all of guestsim's."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Self, TypeVar

    T = TypeVar("T")

_SHOW_EVERY = 0.1
"""Seconds."""


class Bar:
    """A bar named `what` that ends at `total`; None is of work whose length is not known, 0 of none.

    It is at standard error unless there is another `console`, and only where that is a terminal and it is to be
    `shown`.  `counted` things are few: how many are done is written as a number.
    """

    def __init__(
        self,
        what: str,
        total: int | None = None,
        *,
        shown: bool = True,
        counted: bool = False,
        console: Console | None = None,
    ) -> None:
        console = console or Console(stderr=True)
        self.shown = shown and console.is_terminal
        text = TextColumn("{task.description}", markup=False)
        columns: tuple[ProgressColumn, ...] = (SpinnerColumn(), text, TimeElapsedColumn())
        if total is not None:
            columns = text, BarColumn(), (MofNCompleteColumn if counted else TaskProgressColumn)()
            columns += (TimeRemainingColumn(),)
        self._bar = Progress(*columns, console=console, transient=True, disable=not self.shown)
        self._task = self._bar.add_task(what, total=total)
        self._next = 0.0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def at(self, done: int) -> None:
        """So much is done; may be called as often as one likes."""
        if self.shown and self._due():
            self._bar.update(self._task, completed=done)

    def more(self, done: int = 1) -> None:
        """So much more is done."""
        self._bar.advance(self._task, done)

    def say(self, what: str) -> None:
        """What is being done; may be called as often as one likes."""
        if self.shown and self._due():
            self._bar.update(self._task, description=what)

    def along(self, things: Iterator[T], position: Callable[[], int]) -> Iterator[T]:
        """The same things; the bar goes on with them to where `position` says."""
        for thing in things:
            yield thing
            if self.shown and self._due():
                self._bar.update(self._task, completed=position())

    def _due(self) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + _SHOW_EVERY
        return True


class TraceBar(Bar):
    """A bar over the events of a trace, which is read `passes` times.

    TraceFileError or OSError where the trace cannot be read, and somebody watches.
    """

    def __init__(self, trace: Path, *, shown: bool = True, passes: int = 1) -> None:
        super().__init__("events", 0, shown=shown)
        self._trace = trace
        self._passes = passes
        self._before = 0
        self._events = 0
        self._last = 0

    def __enter__(self) -> Self:
        if self.shown:
            from devmodels.tracefile import TraceReader

            with TraceReader(self._trace) as reader:
                self._events = reader.count()
            self._bar.update(self._task, total=self._passes * self._events)
        return super().__enter__()

    def __call__(self, number: int) -> None:
        """This event has been reached; a lower number than before begins another pass."""
        if number < self._last:
            self._before += self._events
        self._last = number
        self.at(self._before + number)
