"""The requests of a trace, one line each: what was asked, what came of it, and how long each station took."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from devmodels.trace import TraceEvent
from devmodels.virtio_scsi.layout import EVENT_SIZE
from guestsim.forms import BLK, EVENTS, CommandForm
from guestsim.life import At, Life
from guestsim.show import names, scsi
from guestsim.show.decode import LAYOUTS
from guestsim.show.possible import possible
from guestsim.show.words import form_words
from guestsim.story import lives

HELD = 64
"""So many buffers that were given back may wait for their notification before they are told."""
STATIONS = ("taken", "submitted", "dispatched", "done", "completed", "used", "notified", "interrupt")
"""What each time of a `Row` is measured to."""

_HEADER = LAYOUTS["virtio_blk_req"].size


@dataclass(frozen=True, slots=True)
class Row:
    """One request: `steps` are ns from one station to the next one that there was, by the name of where they end."""

    life: Life
    words: str
    status: str
    steps: dict[str, int]

    @property
    def failed(self) -> bool:
        """Whether it was answered, and not well."""
        return self.life.used is not None and (self.life.status is None or names.is_failure(self.life.status))

    @property
    def total_ns(self) -> int | None:
        """From the notification (or being taken) to the buffer's return; None where it never came."""
        life = self.life
        return None if life.used is None else life.used.time_ns - (life.kicked or life.taken).time_ns


def rows(events: Iterable[TraceEvent]) -> Iterator[Row]:
    """The requests, in the order in which they end."""
    for life in told(lives(possible(events))):
        yield row(life)


def told(ended: Iterable[Life]) -> Iterator[Life]:
    """Lives as they end, a little later: with their notification and interrupt, where they come soon."""
    waiting: deque[Life] = deque()
    for life in ended:
        waiting.append(life)
        while waiting and (_is_told(waiting[0]) or len(waiting) > HELD):
            yield waiting.popleft()
    yield from waiting


def _is_told(life: Life) -> bool:
    return life.used is None or life.interrupt is not None


def row(life: Life) -> Row:
    """One life as a row."""
    return Row(life, request_words(life), _status(life), _steps(life))


def request_words(life: Life) -> str:
    """What a buffer asks for: `OUT 4 KiB at sector 8`."""
    if life.form is not BLK:
        return _scsi_words(life)
    header = life.header
    if header is None:
        return "no header"
    kind, _, sector = header
    name = names.blk_type(kind)
    readable = sum(piece.length for piece in life.readable) - _HEADER
    writable = sum(piece.length for piece in life.writable) - 1
    if name in ("IN", "OUT"):
        return f"{name} {names.size(max(writable if name == 'IN' else readable, 0))} at sector {sector}"
    parts = [
        f"{names.size(part.length)} at sector {part.offset // 512}" for part in life.parts if part.length
    ]
    more = f" and {len(parts) - 3} more" if len(parts) > 3 else ""
    return f"{name} {', '.join(parts[:3])}{more}".rstrip()


def _scsi_words(life: Life) -> str:
    """What a SCSI host was asked, or has told."""
    if life.form is not EVENTS:
        return form_words(life.form, life.opening)
    told = None if life.used is None else life.written_part(0, EVENT_SIZE)
    return "event buffer" if told is None else scsi.event_words(told)


def _status(life: Life) -> str:
    if life.used is None:
        return "dropped"
    return "no status" if life.status is None else names.status(life.status)


def _steps(life: Life) -> dict[str, int]:
    parts = life.parts
    first: list[At | None] = [life.taken]
    first += [_first(part.submitted for part in parts), _first(part.dispatched for part in parts)]
    first += [_last(part.done for part in parts), _last(part.completed for part in parts)]
    first += [life.used, life.notified, life.interrupt]
    steps = {}
    before = life.kicked.time_ns if life.kicked is not None else life.taken.time_ns
    for name, at in zip(STATIONS, first, strict=True):
        if at is not None:
            steps[name] = at.time_ns - before
            before = at.time_ns
    return steps


def _first(times: Iterable[At | None]) -> At | None:
    return min((at for at in times if at is not None), default=None)


def _last(times: Iterable[At | None]) -> At | None:
    return max((at for at in times if at is not None), default=None)


def _type(life: Life) -> str | None:
    header = life.header
    if header is not None:
        return names.blk_type(header[0])
    return scsi.operation(life.form, life.opening) if isinstance(life.form, CommandForm) else None


def to_json(row: Row, start_ns: int) -> dict[str, object]:
    """A row as plain values; times in ns, `time-ns` since the trace's beginning."""
    life = row.life
    header = life.header
    return {
        "request": life.number,
        "time-ns": life.taken.time_ns - start_ns,
        "event": life.taken.number,
        "device": life.device,
        "session": life.session,
        "queue": life.queue,
        "head": life.head,
        "type": _type(life),
        "sector": None if header is None else header[2],
        "readable": sum(piece.length for piece in life.readable),
        "writable": sum(piece.length for piece in life.writable),
        "text": row.words,
        "status": None if life.status is None else names.status(life.status),
        "written": None if life.used is None else life.written,
        "latency-ns": row.total_ns,
        "steps-ns": row.steps,
        "violations": [
            {"clause": clause, "place": place, "summary": summary, "data": data.hex()}
            for clause, place, summary, data in life.violations
        ],
    }
