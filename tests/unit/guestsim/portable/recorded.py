"""Traces for tests: a guest in this process, recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from devmodels.trace import TraceEvent
from devmodels.tracefile import TraceHeader, TraceWriter
from guestsim.disk import Disk, boot
from guestsim.guest import Guest
from guestsim.portable.machine import Place
from guestsim.quick import disk_machine
from guestsim.script.needs import parse_target
from guestsim.script.schema import RingName, TransportName

MIB = 1 << 20


def record(
    path: Path, work: Callable[[Disk], object], *, size: int = 4 * MIB, **device: str | int | bool
) -> Path:
    """Boot a guest, let it do `work`, and return the trace of it."""
    with disk_machine(size, **device) as machine:  # type: ignore[arg-type]
        machine.record(path)
        work(boot(Guest(machine)))
    return path


def write(path: Path, header: TraceHeader, events: Iterable[TraceEvent]) -> Path:
    """Write a trace of these events, numbered anew."""
    writer = TraceWriter(path, header)
    for number, event in enumerate(events):
        writer(event._replace(number=number))
    writer.close()
    return path


def on(
    target: str = "devmodels",
    ring: RingName | None = None,
    transport: TransportName | None = None,
    memory: str = "shared",
) -> Place:
    """Where to replay."""
    return Place(parse_target(target), ring, transport, memory)
