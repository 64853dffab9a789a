"""Trace events: what went into a device and what came out of it.

A component that can be traced has an attribute `trace: Tracer | None`.  While it is None a trace point costs one
comparison; a `Tracer` hands each event to its sinks in order.  `devmodels.tracefile` keeps events in a file.

Which events are inputs depends on who drives the device.  A machine's are ACCESS_READ, ACCESS_WRITE and MACHINE_RESET;
a vhost-user front end's are MEMORY, FEATURES, CONFIG_READ, CONFIG_WRITE, AGAIN, QUEUE, ENABLE, MOVED, KICK, LOOK, STOP,
RESET and DRIVER_LEFT, which are what follows from an access in a machine.  Inputs of both are what comes from below
(DONE, SIZE, QUIESCE), RUN_STATE, and the bytes of each DMA_READ.  All else is what the device makes of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import NamedTuple


class EventKind(Enum):
    """The device's inputs and outputs, by kind."""

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
    DRIVER_LEFT = "driver-left"
    CHAIN = "chain"
    USED = "used"
    NOTIFY = "notify"
    DMA_READ = "dma-read"
    DMA_WRITE = "dma-write"
    REQUEST = "request"
    DISPATCH = "dispatch"
    DONE = "done"
    COMPLETION = "completion"
    SIZE = "size"
    QUIESCE = "quiesce"
    RUN_STATE = "run-state"
    INTERRUPT = "interrupt"
    VIOLATION = "violation"
    TURN = "turn"
    NODE_BEGIN = "node-begin"
    NODE_END = "node-end"


UNCOMPARED = frozenset({EventKind.NODE_BEGIN, EventKind.NODE_END})
"""Events for people to look at: what goes on below a DISPATCH.  A replay, which has no nodes, does without them."""


class TraceEvent(NamedTuple):
    """One event: `number` counts from 0; `time_ns` is the context's clock; `detail` depends on `kind`.

    `source` is what it happened at: an address space, `machine`, `memory`, a device, a device's backend (which has the
    device's name), `violations` or `context`.

    | kind | detail |
    |---|---|
    | DEVICE | what it is, as JSON (`tracefile.DeviceFacts`): it is recorded from now on |
    | ACCESS_READ | address, size: it begins |
    | ACCESS_VALUE | address, size, value: the read has ended |
    | ACCESS_WRITE | address, size, value: it begins |
    | MACHINE_RESET | nothing |
    | MEMORY | base, size, whether it is read-only, of each region: what there is from now on |
    | FEATURES | the feature bits that driver and device go on with |
    | CONFIG_READ, CONFIG_WRITE | offset in the device configuration space, bytes |
    | AGAIN | queue, heads that an earlier back end left in flight, to be taken again; of a packed ring's buffers how \
many descriptors, then address, length, id, flags of each |
    | QUEUE | queue, size, addresses of descriptor, driver and device area, available and used position to start at |
    | ENABLE | queue, whether buffers are taken from it |
    | MOVED | queue, new addresses of descriptor, driver and device area |
    | KICK | queue, value written, -1 where it carries nothing more |
    | LOOK | queue: it is looked at without a notification |
    | STOP | queue: it takes no more buffers, and rests when all have been given back |
    | RESET | queue, or -1 where it is the whole device: it begins |
    | DRIVER_LEFT | nothing |
    | CHAIN | queue, head, how many pieces are device-readable, then address, length of each piece: a buffer is taken |
    | USED | queue, head, bytes written: a buffer is given back |
    | NOTIFY | queue, or -1 for a configuration change: the driver is notified |
    | DMA_READ, DMA_WRITE | guest address, bytes |
    | REQUEST | number (from 0, for each backend), operation name, offset, length, queue, head: a device submits it |
    | DISPATCH | number (from 0, for each backend), operation name, offset, length, flags, the numbers of the requests \
that it serves: it goes to the node |
    | DONE | number of the dispatch, errno, the bytes that a read has got |
    | COMPLETION | number of the request, errno: the device is told |
    | SIZE | the disk's size in bytes, whether it can unmap: both may be new |
    | QUIESCE | 1: requests wait from now on; 0: they go on (calls nest) |
    | RUN_STATE | whether the machine runs |
    | INTERRUPT | vector or line, level or message data |
    | VIOLATION | clause, place, what happened, the bytes concerned |
    | TURN | nothing: what a device had put off to the context's next turn was done, and nothing came of it |
    | NODE_BEGIN | step (a number of its own), the dispatch that it serves, the step above or -1, node name, driver, \
operation name, offset, length, flags: a request comes to a node |
    | NODE_END | step, errno: the node has done it |
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
