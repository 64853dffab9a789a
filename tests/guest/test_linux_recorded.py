"""A stock Linux at work is recorded: what that costs it, what the trace takes, and that its disk does it all again.

Recorded and unrecorded runs alternate, and the medians of their times are compared: others use the host, too.
"""

from __future__ import annotations

import os
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from devmodels.trace import EventKind
from devmodels.tracefile import TraceReader
from guestsim.replay import replay

from .backends import devmodels_serve
from .conftest import ROW, Check, needed
from .record_piece import scsi
from .test_linux_killed_daemon import killed_again_and_again
from .vm import GuestRun, run_guest

pytestmark = pytest.mark.guest

MIB = 1 << 20
DISK = 128 * MIB
FIO = "16m"
"""How much of it fio writes and verifies, twice."""
ROUNDS = int(os.environ.get("DEVMODELS_RECORDED_ROUNDS", "1"))
"""How often the guest does it all, recorded and not."""
ENOUGH_ROUNDS = 5
"""So many are a measurement, on a host that others use, too."""
SLOW_DOWN = 1.25
"""What a recording may cost a guest."""
KILLS = 5
ITEMS = ("boot", "mount", "files", "fio-4k", "fio-sizes", "unmount", "end")


@dataclass(frozen=True, slots=True)
class Turn:
    """One run: what the guest reported, and the daemon's CPU time in seconds."""

    guest: GuestRun
    cpu: float

    @property
    def seconds(self) -> float:
        """How long the guest was at it, by its own clock from its start on."""
        return self.guest.check("end").seconds


def turn(folder: Path, trace: Path | None) -> Turn:
    """A guest's day on an empty disk."""
    image = folder / "disk.img"
    with image.open("wb") as file:
        file.truncate(DISK)
    files = {"expected": f"size={FIO}\n".encode(), "host.bin": random.Random(1).randbytes(MIB)}
    more = [] if trace is None else ["--record", str(trace)]
    with needed(), devmodels_serve(image, folder, more=more) as backend:
        guest = run_guest("recorded.sh", backend, files=files, timeout=100)
        spent = Path(f"/proc/{backend.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    image.unlink()
    return Turn(guest, sum(map(int, spent)) / os.sysconf("SC_CLK_TCK"))


@dataclass(frozen=True, slots=True)
class Turns:
    """All of them, and the trace of the last."""

    plain: list[Turn]
    recorded: list[Turn]
    trace: Path


@pytest.fixture(scope="module")
def turns(tmp_path_factory: pytest.TempPathFactory) -> Turns:
    folder = tmp_path_factory.mktemp("recorded")
    found = Turns([], [], folder / "guest.trace")
    for _ in range(ROUNDS):
        found.plain.append(turn(folder, None))
        found.recorded.append(turn(folder, found.trace))
    return found


@pytest.mark.parametrize("item", ITEMS)
def test_a_guest_works_while_it_is_recorded(turns: Turns, check: Check, item: str) -> None:
    check(turns.recorded[-1].guest, item)


def test_what_a_recording_costs(turns: Turns, record_property: Callable[[str, object], None]) -> None:
    with TraceReader(turns.trace) as reader:
        events = reader.count()
        assert not reader.cut
        requests = sum(event.kind is EventKind.REQUEST for event in reader)
    size = turns.trace.stat().st_size
    before, after = (
        statistics.median(each.seconds for each in some) for some in (turns.plain, turns.recorded)
    )
    spent = [statistics.median(each.cpu for each in some) for some in (turns.plain, turns.recorded)]
    rows = {
        "unrecorded": f"{before:7.2f}  seconds, the daemon's CPU {spent[0]:.2f}",
        "recorded": f"{after:7.2f}  seconds, the daemon's CPU {spent[1]:.2f}",
        "slow-down": f"{after / before - 1:7.1%}  medians of {ROUNDS}, load {os.getloadavg()[0]:.1f}",
        "trace": f"{size:>7}  bytes, {events} events, {requests} requests",
        "per request": f"{size / requests:7.0f}  bytes, {events / requests:.1f} events",
    }
    for what, row in rows.items():
        record_property(ROW, f"{what:24} {row}")
    if ROUNDS >= ENOUGH_ROUNDS:
        assert after / before <= SLOW_DOWN


def test_the_disk_does_it_again_without_guest_and_image(
    turns: Turns, record_property: Callable[[str, object], None]
) -> None:
    result = replay(turns.trace)
    assert result.difference is None
    assert not result.short
    record_property(
        ROW,
        f"{'replay':24} {result.seconds:7.2f}  seconds of {result.guest_ns / 1e9:.2f}: {result.ratio:.3f}",
    )


@pytest.mark.parametrize("disk", ["packed=off", "packed=on"])
def test_what_killed_daemons_have_recorded_is_done_again(
    tmp_path: Path, check: Check, record_property: Callable[[str, object], None], disk: str
) -> None:
    """Each one's trace is kept; those that follow take again what was in flight."""
    trace = tmp_path / "guest.trace"
    story = killed_again_and_again(tmp_path, disk, KILLS, "--record", str(trace))
    check(story.run, "fio-verified")
    traces = sorted(tmp_path.glob("guest.trace*"))
    again = 0
    for each in traces:
        with TraceReader(each) as reader:
            again += sum(event.kind is EventKind.AGAIN for event in reader)
            assert reader.cut is (each != trace)
        result = replay(each)
        assert result.difference is None
    assert len(traces) == KILLS + 1
    assert again > 0
    record_property(ROW, f"{disk:24} {again:>7}  rings that took something again, {KILLS} kills")


def test_scsi_units_do_it_again_without_guest_and_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    """A filesystem and sg3-utils on one of two, a third that comes and goes: the piece of tests/data, made anew."""
    monkeypatch.chdir(tmp_path)
    trace = tmp_path / "piece.trace"
    with needed():
        scsi(Path(), trace)
    result = replay(trace)
    assert result.difference is None
    told = f"{result.events} events, {result.requests} requests, {trace.stat().st_size} bytes"
    record_property(ROW, f"{'SCSI units':24} {told}; {result.ratio:.3f} of the guest's time")
