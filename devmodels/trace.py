"""Trace events: what went into a device and what came out of it.

A component that can be traced has an attribute `trace: Tracer | None`.  While it is None a trace point costs one
comparison; a `Tracer` hands each event to its sinks in order.  `devmodels.tracefile` keeps events in a file;
`devmodels.traceshapes` has what their details are.

Which events are inputs depends on who drives the device.  A machine's are ACCESS_READ, ACCESS_WRITE, DELIVER, SERVING,
SERVED and MACHINE_RESET; a vhost-user front end's are FEATURES, CONFIG_READ, CONFIG_WRITE, AGAIN, QUEUE, ENABLE, MOVED,
KICK, LOOK, STOP, RESET, MIGRATED, DRIVER_RESET and DRIVER_LEFT, which, but for the last three, are what follows from an
access in a machine.  Inputs of both are DEVICE, REMOVED and MEMORY, what comes from below (DONE, the bytes of UPDATE,
SIZE, QUIESCE, SAVED, DISC, ATTENTION), what a user does (MEDIUM, TRAY), RUN_STATE, TIMER, the bytes of each DMA_READ,
and FAULT.  All else is what the device makes of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import NamedTuple


class EventKind(Enum):
    """The device's inputs and outputs, by kind."""

    __hash__ = object.__hash__
    """Each is itself alone; Enum's own, in Python, costs ten times as much where they are keys."""

    DEVICE = "device"
    ACCESS_READ = "access-read"
    ACCESS_VALUE = "access-value"
    ACCESS_WRITE = "access-write"
    MACHINE_RESET = "machine-reset"
    MEMORY = "memory"
    FEATURES = "features"
    CONFIG_READ = "config-read"
    CONFIG_WRITE = "config-write"
    AGAIN = "again"
    QUEUE = "queue"
    ENABLE = "enable"
    MOVED = "moved"
    KICK = "kick"
    LOOK = "look"
    STOP = "stop"
    RESET = "reset"
    DRIVER_RESET = "driver-reset"
    DRIVER_LEFT = "driver-left"
    CHAIN = "chain"
    USED = "used"
    NOTIFY = "notify"
    DMA_READ = "dma-read"
    DMA_WRITE = "dma-write"
    REQUEST = "request"
    DISPATCH = "dispatch"
    UPDATE = "update"
    DONE = "done"
    COMPLETION = "completion"
    SIZE = "size"
    SAVED = "saved"
    MEDIUM = "medium"
    ATTENTION = "attention"
    DISC = "disc"
    TRAY = "tray"
    CLOCK = "clock"
    TIMER = "timer"
    QUIESCE = "quiesce"
    RUN_STATE = "run-state"
    INTERRUPT = "interrupt"
    VIOLATION = "violation"
    TURN = "turn"
    DELIVER = "deliver"
    SERVING = "serving"
    SERVED = "served"
    FAULT = "fault"
    MIGRATED = "migrated"
    REMOVED = "removed"
    NODE_BEGIN = "node-begin"
    NODE_END = "node-end"


NO_DISC, PLAIN_DISC = "", "plain"
"""What DISC says of a drive without a disc, and of one whose blocks are those of its node; tracks are JSON."""

MAX_PAYLOAD = 256 << 20
"""Most bytes that an event can have in a file."""

UNCOMPARED = frozenset({EventKind.NODE_BEGIN, EventKind.NODE_END})
"""Events for people to look at: what goes on below a DISPATCH.  A replay, which has no nodes, does without them."""


class TraceEvent(NamedTuple):
    """One event: `number` counts from 0; `time_ns` is the context's clock; `detail` is as
    `traceshapes.SHAPES` has it.

    `source` is what it happened at: an address space, `machine`, a memory, a device, a unit on a device's bus, the
    backend of either (which has its name), `violations` or `context`.
    """

    number: int
    time_ns: int
    source: str
    kind: EventKind
    detail: tuple[int | str | bytes, ...]


_new = tuple.__new__


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

    def emit(self, source: str, kind: EventKind, *detail: int | str | bytes) -> int:
        """Give one event to the sinks; returns its time in ns."""
        with self._lock:
            now = self._now()
            # As `TraceEvent(...)`, at half its price.
            event = _new(TraceEvent, (self._count, now, source, kind, detail))
            self._count += 1
            for sink in self.sinks:
                sink(event)
        return now

    def give_up(self, reason: str) -> None:
        """What comes next is more than a trace can have: whoever keeps one ends it before that."""

    def put_off(self, callback: Callable[[], None]) -> Callable[[], None]:
        """What does `callback` later, on the context, and tells where nothing came of it.

        A replay does what was put off where the trace has something of it: it must know of each.
        """
        return partial(self._run, callback)

    def _run(self, callback: Callable[[], None]) -> None:
        before = self._count
        callback()
        if self._count == before:
            self.emit("context", EventKind.TURN)
