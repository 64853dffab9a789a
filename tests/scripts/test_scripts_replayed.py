"""Every script's run is recorded, and replayed without its guest and its disks: nothing may be different."""

from __future__ import annotations

from pathlib import Path

import pytest

from guestsim.replay import replay
from guestsim.script.machine import open_target
from guestsim.script.run import Options, read_scripts
from guestsim.script.ways import Way
from tests.scripts.test_ways import FOLDER, SCRIPTS, WAYS, name

QUICK = (
    "error-ignore",
    "error-stop",
    "event-index",
    "intx",
    "merging",
    "queue-reset-in-flight",
    "reset-in-flight",
    "reset-while-stopped",
    "resize",
    "stop",
    "suspend",
    "write-cache",
    "hostile/chains-out-of-bounds",
    "hostile/dma-into-rings",
    "hostile/packed-lists",
    "hostile/reset-storm",
    "hostile/rings-outside-memory",
    "hostile/too-many-with-some-held",
)
"""What is run each time; the rest takes its time."""


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the run of the script is recorded."""
    path = tmp_path / "script.trace"

    def opened(*args: object) -> object:
        target = open_target(*args)  # type: ignore[arg-type]
        target.record(path)  # type: ignore[attr-defined]
        return target

    monkeypatch.setattr("guestsim.script.world.open_target", opened)
    return path


def check(path: Path, options: Options, trace: Path) -> None:
    (script,) = read_scripts(path)
    report = script.run(options)
    assert not report.failures
    if report.skipped is None:
        result = replay(trace)
        assert result.difference is None
        assert result.events > 0


@pytest.mark.parametrize("script", QUICK)
def test_a_script_is_replayed(script: str, trace: Path) -> None:
    check(FOLDER / f"{script}.guest.yaml", Options(), trace)


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["shared", "bounced"])
@pytest.mark.parametrize("way", [Way(), *WAYS], ids=str)
@pytest.mark.parametrize("path", SCRIPTS, ids=name)
def test_every_script_is_replayed(path: Path, way: Way, memory: str, trace: Path) -> None:
    check(path, Options("devmodels", memory, way), trace)
