"""Progress bars: at a terminal, and nowhere else."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from guestsim.progress import Bar, TraceBar
from tests.unit.guestsim.portable.recorded import record


def test_it_says_how_far_it_is_at_a_terminal() -> None:
    out = io.StringIO()
    with Bar("cuts", 4, counted=True, console=Console(file=out, force_terminal=True)) as bar:
        bar.more(3)
    assert "cuts" in out.getvalue()
    assert "3/4" in out.getvalue()


def test_it_says_nothing_elsewhere() -> None:
    out = io.StringIO()
    with Bar("cuts", 4, console=Console(file=out)) as bar:
        bar.at(3)
    assert not out.getvalue()


def test_what_is_done_may_look_like_markup() -> None:
    out = io.StringIO()
    with Bar("", console=Console(file=out, force_terminal=True)) as bar:
        bar.say("[/b] 3")
    assert "[/b] 3" in out.getvalue()


def test_things_go_through_it() -> None:
    out = io.StringIO()
    with Bar("replaying", 200, console=Console(file=out, force_terminal=True)) as bar:
        assert list(bar.along(iter("abc"), lambda: 100)) == ["a", "b", "c"]
    assert "50%" in out.getvalue()


def test_a_trace_that_is_read_twice_is_half_done_after_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = record(tmp_path / "little.trace", lambda disk: disk.flush())
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr("guestsim.progress._SHOW_EVERY", 0)
    with TraceBar(trace, passes=2) as bar:
        bar(5)
        bar(0)
    assert "50%" in capsys.readouterr().err
