"""Where a replay and its trace part, in words."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from devmodels.trace import TraceEvent
from devmodels.tracefile import TraceFileError, TraceReader
from guestsim.show.describe import Describer

SHOWN = 8
"""How many of the last inputs are told, and how many events that came after them."""


@dataclass(frozen=True, slots=True, repr=False)
class Difference:
    """In place of the event `expected` of the trace in file `trace` the device did something else.

    `got` is what it did, or says it; `inputs` are the last that it was given, the oldest first.  `error` is what it
    raised, if that is what happened.
    """

    trace: Path
    expected: TraceEvent
    got: TraceEvent | str
    inputs: Sequence[TraceEvent]
    error: Exception | None = None

    @property
    def number(self) -> int:
        """The number of the event that did not come."""
        return self.expected.number

    @property
    def time_ns(self) -> int:
        """When it should have come, by the recording's clock."""
        return self.expected.time_ns

    @property
    def source(self) -> str:
        """Where it should have happened."""
        return self.expected.source

    def __str__(self) -> str:
        return "\n".join(self.words().lines())

    __repr__ = __str__

    def words(self) -> DifferenceWords:
        """All of it in words; reads the trace up to there, for what its events are about."""
        wanted = {event.number for event in self.inputs}
        inputs: list[str] = []
        since: deque[str] = deque(maxlen=SHOWN)
        describer, other = Describer(), Describer()
        start_ns = None
        try:
            with TraceReader(self.trace) as reader:
                for event in reader:
                    if event.number == self.number:
                        break
                    start_ns = event.time_ns if start_ns is None else start_ns
                    seen = describer.see(event)
                    other.see(event)
                    if event.number in wanted:
                        inputs.append(_line(event, seen.text, start_ns))
                        since.clear()
                    elif self.number - event.number <= SHOWN:
                        since.append(_line(event, seen.text, start_ns))
        except (OSError, TraceFileError):
            # It has been read once; now it is another one, or gone.
            inputs = [_line(event, "", event.time_ns) for event in self.inputs]
        start_ns = self.time_ns if start_ns is None else start_ns
        got = self.got
        if isinstance(got, TraceEvent):
            got = _short(got, other.see(got).text)
        expected = _short(self.expected, describer.see(self.expected).text)
        return DifferenceWords(
            self.number, self.time_ns - start_ns, self.source, expected, got, inputs, list(since)
        )


@dataclass(frozen=True, slots=True)
class DifferenceWords:
    """A difference in words: at event `number`, `time_ns` after the trace's first; `since` is what came after the last
    of the `inputs`, at most `SHOWN` of it."""

    number: int
    time_ns: int
    source: str
    expected: str
    got: str
    inputs: Sequence[str]
    since: Sequence[str]

    def lines(self) -> list[str]:
        """For people."""
        return [
            f"DIFFERENCE at event {self.number}, {self.time_ns / 1e9:.6f} s, {self.source}",
            f"  expected: {self.expected}",
            f"  got:      {self.got}",
            "the last inputs before it:",
            *(f"  {line}" for line in self.inputs),
            *(["what came after the last of them:"] if self.since else []),
            *(f"  {line}" for line in self.since),
        ]


def _short(event: TraceEvent, text: str) -> str:
    return f"{event.source} {event.kind.value}  {text}".rstrip()


def _line(event: TraceEvent, text: str, start_ns: int) -> str:
    return f"{event.number:>8} {(event.time_ns - start_ns) / 1e9:>13.6f} {_short(event, text)}"
