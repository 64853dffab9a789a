"""A trace for ui.perfetto.dev, in the JSON that is also chrome://tracing's.

    a process for each device: its queues' slots with the requests, its notifications, queue depths, its disk
    a process for the machine: interrupts

A buffer takes the lowest slot of its queue that is free, so that slices of one track never overlap but by nesting.
Times are microseconds since the trace's first event.  Document: "Trace Event Format" of the Catapult project.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec
import typer

from devmodels.trace import EventKind, TraceEvent
from devmodels.tracefile import TraceReader
from guestsim.life import Life
from guestsim.progress import TraceBar
from guestsim.show import names
from guestsim.show.describe import Describer
from guestsim.show.filters import QueryError
from guestsim.show.possible import is_possible
from guestsim.show.progress import Watched
from guestsim.show.requests import row, told
from guestsim.story import lives

if TYPE_CHECKING:
    from guestsim.show.words import Seen

_MOMENT_NS = 500
"""How long what has no length is drawn: a flow begins and ends in a slice."""
_MACHINE = "machine"
_PHASES = {
    "submitted": "read",
    "dispatched": "waits",
    "done": "on the disk",
    "completed": "completes",
    "used": "given back",
}
"""What goes on until each station of a request, while the device has it."""

Event = dict[str, object]


class PerfettoWriter:
    """Writes a trace as JSON into `file`, as it is read; what it keeps is what is in flight."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._encode = msgspec.json.Encoder().encode
        self._written = 0
        self._processes: dict[str, int] = {}
        self._threads: dict[tuple[int, str], int] = {}
        self._slots: dict[tuple[str, int], _Slots] = {}
        self._had: dict[int, tuple[int, int]] = {}
        """Slot and end of the buffers that are to be written, by their number."""
        self._until: dict[int, int] = {}
        """When the last moment of a track ends."""
        self._tracks: dict[tuple[int, str], list[tuple[int, str]]] = {}
        """What is open on the disk's tracks: (step, name) of each, the outermost first."""
        self._at: dict[tuple[int, str, int], str] = {}
        """On which of these tracks a dispatch or a step is."""
        self._idents = 0
        self._describer = Describer()
        self._start_ns: int | None = None
        self._last_ns = 0

    def write(self, events: Iterable[TraceEvent], **about: object) -> None:
        """Write all of a trace; `about` are facts of it."""
        self._file.write(b'{"displayTimeUnit":"ns","otherData":' + self._encode(about) + b',"traceEvents":[')
        for life in told(self._placed(lives(self._seen(events), self._taken))):
            self._life(life)
        self._close()
        self._file.write(b"\n]}\n")

    # --- output

    def _put(self, phase: str, process: int, at_ns: int, **more: object) -> None:
        """Write an event; `ts` and `dur` are microseconds."""
        event: Event = {"ph": phase, "pid": process, "ts": self._microseconds(at_ns), **more}
        self._file.write((b",\n" if self._written else b"\n") + self._encode(event))
        self._written += 1

    def _microseconds(self, at_ns: int) -> float:
        return (at_ns - (self._start_ns or 0)) / 1000

    def _process(self, name: str) -> int:
        process = self._processes.get(name)
        if process is None:
            process = self._processes[name] = len(self._processes) + 1
            start = self._start_ns or 0
            self._put("M", process, start, name="process_name", args={"name": name})
            self._put("M", process, start, name="process_sort_index", args={"sort_index": process})
        return process

    def _thread(self, process: int, name: str, order: int) -> int:
        """The track of this name; `order` is where it stands among those of its process."""
        thread = self._threads.get((process, name))
        if thread is None:
            thread = self._threads[process, name] = len(self._threads) + 1
            start = self._start_ns or 0
            self._put("M", process, start, tid=thread, name="thread_name", args={"name": name})
            self._put("M", process, start, tid=thread, name="thread_sort_index", args={"sort_index": order})
        return thread

    def _events(self, process: int) -> int:
        """The track of what happens to a device as a whole."""
        return self._thread(process, "events", 0)

    # --- events as they come

    def _seen(self, events: Iterable[TraceEvent]) -> Iterator[TraceEvent]:
        """The events that can be taken apart, each drawn, where it is something by itself."""
        for event in events:
            if self._start_ns is None:
                self._start_ns = event.time_ns
            self._last_ns = event.time_ns
            seen = self._describer.see(event)
            if is_possible(event):
                self._draw(seen)
                yield event

    def _draw(self, seen: Seen) -> None:
        event = seen.event
        kind = event.kind
        if kind is EventKind.KICK:
            self._moment(event.source, _kicks(seen.queue), _order(seen.queue, _KICKS), seen)
        elif kind is EventKind.NOTIFY:
            self._moment(event.source, _notices(seen.queue), _order(seen.queue, _NOTICES), seen)
        elif kind is EventKind.INTERRUPT:
            self._moment(_MACHINE, "interrupts", 0, seen)
        elif kind is EventKind.DISPATCH:
            self._dispatch(seen)
        elif kind is EventKind.DONE:
            self._done(seen)
        elif kind is EventKind.NODE_BEGIN:
            self._node_begin(seen)
        elif kind is EventKind.NODE_END:
            self._node_end(seen)
        elif kind in _INSTANTS:
            self._instant(seen)

    def _instant(self, seen: Seen) -> None:
        event = seen.event
        process = self._process(seen.device or event.source)
        thread = self._events(process)
        about = {"what": seen.text, "event": event.number}
        name = event.kind.value
        self._put("i", process, event.time_ns, tid=thread, s="t", name=name, cat=name, args=about)

    def _moment(self, source: str, track: str, order: int, seen: Seen) -> None:
        """A slice of no length worth speaking of."""
        event = seen.event
        process = self._process(source)
        thread = self._thread(process, track, order)
        about = {"what": seen.text, "event": event.number}
        begin = event.time_ns
        until = self._until.get(thread, begin)
        # One that comes within the one before is drawn inside of it.
        end = until if begin < until else begin + _MOMENT_NS
        self._until[thread] = end
        self._slice(process, thread, event.kind.value, event.kind.value, begin, end, about)

    # --- the disk

    def _begin(self, process: int, ident: str, step: int, name: str, seen: Seen) -> None:
        """Something begins on the disk's track `ident`, within what has begun there."""
        event = seen.event
        about = {"what": seen.text, "event": event.number, "requests": list(seen.requests)}
        track = {"tid": self._events(process), "id2": {"local": ident}, "name": name, "cat": "disk"}
        self._put("b", process, event.time_ns, **track, args=about)
        self._tracks.setdefault((process, ident), []).append((step, name))

    def _end(self, process: int, ident: str, step: int, at_ns: int) -> None:
        """It ends, and with it what is still open in it."""
        begun = self._tracks.get((process, ident), [])
        if not any(each == step for each, _ in begun):
            return
        while begun:
            each, name = begun.pop()
            track = {"tid": self._events(process), "id2": {"local": ident}, "name": name, "cat": "disk"}
            self._put("e", process, at_ns, **track)
            if each == step:
                break
        if not begun:
            del self._tracks[process, ident]

    def _dispatch(self, seen: Seen) -> None:
        number, op = int(seen.event.detail[0]), str(seen.event.detail[1])
        process = self._process(seen.event.source)
        self._idents += 1
        ident = self._at[process, "dispatch", number] = hex(self._idents)
        self._begin(process, ident, _DISPATCH, op, seen)

    def _done(self, seen: Seen) -> None:
        process = self._process(seen.event.source)
        ident = self._at.pop((process, "dispatch", int(seen.event.detail[0])), None)
        if ident is not None:
            self._end(process, ident, _DISPATCH, seen.event.time_ns)

    def _node_begin(self, seen: Seen) -> None:
        """A node's part of it: on the track of what is above, or on one of its own where that has another one open."""
        step, dispatch, above, node, _, op, *_ = seen.event.detail
        process = self._process(seen.event.source)
        over = int(above)
        ident = self._at.get((process, "step", over) if over >= 0 else (process, "dispatch", int(dispatch)))
        begun = self._tracks.get((process, ident)) if ident is not None else None
        if ident is None or not begun or begun[-1][0] != (over if over >= 0 else _DISPATCH):
            self._idents += 1
            ident = hex(self._idents)
        self._at[process, "step", int(step)] = ident
        self._begin(process, ident, int(step), f"{node!s}: {op!s}", seen)

    def _node_end(self, seen: Seen) -> None:
        process = self._process(seen.event.source)
        step = int(seen.event.detail[0])
        ident = self._at.pop((process, "step", step), None)
        if ident is not None:
            self._end(process, ident, step, seen.event.time_ns)

    def _close(self) -> None:
        """The trace has ended: so has what is open."""
        for process, ident in list(self._tracks):
            self._end(process, ident, self._tracks[process, ident][0][0], self._last_ns)

    # --- requests

    def _taken(self, life: Life) -> None:
        slots = self._slots.get((life.device, life.queue))
        if slots is None:
            slots = self._slots[life.device, life.queue] = _Slots()
        slots.take(life)
        self._depth(life, life.taken.time_ns, slots)

    def _placed(self, ended: Iterable[Life]) -> Iterator[Life]:
        """Lives as they end: their slots are free again."""
        for life in ended:
            slots = self._slots[life.device, life.queue]
            self._had[life.number] = slots.give_back(life), self._last_ns
            self._depth(life, self._last_ns, slots)
            yield life

    def _depth(self, life: Life, at_ns: int, slots: _Slots) -> None:
        """How many buffers of a queue the device has."""
        process = self._process(life.device)
        about = {"buffers": slots.depth}
        self._put(
            "C", process, at_ns, tid=self._events(process), name=f"queue {life.queue} depth", args=about
        )

    def _life(self, life: Life) -> None:
        """A request: a slice with its stations in it, and the flow from its notification to its interrupt."""
        process = self._process(life.device)
        slot, end = self._had.pop(life.number)
        thread = self._thread(process, f"queue {life.queue} slot {slot}", _order(life.queue, _SLOTS + slot))
        about = row(life)
        begin = life.taken.time_ns
        facts = {
            "request": life.number,
            "head": life.head,
            "status": about.status,
            "written": life.written,
            "readable": sum(piece.length for piece in life.readable),
            "writable": sum(piece.length for piece in life.writable),
            "event": life.taken.number,
            "session": life.session,
        }
        self._slice(process, thread, about.words, "request", begin, end, facts)
        at_ns = begin
        for name, phase in _PHASES.items():
            step = about.steps.get(name)
            if step is not None:
                self._slice(process, thread, phase, "station", at_ns, at_ns + step, {})
                at_ns += step
        self._flow(life, process, thread)

    def _slice(
        self, process: int, thread: int, name: str, kind: str, begin: int, end: int, facts: Event
    ) -> None:
        length = max(end - begin, 0) / 1000
        self._put("X", process, begin, tid=thread, dur=length, name=name, cat=kind, args=facts)

    def _flow(self, life: Life, process: int, thread: int) -> None:
        """Arrows from the slice of the notification to the request's, and on to that of its interrupt."""
        told_at = life.interrupt or life.notified
        if life.kicked is None or told_at is None:
            return
        kick = self._thread(process, _kicks(life.queue), _order(life.queue, _KICKS))
        if life.interrupt is not None:
            last = self._process(_MACHINE), self._thread(self._process(_MACHINE), "interrupts", 0)
        else:
            last = process, self._thread(process, _notices(life.queue), _order(life.queue, _NOTICES))
        flow = {"name": "request", "cat": "flow", "id": life.number}
        self._put("s", process, life.kicked.time_ns, tid=kick, **flow)
        self._put("t", process, life.taken.time_ns, tid=thread, **flow)
        self._put("f", last[0], told_at.time_ns, tid=last[1], bp="e", **flow)


def write_perfetto(reader: TraceReader, path: Path) -> None:
    """Write a trace's picture, with a progress bar where somebody watches; QueryError where it cannot be written."""
    if path.exists() and path.samefile(reader.path):
        raise QueryError(f"--perfetto {path} is given, which is the trace; expected another file")
    about = {"trace": reader.path.name, "program": reader.header.program}
    try:
        with path.open("wb") as file, TraceBar(reader.path) as progress:
            PerfettoWriter(file).write(Watched(reader, progress), **about)
            nbytes = file.tell()
    except OSError as error:
        raise QueryError(f"--perfetto {path} cannot be written: {error.strerror or error}") from None
    typer.echo(f"{path}: {names.size(-(-nbytes // 1024) * 1024)}")


class _Slots:
    """The slots of one queue: which buffer is in which."""

    __slots__ = ("_free", "_number", "_of")

    def __init__(self) -> None:
        self._free: list[int] = []
        self._number = 0
        self._of: dict[int, int] = {}

    @property
    def depth(self) -> int:
        """How many buffers the device has."""
        return len(self._of)

    def take(self, life: Life) -> None:
        """The buffer gets the lowest slot that is free."""
        if self._free:
            slot = heappop(self._free)
        else:
            slot = self._number
            self._number += 1
        self._of[life.number] = slot

    def give_back(self, life: Life) -> int:
        """The slot that the buffer had."""
        slot = self._of.pop(life.number)
        heappush(self._free, slot)
        return slot


def _kicks(queue: int | None) -> str:
    return f"queue {queue} notifications"


def _notices(queue: int | None) -> str:
    return "configuration changes" if queue is None else f"queue {queue} used buffers"


def _order(queue: int | None, within: int) -> int:
    """Where a queue's track stands in its process."""
    return 1 if queue is None else 2 + queue * 100_000 + within


_KICKS, _SLOTS, _NOTICES = 0, 1, 90_000
_DISPATCH = -1
_INSTANTS = frozenset(
    {
        EventKind.VIOLATION,
        EventKind.RESET,
        EventKind.MACHINE_RESET,
        EventKind.FEATURES,
        EventKind.QUEUE,
        EventKind.STOP,
        EventKind.DRIVER_LEFT,
        EventKind.SIZE,
        EventKind.RUN_STATE,
    }
)
"""What happens to a device as a whole."""
