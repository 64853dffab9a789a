"""Where a replay and its trace part, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from devmodels.trace import TraceEvent


@dataclass(frozen=True, slots=True)
class Difference:
    """At event `number` the device did something else: `expected` is the trace's, None at its end.

    `got` is in words what the device did instead; `inputs` are the last that it was given, the oldest first.  `error`
    is what it raised, if that is what happened.
    """

    number: int
    time_ns: int
    source: str
    expected: TraceEvent
    got: TraceEvent | str
    inputs: Sequence[TraceEvent]
    error: BaseException | None = None
