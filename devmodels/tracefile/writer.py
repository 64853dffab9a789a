"""Writing a trace file.  Events are gathered where they happen; a thread of the writer's own writes them.

A frame is written when there is enough for it, and at the latest a second after its first event, whatever the thread
does that gave it.  Where the disk cannot keep up, whoever emits waits: what is not written yet is bounded.
"""

from __future__ import annotations

import atexit
import math
import os
import threading
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import zstandard

from devmodels import logs
from devmodels.trace import MAX_PAYLOAD, EventKind, TraceEvent, Tracer
from devmodels.tracefile.format import (
    END,
    ENDING_ROOM,
    FRAME,
    FRAME_HEAD,
    HEAD,
    MAGIC,
    MAX_EVENTS,
    MAX_TABLE,
    Columns,
    Ending,
    FrameHead,
    TraceHeader,
)

log = logs.logger("devmodels.trace")

FRAME_WEIGHT = 1 << 20
"""A frame is ended when its events weigh so much: bytes of payload, and `EVENT_WEIGHT` for each."""
EVENT_WEIGHT = FRAME_WEIGHT // 4096
MAX_WAITING = 8
"""Most frames that wait to be written."""
IDLE_SECONDS = 1.0
"""After so long events are written, however few they are."""
LEVEL = -1
"""Half of the time that level 1 takes, and of a guest's data hardly a byte more."""

_new = tuple.__new__
_KINDS = {kind: number for number, kind in enumerate(EventKind)}


def _plain(value: object) -> int | str:
    """A number or a text of a type of its own, as such; TypeError for anything else."""
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str):
        return str(value)
    raise TypeError(f"{type(value).__name__} in an event")


_encode = msgspec.msgpack.Encoder(enc_hook=_plain).encode


class TraceWriter:
    """A sink for a `Tracer` that writes `path`; OSError where that cannot be.  `limit` is the most bytes it may have.

    Events come one after the other, on whatever thread.  At the limit, and where the disk is full, it ends by itself:
    `ending` says why, there is one log line, and `on_end` is called, on another thread.  ValueError where `limit` is
    too small for anything.
    """

    def __init__(
        self,
        path: Path,
        header: TraceHeader,
        *,
        limit: int | None = None,
        on_end: Callable[[], None] | None = None,
        idle_seconds: float = IDLE_SECONDS,
        level: int = LEVEL,
    ) -> None:
        """`level` is zstd's: a higher one takes its time."""
        self.path = path
        self.ending: Ending | None = None
        self.events = 0
        """How many are in the file."""
        self.nbytes = 0
        """How long the file is."""
        text = msgspec.json.encode(header)
        start = MAGIC + HEAD.pack(len(text), zlib.crc32(text)) + text
        least = len(start) + 2 * ENDING_ROOM
        if limit is not None and limit < least:
            raise ValueError(f"{limit} bytes are given; expected at least {least}")
        self._limit = limit
        self._on_end = on_end
        self._idle = idle_seconds
        self._compressor = zstandard.ZstdCompressor(level=level)
        self._following = 0
        """The number of the event that comes after those in the file."""
        self.waiting: deque[TraceEvent | None] = deque()
        """What is to be written, by who emits at one end and who writes at the other; None ends a frame."""
        self.weight = 0
        """Of the events since the last end of a frame."""
        self._frames = self._frames_done = 0
        self._asked = self._answered = 0
        """How often it was asked to write what there is, and did."""
        self._given_up: tuple[float, Ending] = (math.inf, Ending("error"))
        """After how many frames, and why."""
        self._closing = False
        self._bell = threading.Event()
        self.changed = threading.Condition()
        """Told when anything has been written."""
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            self._append(start)
        except OSError:
            os.close(self._fd)
            raise
        self._thread = threading.Thread(target=self._run, name="devmodels-trace", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    # --- where events happen

    def __call__(self, event: TraceEvent) -> None:
        """Take one event."""
        if self.ending is not None:
            return
        self.waiting.append(event)
        detail = event[4]
        if detail and type(last := detail[-1]) is bytes:
            self.weight += len(last)
        self.weight += EVENT_WEIGHT
        if self.weight >= FRAME_WEIGHT:
            self.end_frame()

    def end_frame(self) -> None:
        """There is enough for a frame; wait where too many of them wait."""
        self.weight = 0
        self._frames += 1
        self.waiting.append(None)
        self._bell.set()
        if self._frames - self._frames_done > MAX_WAITING:
            with self.changed:
                self.changed.wait_for(self._has_room)

    def _has_room(self) -> bool:
        return self.ending is not None or self._frames - self._frames_done <= MAX_WAITING

    def give_up(self, reason: str) -> None:
        """End the recording with what came so far."""
        if self._given_up[0] == math.inf:
            self._given_up = self._frames + 1, Ending("error", reason)
            self.end_frame()

    def flush(self) -> None:
        """Return when all events that came so far are in the file, or the recording has ended."""
        with self.changed:
            self._asked += 1
            asked = self._asked
            self._bell.set()
            self.changed.wait_for(lambda: self._answered >= asked or self.ending is not None)

    def close(self) -> None:
        """Write what is left, and the end. Idempotent."""
        self._closing = True
        self._bell.set()
        self._thread.join()
        atexit.unregister(self.close)

    # --- the thread that writes

    def _run(self) -> None:
        while not self._closing:
            idle = not self._bell.wait(self._idle)
            self._bell.clear()
            self._write_waiting(whole=not idle)
        self._write_waiting(whole=False)
        if self.ending is None:
            self._end(Ending("closed"))
        os.close(self._fd)

    def _write_waiting(self, *, whole: bool) -> None:
        """Write what waits; with `whole`, what is no frame yet goes on waiting, unless somebody asks for it."""
        asked = self._asked
        while self._frames_done < self._frames or (self.waiting and not (whole and asked == self._answered)):
            events = self._take()
            try:
                if events and self.ending is None:
                    self._write(events)
                if self.ending is None and self._frames_done >= self._given_up[0]:
                    self._end(self._given_up[1])
            except Exception as error:
                # Whoever emits may be waiting for us.
                self._end(Ending("error", f"{type(error).__name__}: {error}"))
            with self.changed:
                self.changed.notify_all()
        with self.changed:
            self._answered = asked
            self.changed.notify_all()

    def _take(self) -> list[TraceEvent]:
        """The events of the next frame, or those that there are of it."""
        events: list[TraceEvent] = []
        take = self.waiting.popleft
        try:
            while (event := take()) is not None:
                events.append(event)
            self._frames_done += 1
        except IndexError:
            pass
        return events

    def _write(self, events: Sequence[TraceEvent]) -> None:
        """Write a frame, or several where it would be too long for one or for the limit."""
        frame = self._frame(events)
        room = self._limit is None or self.nbytes + len(frame) + ENDING_ROOM <= self._limit
        if frame and room:
            try:
                self._append(frame)
            except OSError as error:
                self._end(Ending("error", error.strerror or str(error)))
            else:
                self.events += len(events)
                self._following = events[-1].number + 1
        elif len(events) > 1:
            half = len(events) // 2
            self._write(events[:half])
            if self.ending is None:
                self._write(events[half:])
        elif frame:
            self._end(Ending("limit", f"it would be longer than {self._limit} bytes"))
        else:
            self._end(Ending("error", f"an event of more than {MAX_PAYLOAD} bytes"))

    def _frame(self, events: Sequence[TraceEvent]) -> bytes:
        """The events as a frame; nothing where they are too much for one."""
        if len(events) > MAX_EVENTS:
            return b""
        columns, payload = _columns(events)
        table = _encode(columns)
        length = sum(map(len, payload))
        if len(table) > MAX_TABLE or length > MAX_PAYLOAD:
            return b""
        data = self._compressor.compress(b"".join((table, *payload)))
        head = FrameHead(
            FRAME, events[0].number, len(events), len(table), len(table) + length, len(data), zlib.crc32(data)
        )
        return FRAME_HEAD.pack(*head) + data

    def _append(self, data: bytes) -> None:
        """Write all of `data`, or nothing: what has been written of it before an OSError is taken back."""
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError:
            os.ftruncate(self._fd, self.nbytes)
            os.lseek(self._fd, self.nbytes, os.SEEK_SET)
            raise
        self.nbytes += len(data)

    def _end(self, ending: Ending) -> None:
        """No event is taken from now on."""
        text = msgspec.json.encode(ending)
        head = FrameHead(END, self._following, 0, 0, 0, len(text), zlib.crc32(text))
        try:
            self._append(FRAME_HEAD.pack(*head) + text)
        except OSError as error:
            log.debug("%s: without its end: %s", self.path, error)
        if ending.reason != "closed":
            log.warning("%s: recording ends after %d events: %s", self.path, self.events, ending.text)
            if self._on_end is not None:
                self._on_end()
        with self.changed:
            self.ending = ending
            self.changed.notify_all()


class WritingTracer(Tracer):
    """A `Tracer` of one thread's events, straight into a file: less than half of the price.  Sinks may be added."""

    __slots__ = ("_writer",)

    def __init__(self, now_ns: Callable[[], int], writer: TraceWriter) -> None:
        super().__init__(now_ns)
        self._writer = writer

    def emit(self, source: str, kind: EventKind, *detail: int | str | bytes) -> int:
        """Give one event to the file, and to the sinks."""
        writer = self._writer
        now = self._now()
        event = _new(TraceEvent, (self._count, now, source, kind, detail))
        self._count += 1
        if writer.ending is None:
            writer.waiting.append(event)
            if detail and type(last := detail[-1]) is bytes:
                writer.weight += len(last)
            writer.weight += EVENT_WEIGHT
            if writer.weight >= FRAME_WEIGHT:
                writer.end_frame()
        if self.sinks:
            for sink in self.sinks:
                sink(event)
        return now

    def give_up(self, reason: str) -> None:
        """End the recording with what came so far."""
        self._writer.give_up(reason)


def _columns(events: Sequence[TraceEvent]) -> tuple[Columns, list[bytes]]:
    """The table of a frame, and its payload."""
    sources: dict[str, int] = {}
    steps: list[int] = []
    places: list[int] = []
    kinds: list[int] = []
    details: list[tuple[int | str, ...]] = []
    payload: list[bytes] = []
    before = 0
    for _, time_ns, source, kind, detail in events:
        steps.append(time_ns - before)
        before = time_ns
        place = sources.get(source)
        if place is None:
            place = sources[source] = len(sources)
        places.append(place)
        kinds.append(_KINDS[kind])
        if detail and type(last := detail[-1]) is bytes:
            payload.append(last)
            detail = (*detail[:-1], len(last))
        details.append(detail)  # type: ignore[arg-type]
    return (list(sources), steps, places, kinds, details), payload
