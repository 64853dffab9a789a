"""Traces that nobody recorded: whatever is in them, a replay ends, with a difference or in one line."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from devmodels.trace import EventKind, TraceEvent
from devmodels.tracefile import TraceHeader, TraceReader, TraceWriter
from guestsim.cli import app
from guestsim.disk import boot
from guestsim.guest import Guest
from guestsim.quick import disk_machine
from tests.guest.record_piece import PIECE

MIB = 1 << 20
NUMBERS = st.one_of(
    st.integers(-2, 70_000), st.sampled_from((1 << 31, (1 << 32) - 1, 1 << 63, (1 << 64) - 1, -(1 << 63)))
)
SOURCES = st.sampled_from(("memory", "e0.memory", "vd0", "e0", "machine", "memory-space", "io-space", "?"))
Edit = tuple[str, int, int, object]
edits = st.one_of(
    st.tuples(st.sampled_from(("drop", "repeat", "swap")), st.integers(0), st.integers(0), st.none()),
    st.tuples(st.just("source"), st.integers(0), st.integers(0), SOURCES),
    st.tuples(st.just("number"), st.integers(0), st.integers(0), NUMBERS),
    st.tuples(st.just("bytes"), st.integers(0), st.integers(0), st.binary(max_size=40)),
)


@cache
def good(machine: bool) -> tuple[TraceHeader, list[TraceEvent]]:
    """A machine's trace, or an export's."""
    path = PIECE
    if machine:
        path = Path(tempfile.mkdtemp(), "good.trace")
        with disk_machine(MIB) as target:
            target.record(path)
            disk = boot(Guest(target))
            disk.write(0, bytes(512))
            disk.discard(0, 512)
    with TraceReader(path) as reader:
        return reader.header.again(), list(reader)[:700]


def edited(events: list[TraceEvent], edit: Edit) -> None:
    """Make one change."""
    what, at, other, value = edit
    at, other = at % len(events), other % len(events)
    event = events[at]
    if what == "drop":
        del events[at]
    elif what == "repeat":
        events.insert(other, event)
    elif what == "swap":
        events[at], events[other] = events[other], event
    elif what == "source":
        events[at] = event._replace(source=str(value))
    else:
        kind = int if what == "number" else bytes
        places = [place for place, old in enumerate(event.detail) if type(old) is kind]
        if places and event.kind is not EventKind.DEVICE:
            detail = list(event.detail)
            detail[places[other % len(places)]] = value  # type: ignore[call-overload]
            events[at] = event._replace(detail=tuple(detail))


@settings(max_examples=8)
@given(machine=st.booleans(), changes=st.lists(edits, min_size=1, max_size=4))
def test_a_replay_of_anything_ends(machine: bool, changes: list[Edit]) -> None:
    header, whole = good(machine)
    events = list(whole)
    for change in changes:
        edited(events, change)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "odd.trace")
        writer = TraceWriter(path, header)
        for number, event in enumerate(events):
            writer(event._replace(number=number))
        writer.close()
        run = CliRunner().invoke(app, ["replay", str(path)])
    assert run.exit_code in (0, 1, 2)
    assert run.stderr.count("\n") == (1 if run.exit_code == 2 else 0)
    assert "Traceback" not in run.output


def test_an_event_of_a_device_that_is_not_there_is_said(tmp_path: Path) -> None:
    header, whole = good(machine=False)
    path = tmp_path / "odd.trace"
    writer = TraceWriter(path, header)
    for event in whole[:3]:
        writer(event._replace(source="e1") if event.kind is EventKind.RESET else event)
    writer.close()
    run = CliRunner().invoke(app, ["replay", str(path)])
    assert run.exit_code == 2
    assert run.stderr == f"{path}: event 2: at 'e1'; the devices of the trace are: e0\n"
