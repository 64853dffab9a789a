"""A trace, one line an event."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from devmodels.trace import TraceEvent
from guestsim.show.describe import Describer


def print_events(events: Iterable[TraceEvent]) -> None:
    """Write a line of each event to stdout."""
    describer = Describer()
    start = None
    for event in events:
        start = event.time_ns if start is None else start
        seen = describer.see(event)
        seconds = (event.time_ns - start) / 1e9
        sys.stdout.write(
            f"{event.number:>8} {seconds:>14.9f} {event.source:<12} {event.kind.value:<13} {seen.text}\n"
        )
