"""A guest works on a recorded machine; then its devices do the same again without it."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from typer.testing import CliRunner

from guestsim.cli import app
from guestsim.disk import boot
from guestsim.drivers import virtio_blk
from guestsim.guest import Guest
from guestsim.quick import disk_machine
from guestsim.replay import replay

MIB = 1 << 20


def record(path: Path, *, shared: bool = True) -> None:
    with disk_machine(MIB, shared=shared) as machine:
        machine.record(path)
        disk = boot(Guest(machine))
        disk.write(4096, b"\xa5" * 512)
        assert disk.read(4096, 512) == b"\xa5" * 512
        disk.request(virtio_blk.read(MIB, 512))


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "bounced"])
def test_a_device_does_again_what_it_did(tmp_path: Path, *, shared: bool) -> None:
    trace = tmp_path / "a.trace"
    record(trace, shared=shared)
    result = replay(trace)
    assert result.difference is None
    assert result.requests == 2
    assert result.events > 100


def test_the_command_reports_as_json(tmp_path: Path) -> None:
    trace = tmp_path / "a.trace"
    record(trace)
    run = CliRunner().invoke(app, ["replay", "--json", str(trace)])
    assert run.exit_code == 0
    report = json.loads(run.stdout)
    assert (report["ok"], report["differences"], report["requests"]) == (True, 0, 2)


def test_what_is_no_trace_is_refused_in_one_line(tmp_path: Path) -> None:
    trace = tmp_path / "a.trace"
    trace.write_bytes(b"no trace")
    run = CliRunner().invoke(app, ["replay", str(trace)])
    assert run.exit_code == 2
    assert run.stderr.startswith(f"{trace}: not a trace")
    assert run.stderr.count("\n") == 1


def test_of_a_trace_that_is_cut_off_it_is_said(tmp_path: Path) -> None:
    trace = tmp_path / "a.trace"
    record(trace)
    with trace.open("r+b") as file:
        file.truncate(trace.stat().st_size - 10)
    run = CliRunner().invoke(app, ["replay", str(trace)])
    assert run.exit_code == 0
    assert run.stdout.splitlines()[1:] == ["no difference", "the trace is cut short"]
    run = CliRunner().invoke(app, ["replay", "--json", str(trace)])
    assert json.loads(run.stdout)["short"] == "the trace is cut short"


def test_of_a_recording_that_came_to_its_limit_it_is_said(tmp_path: Path) -> None:
    trace = tmp_path / "a.trace"
    with disk_machine(MIB) as machine:
        machine.record(trace, limit=4 << 10)
        boot(Guest(machine)).write(0, random.Random(0).randbytes(8 << 10))
    run = CliRunner().invoke(app, ["replay", str(trace)])
    assert run.exit_code == 0
    assert run.stdout.splitlines()[1:] == [
        "no difference",
        "the recording ended there: it would be longer than 4096 bytes",
    ]
