"""A replay stops anywhere and is saved; another one begins there, and all that follows is the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from devmodels.trace import EventKind
from devmodels.tracefile import TraceReader
from guestsim.cli import app
from guestsim.disk import boot
from guestsim.guest import Guest
from guestsim.quick import disk_machine
from guestsim.replay import replay
from guestsim.replay.snapshot import SnapshotError
from guestsim.script.recording import Recording
from guestsim.script.run import Options
from tests.guest.record_piece import PIECE
from tests.scripts.test_ways import FOLDER, run
from tests.unit.guestsim.replay.anywhere import goes_on, goes_on_anywhere

MIB = 1 << 20
QUICK = (
    "error-stop",
    "queue-reset-in-flight",
    "reset-in-flight",
    "reset-while-stopped",
    "stop",
    "suspend",
    "hostile/packed-lists",
    "hostile/too-many-with-some-held",
)
"""What is run each time; the rest takes its time."""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    trace = tmp_path_factory.mktemp("replay") / "a.trace"
    with disk_machine(MIB) as machine:
        machine.record(trace)
        disk = boot(Guest(machine))
        disk.write(4096, b"\xa5" * 512)
        disk.read(4096, 512)
    return trace


@pytest.mark.long
@pytest.mark.parametrize("script", QUICK)
def test_any_script_goes_on_from_anywhere(script: str, tmp_path: Path) -> None:
    trace = tmp_path / "a.trace"
    assert not run(FOLDER / f"{script}.guest.yaml", Options(recording=Recording(trace))).failures
    goes_on_anywhere(trace, 2, seed=1)


def test_a_write_that_is_held_back_has_its_data(tmp_path: Path) -> None:
    trace = tmp_path / "a.trace"
    assert not run(FOLDER / "werror-enospc.guest.yaml", Options(recording=Recording(trace))).failures
    with TraceReader(trace) as reader:
        (stopped,) = [each.number for each in reader if each.kind is EventKind.RUN_STATE and each.detail[0]]
    assert goes_on(trace, stopped, tmp_path / "a.snapshot") == stopped


@given(number=st.integers(0, 430))
def test_a_replay_goes_on_from_every_event(recorded: Path, number: int) -> None:
    goes_on(recorded, number, recorded.with_suffix(".snapshot"))


@pytest.mark.long
def test_linux_goes_on_from_anywhere(tmp_path: Path) -> None:
    trace = tmp_path / "linux.trace"
    trace.symlink_to(PIECE)
    goes_on_anywhere(trace, 4, seed=4)


def test_the_command_stops_saves_and_goes_on(recorded: Path, tmp_path: Path) -> None:
    events = replay(recorded).events
    snapshot = tmp_path / "a.snapshot"
    first = CliRunner().invoke(
        app, ["replay", "--stop-at", str(events // 2), "--save", str(snapshot), str(recorded)]
    )
    assert first.exit_code == 0
    *_, last = first.stdout.splitlines()
    assert last.startswith("stopped before event ")
    second = CliRunner().invoke(app, ["replay", "--json", "--from", str(snapshot), str(recorded)])
    assert second.exit_code == 0
    assert 0 < json.loads(second.stdout)["events"] <= events - events // 2


def test_a_stop_in_the_middle_of_something_comes_after_it(recorded: Path) -> None:
    kick = CliRunner().invoke(app, ["show", "--json", "--kind", "kick", str(recorded)])
    number = json.loads(kick.stdout.splitlines()[0])["number"]
    run = CliRunner().invoke(app, ["replay", "--stop-at", str(number + 1), str(recorded)])
    assert "up to there a device was in the middle of something" in run.stdout


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--save", "x"], "guestsim replay: --save: x is given, expected --stop-at with it"),
        (["--from", "there/is/none"], "there/is/none: No such file or directory"),
        (["--stop-at", "100000000", "--save", "x"], "it ends before event 100000000"),
        (["--stop-at", "1", "--save", "no/folder/x"], "no/folder/x: No such file or directory"),
        (["--stop-at", "1", "--target", "qemu"], "--stop-at: 1 is given, expected none with --target"),
    ],
)
def test_wrong_options_are_one_line(
    recorded: Path, arguments: list[str], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke(app, ["replay", *arguments, str(recorded)])
    assert run.exit_code == 2
    assert problem in run.stderr
    assert run.stderr.count("\n") == 1


def test_a_snapshot_never_takes_the_place_of_its_trace(recorded: Path) -> None:
    before = recorded.read_bytes()
    run = CliRunner().invoke(app, ["replay", "--stop-at", "1", "--save", str(recorded), str(recorded)])
    assert run.exit_code == 2
    assert recorded.read_bytes() == before


def test_a_snapshot_of_another_trace_is_refused(recorded: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.trace"
    with disk_machine(2 * MIB) as machine:
        machine.record(other)
        boot(Guest(machine)).write(0, bytes(512))
    replay(recorded, stop_at=300, save=tmp_path / "a.snapshot")
    with pytest.raises(SnapshotError, match="a snapshot of another trace"):
        replay(other, start=tmp_path / "a.snapshot")


@pytest.mark.long
@settings(max_examples=8)
@given(at=st.integers(0, 3000), value=st.integers(0, 255))
def test_a_damaged_snapshot_is_one_line_or_one_difference(recorded: Path, at: int, value: int) -> None:
    snapshot = recorded.with_suffix(".damaged")
    replay(recorded, stop_at=395, save=snapshot)
    data = bytearray(snapshot.read_bytes())
    data[at % len(data)] = value
    snapshot.write_bytes(data)
    run = CliRunner().invoke(app, ["replay", "--from", str(snapshot), str(recorded)])
    assert run.exit_code in (0, 1, 2)
    assert run.stderr.count("\n") == (1 if run.exit_code == 2 else 0)
    assert "Traceback" not in run.output
