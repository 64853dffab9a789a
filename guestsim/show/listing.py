"""A trace as lines: of its events, or of its requests; coloured for a terminal, or as JSON."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache

import msgspec
from rich.color import ColorSystem
from rich.console import Console
from rich.style import Style

from devmodels.trace import EventKind, TraceEvent
from devmodels.tracefile import DeviceFacts
from guestsim.forms import ATA_HOSTS
from guestsim.show import names
from guestsim.show.atacommands import AtaRow
from guestsim.show.atacommands import to_json as ata_to_json
from guestsim.show.decode import Field
from guestsim.show.describe import Describer
from guestsim.show.filters import Filter, shown
from guestsim.show.requests import STATIONS, Row, rows
from guestsim.show.requests import to_json as row_to_json
from guestsim.show.words import Seen

_STYLES = {
    "bold cyan": (EventKind.DEVICE, EventKind.FEATURES, EventKind.QUEUE, EventKind.MEMORY, EventKind.MOVED),
    "cyan": (EventKind.ACCESS_READ, EventKind.ACCESS_VALUE, EventKind.CONFIG_READ),
    "bright_cyan": (EventKind.ACCESS_WRITE, EventKind.CONFIG_WRITE),
    "yellow": (EventKind.KICK, EventKind.LOOK, EventKind.ENABLE, EventKind.AGAIN),
    "dim": (EventKind.DMA_READ, EventKind.DMA_WRITE),
    "green": (EventKind.CHAIN, EventKind.USED),
    "blue": (EventKind.REQUEST, EventKind.DISPATCH, EventKind.DONE, EventKind.COMPLETION),
    "magenta": (
        EventKind.NOTIFY,
        EventKind.INTERRUPT,
        EventKind.DELIVER,
        EventKind.SERVING,
        EventKind.SERVED,
    ),
    "bold yellow": (EventKind.RESET, EventKind.MACHINE_RESET, EventKind.STOP, EventKind.DRIVER_LEFT),
    "bold red": (EventKind.VIOLATION,),
}
_COLOURS = {kind: style for style, kinds in _STYLES.items() for kind in kinds}
_ENCODER = msgspec.json.Encoder()


class Printer:
    """Writes lines to stdout, in colours where it is a terminal."""

    def __init__(self) -> None:
        system = Console().color_system
        self._system = None if system is None else ColorSystem[_SYSTEMS[system]]

    def paint(self, text: str, style: str) -> str:
        """`text` in a style."""
        return text if self._system is None else _style(style).render(text, color_system=self._system)

    def line(self, text: str) -> None:
        """Write a line."""
        sys.stdout.write(text + "\n")


_SYSTEMS = {
    "standard": "STANDARD",
    "256": "EIGHT_BIT",
    "truecolor": "TRUECOLOR",
    "windows": "WINDOWS",
}


@cache
def _style(text: str) -> Style:
    return Style.parse(text)


def print_events(events: Iterable[TraceEvent], wanted: Filter, *, as_json: bool = False) -> None:
    """Write a line of each event that is wanted."""
    printer = Printer()
    for seen, time_ns in shown(events, wanted):
        if as_json:
            printer.line(_ENCODER.encode(to_json(seen, time_ns)).decode())
        else:
            printer.line(_event_line(printer, seen, time_ns))


def _event_line(printer: Printer, seen: Seen, time_ns: int) -> str:
    event = seen.event
    head = f"{event.number:>8} {time_ns / 1e9:>13.6f}"
    style = _COLOURS.get(event.kind, "")
    source, text = printable(event.source), printable(seen.text)
    rest = f"{source:<12} {event.kind.value:<13} {text}"
    return f"{printer.paint(head, 'dim')} {printer.paint(rest, style) if style else rest}"


def printable(text: str) -> str:
    """`text` without what a terminal would obey."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def to_json(seen: Seen, time_ns: int) -> dict[str, object]:
    """An event as plain values; bytes as hexadecimal digits, `time-ns` since the trace's beginning."""
    event = seen.event
    return {
        "number": event.number,
        "time-ns": time_ns,
        "source": event.source,
        "kind": event.kind.value,
        "device": seen.device,
        "queue": seen.queue,
        "head": seen.head,
        "requests": list(seen.requests),
        "registers": list(seen.registers),
        "fields": [_field(field) for field in seen.fields],
        "text": seen.text,
        "detail": [each.hex() if isinstance(each, bytes) else each for each in event.detail],
    }


def _field(field: Field) -> dict[str, object]:
    value = field.value
    return {
        "name": field.name,
        "offset": field.offset,
        "size": field.size,
        "value": value.hex() if isinstance(value, bytes) else value,
        "meaning": field.meaning,
    }


def print_requests(events: Iterable[TraceEvent], wanted: Filter, *, as_json: bool = False) -> None:
    """Write a line of each request that is wanted, in the order in which they end."""
    printer = Printer()
    clock = _Start(events)
    if not as_json:
        titles = "  ".join(f"{name:>10}" for name in STATIONS)
        heading = (
            f"{'request':>8} {'time':>13} {'device':<8} {'queue':>5} {'head':>5}  {'':<36} {'':<9} {'µs':>9}"
        )
        printer.line(printer.paint(f"{heading}  {titles}", "bold"))

    def show_ata(row: AtaRow) -> None:
        if not _wants_ata(wanted, row, clock.start_ns):
            return
        if as_json:
            printer.line(_ENCODER.encode(ata_to_json(row, clock.start_ns)).decode())
        else:
            text = _ata_line(row, clock.start_ns)
            printer.line(printer.paint(text, "red") if row.failed else text)

    for each in rows(beside(clock, show_ata)):
        if not _wants(wanted, each, clock.start_ns):
            continue
        if as_json:
            printer.line(_ENCODER.encode(row_to_json(each, clock.start_ns)).decode())
        else:
            text = _request_line(each, clock.start_ns)
            bad = each.failed or each.life.violations
            printer.line(printer.paint(text, "red") if bad else text)


def beside(events: Iterable[TraceEvent], ended: Callable[[AtaRow], None]) -> Iterator[TraceEvent]:
    """The events, and with them the commands of ATA devices, to which `ended` is called, where there are any."""
    describer: Describer | None = None
    for event in events:
        if describer is None and event.kind is EventKind.DEVICE and _is_ata_host(event):
            describer = Describer()
            describer.commands.ended = ended
        if describer is not None:
            describer.see(event)
        yield event
    if describer is not None:
        describer.commands.reset("not over")


def _is_ata_host(event: TraceEvent) -> bool:
    try:
        facts = msgspec.json.decode(str(event.detail[0]), type=DeviceFacts)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return False
    return not facts.host and facts.options.get("driver") in ATA_HOSTS


class _Start:
    """The events, and the time of the first."""

    def __init__(self, events: Iterable[TraceEvent]) -> None:
        self._events = events
        self.start_ns = 0

    def __iter__(self) -> Iterator[TraceEvent]:
        for event in self._events:
            if event.number == 0:
                self.start_ns = event.time_ns
            yield event


def _wants(wanted: Filter, row: Row, start_ns: int) -> bool:
    life = row.life
    return (
        (not wanted.devices or life.device in wanted.devices)
        and (not wanted.queues or life.queue in wanted.queues)
        and wanted.request in (None, life.number)
        and life.taken.number in wanted.events
        and life.taken.time_ns - start_ns in wanted.times
        and (wanted.grep is None or wanted.grep.search(f"{row.words} {row.status}") is not None)
    )


def _wants_ata(wanted: Filter, row: AtaRow, start_ns: int) -> bool:
    return (
        (not wanted.devices or row.device in wanted.devices)
        and (not wanted.queues or row.bus in wanted.queues)
        and wanted.request in (None, row.number)
        and row.event in wanted.events
        and row.time_ns - start_ns in wanted.times
        and (wanted.grep is None or wanted.grep.search(f"{row.words} {row.status}") is not None)
    )


def _ata_line(row: AtaRow, start_ns: int) -> str:
    total = "" if row.total_ns is None else f"{row.total_ns / 1e3:.1f}"
    place = f"{printable(row.device):<8} {row.bus:>5} {row.slot:>5}"
    time = (row.time_ns - start_ns) / 1e9
    # Of a sense key the name comes behind.
    words = row.status.split(maxsplit=3)
    status, more = (
        (f"key {words[2]}", f"  {words[3]}") if row.status.startswith("sense key") else (row.status, "")
    )
    return f"{row.number:>8} {time:>13.6f} {place}  {row.words:<36} {status:<9} {total:>9}{more}".rstrip()


def _request_line(row: Row, start_ns: int) -> str:
    life = row.life
    total = "" if row.total_ns is None else f"{row.total_ns / 1e3:.1f}"
    steps = "  ".join(_microseconds(row.steps.get(name)) for name in STATIONS)
    time = (life.taken.time_ns - start_ns) / 1e9
    place = f"{printable(life.device):<8} {life.queue:>5} {life.head:>5}"
    sense = None if life.status is None else names.sense_triple(life.status)
    status, more = (row.status, "") if sense is None else (sense, f"  {row.status}")
    line = f"{life.number:>8} {time:>13.6f} {place}  {row.words:<36} {status:<9} {total:>9}  {steps}{more}"
    return line.rstrip()


def _microseconds(time_ns: int | None) -> str:
    return f"{'':>10}" if time_ns is None else f"{time_ns / 1e3:>+10.1f}"
