"""Trace events: what went into a device and what came out of it.

A component that can be traced has an attribute `trace: Tracer | None`.  While it is None a trace point costs one
comparison; a `Tracer` hands each event to its sinks in order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple


class EventKind(Enum):
    """The device's inputs and outputs, by kind."""

    ACCESS_READ = "access-read"
    ACCESS_WRITE = "access-write"
    FEATURES = "features"
    QUEUE = "queue"
    KICK = "kick"
    RESET = "reset"
    DMA_READ = "dma-read"
    DMA_WRITE = "dma-write"
    REQUEST = "request"
    COMPLETION = "completion"
    INTERRUPT = "interrupt"


class TraceEvent(NamedTuple):
    """One event: `number` counts from 0; `time_ns` is the context's clock; `detail` depends on `kind`.

    | kind | detail |
    |---|---|
    | ACCESS_READ, ACCESS_WRITE | address, size, value |
    | FEATURES | the feature bits that driver and device go on with |
    | QUEUE | queue, size, addresses of descriptor, driver and device area, available and used position to start at |
    | KICK | queue, value written |
    | RESET | queue, or -1 where it is the whole device: it begins |
    | DMA_READ, DMA_WRITE | guest address, bytes |
    | REQUEST | operation name, offset, length |
    | COMPLETION | operation name, offset, length, errno |
    | INTERRUPT | vector or line, level or message data |
    """

    number: int
    time_ns: int
    source: str
    kind: EventKind
    detail: tuple[int | str | bytes, ...]


class Tracer:
    """Numbers events, stamps them with the clock and hands them to every sink.

    Any thread may emit: a sink is called for one event after the other, in order, on the thread where it happened.
    """

    __slots__ = ("_count", "_lock", "_now", "sinks")

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self.sinks: list[Callable[[TraceEvent], None]] = []
        self._now = now_ns
        self._count = 0
        self._lock = threading.RLock()

    def emit(self, source: str, kind: EventKind, *detail: int | str | bytes) -> None:
        """Give one event to the sinks."""
        with self._lock:
            event = TraceEvent(self._count, self._now(), source, kind, detail)
            self._count += 1
            for sink in self.sinks:
                sink(event)
