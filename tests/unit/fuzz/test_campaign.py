"""A campaign over an engine that says what Atheris would: what is counted, told, and left when it ends."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from fuzz.campaign import Campaign

ENGINE = """
import pathlib, sys, tempfile, time
name, seed, seconds, inputs, found = sys.argv[1:]
pathlib.Path(tempfile.mkdtemp(), "left").write_text("behind")
if name == "discs":
    sys.exit("no such thing")
for target, place in (("tables", "aa"), ("tables-and-more", "bb"), ("cores", "aa")):
    if target == name:
        pathlib.Path(found, f"{name}-{place}.input").write_text("")
        pathlib.Path(found, f"{name}-{place}.txt").write_text("KeyError: 3")
print("#2\\tINITED cov: 5 ft: 6 corp: 1/1b exec/s: 0 rss: 77Mb", file=sys.stderr, flush=True)
if seconds == "60":
    time.sleep(60)
print("stat::number_of_executed_units: 1234\\nstat::peak_rss_mb:              99", file=sys.stderr)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    script = tmp_path / "engine.py"
    script.write_text(ENGINE)
    monkeypatch.setattr("fuzz.engine.ENGINE", (sys.executable, str(script)))
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def campaign(folder: Path, *names: str, seconds: int) -> Campaign:
    return Campaign(
        names, seconds=seconds, jobs=2, seed=1, work=folder / "inputs", findings=folder / "findings"
    )


def told(one: Campaign) -> str:
    out = io.StringIO()
    Console(file=out, width=200).print(one.table())
    return out.getvalue()


@pytest.mark.long
def test_a_place_that_two_targets_find_is_one_finding(tmp_path: Path, temporary: Path) -> None:
    one, out = campaign(tmp_path, "tables", "cores", "qmp", "discs", seconds=2), io.StringIO()
    one.run(Console(file=out, width=200))
    plain = json.loads(json.dumps(one.plain()))
    assert (plain["executions"], plain["findings"], plain["stopped"]) == (3 * 1234, 1, False)
    states = {
        each["name"]: (each["state"], each["findings"], each["memory-mib"]) for each in plain["targets"]
    }
    assert states == {
        "tables": ("done", ["aa"], 99),
        "cores": ("done", ["aa"], 99),
        "qmp": ("done", [], 99),
        "discs": ("failed", [], 0),
    }
    lines = out.getvalue().splitlines()
    assert sorted(
        line.partition("/")[0] for line in lines if "executions" in line or "did not" in line
    ) == list("1234")
    assert "no such thing" in out.getvalue()
    assert told(one).splitlines()[-1].split() == ["all", "3,702", "99", "1"]
    assert list(temporary.iterdir()) == [], "what targets leave is taken away"


def test_who_interrupts_it_gets_the_table_so_far(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = campaign(tmp_path, "tables", "cores", "qmp", seconds=90)
    sleep = time.sleep

    def impatient(seconds: float) -> None:
        if sum(each.executions == 2 for each in one.all) == 2:
            raise KeyboardInterrupt
        sleep(min(seconds, 0.01))

    monkeypatch.setattr("fuzz.campaign.time.sleep", impatient)
    one.run(Console(file=io.StringIO()))
    assert one.stopped
    assert [each.state for each in one.all] == ["stopped", "stopped", "waits"]
    assert [line.split()[:2] for line in told(one).splitlines()[1:]] == [
        ["tables", "2"],
        ["cores", "2"],
        ["qmp", "0"],
        ["all", "4"],
    ]
    assert list(temporary.iterdir()) == []
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
