"""A trace that is read, with a progress bar where somebody watches."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from io import UnsupportedOperation
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from devmodels.trace import TraceEvent
    from devmodels.tracefile import TraceReader
    from guestsim.progress import TraceBar


class Watched:
    """The events of `reader`, which may be read several times; a bar at stderr is moved with each frame.

    `sources` are whoever emitted them. `over` is true where they were read to the end; `cut`, where the file does not
    end there as it should.
    """

    def __init__(self, reader: TraceReader, bar: TraceBar) -> None:
        self._reader = reader
        self._bar = bar
        self.sources: set[str] = set()
        self.over = False
        self.cut = False

    def __iter__(self) -> Iterator[TraceEvent]:
        for frame in self._reader.frames():
            self.sources.update(event.source for event in frame)
            yield from frame
            self._bar(frame[-1].number)
        self.over = True
        self.cut = self._reader.cut


def writes_a_file() -> bool:
    """Whether stdout is a file: on a terminal, or in a pager, what is printed shows how it goes."""
    try:
        return stat.S_ISREG(os.fstat(sys.stdout.fileno()).st_mode)
    except (OSError, UnsupportedOperation):
        return False
