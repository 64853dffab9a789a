"""Events in words: a `Describer` follows a trace and says of each event what it is about.

describer = Describer()
for event in reader:
    seen = describer.see(event)
    print(seen.text)
"""

from __future__ import annotations

from devmodels.trace import TraceEvent


class Seen:
    """What is known of an event; read it before the next one is given to the describer."""

    __slots__ = ("event",)

    def __init__(self, event: TraceEvent) -> None:
        self.event = event

    @property
    def text(self) -> str:
        """The event in words, without its number, time, source and kind."""
        return " ".join(str(each) for each in self.event.detail)


class Describer:
    """Follows a trace from its first event; what it keeps is what is in flight."""

    def see(self, event: TraceEvent) -> Seen:
        """Take the next event."""
        return Seen(event)
