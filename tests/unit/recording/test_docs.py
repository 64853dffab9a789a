"""docs/traces.md knows every kind of event; what it says of files is what files are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from devmodels.trace import MAX_PAYLOAD, EventKind
from devmodels.tracefile import format as layout
from devmodels.traceshapes import SHAPES
from guestsim.quick import disk_machine

TEXT = (Path(__file__).parents[3] / "docs" / "traces.md").read_text()


def test_every_kind_of_event_is_in_the_table() -> None:
    rows = [f"| {kind.name} | {shape} | {shape.text} |" for kind, shape in SHAPES.items()]
    found = [line for line in TEXT.splitlines() if re.match(r"\| [A-Z_]+ \|", line)]
    assert found == rows, "the rows should be\n" + "\n".join(rows)


def test_no_kind_is_an_input_that_is_not_there() -> None:
    (inputs,) = re.findall(r"\*\*Inputs\*\*(.*?)\n\n", TEXT, re.DOTALL)
    assert {name for name in re.findall(r"[A-Z]+(?:_[A-Z]+)*\b", inputs) if len(name) > 2} <= set(
        EventKind.__members__
    )


def test_the_limits_are_the_files() -> None:
    assert f"up to {layout.MAX_EVENTS}" in TEXT
    assert f"up to {layout.MAX_TABLE >> 20} MiB" in TEXT
    assert f"payload up to {MAX_PAYLOAD >> 20} MiB" in TEXT
    assert layout.FRAME_HEAD.format == "<4sQIIIII"


def test_the_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (text,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    with disk_machine(1 << 20) as machine:
        machine.record(tmp_path / "guest.trace")
    monkeypatch.chdir(tmp_path)
    exec(compile(text, "traces.md", "exec"), {})
    assert "2 events\nEnding(reason='closed'" in capsys.readouterr().out
