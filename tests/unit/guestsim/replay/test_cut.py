"""The beginning of a trace is a trace."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from devmodels.tracefile import TraceReader
from guestsim.cli import app
from guestsim.replay import replay
from tests.guest.record_piece import PIECE


def test_a_piece_has_the_first_events_and_is_replayed(tmp_path: Path) -> None:
    output = tmp_path / "short.trace"
    run = CliRunner().invoke(app, ["cut", str(PIECE), "--to", "700", "--output", str(output)])
    assert run.exit_code == 0
    assert run.stdout == f"{output}: 700 events, {output.stat().st_size} bytes\n"
    with TraceReader(PIECE) as whole, TraceReader(output) as short:
        events = list(short)
        assert events == list(whole)[:700]
        assert short.ending is not None
        assert short.header.strict is whole.header.strict
    result = replay(output)
    assert result.difference is None
    assert result.events == 700


@pytest.mark.long
def test_more_than_there_is_is_all_of_it(tmp_path: Path) -> None:
    output = tmp_path / "short.trace"
    with TraceReader(PIECE) as reader:
        events = reader.count()
    run = CliRunner().invoke(app, ["cut", str(PIECE), "--to", "1000000", "-o", str(output)])
    assert run.stdout.startswith(f"{output}: {events} events")


@pytest.mark.parametrize(
    ("trace", "output", "problem"),
    [
        (PIECE, PIECE, "--output: "),
        (PIECE, Path("no/such/folder"), "no/such/folder: No such file or directory"),
        (Path("none.trace"), Path("a.trace"), "none.trace: cannot be read: No such file or directory"),
        (Path(__file__), Path("a.trace"), "not a trace"),
    ],
)
def test_what_cannot_be_is_one_line(
    trace: Path, output: Path, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = PIECE.read_bytes()
    run = CliRunner().invoke(app, ["cut", str(trace), "--to", "10", "-o", str(output)])
    assert run.exit_code == 2
    assert problem in run.stderr
    assert run.stderr.count("\n") == 1
    assert PIECE.read_bytes() == before
    assert not list(tmp_path.iterdir())
