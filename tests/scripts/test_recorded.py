"""The scripts of the corpus, recorded: the trace alone is enough for the devices to do it all again."""

from __future__ import annotations

from pathlib import Path

import pytest

from guestsim.replay import replay
from guestsim.script.recording import Recording
from guestsim.script.run import Options
from guestsim.script.ways import Way
from tests.scripts.test_ways import SCRIPTS, WAYS, name, run

QUICK = (
    "error-ignore",
    "error-stop",
    "in-order",
    "intx",
    "legacy-interrupts",
    "merging",
    "mmio",
    "packed-suppression",
    "queue-reset-in-flight",
    "reset-in-flight",
    "reset-while-stopped",
    "resize",
    "stop",
    "suspend",
    "scsi/failures",
    "scsi/hot-plug",
    "scsi/read-write",
    "scsi/reset-in-flight",
    "scsi/resize",
    "scsi/task-management",
    "two-devices",
    "write-cache",
    "hostile/chains-out-of-bounds",
    "hostile/dma-into-rings",
    "hostile/packed-lists",
    "hostile/rings-outside-memory",
    "hostile/same-head-twice",
    "hostile/scsi-too-many-in-flight",
    "hostile/too-many-with-some-held",
)
"""What is run each time."""


def does_it_again(path: Path, trace: Path, target: str, memory: str, way: Way) -> None:
    """The script holds while it is recorded, and its devices do it again without a guest."""
    report = run(path, Options(target, memory, way, recording=Recording(trace)))
    assert not report.failures
    if report.skipped is None:
        result = replay(trace)
        assert result.difference is None
        assert result.events > 10
        trace.unlink()


@pytest.mark.parametrize("memory", ["shared", "bounced"])
@pytest.mark.parametrize("path", [path for path in SCRIPTS if name(path) in QUICK], ids=name)
def test_a_recorded_script(path: Path, memory: str, tmp_path: Path) -> None:
    does_it_again(path, tmp_path / "a.trace", "devmodels", memory, Way())


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["shared", "bounced"])
@pytest.mark.parametrize("way", [Way(), *WAYS], ids=lambda way: str(way) or "as-it-is")
@pytest.mark.parametrize("path", SCRIPTS, ids=name)
def test_every_recorded_script_in_every_way(path: Path, way: Way, memory: str, tmp_path: Path) -> None:
    does_it_again(path, tmp_path / "a.trace", "devmodels", memory, way)


@pytest.mark.slow
@pytest.mark.parametrize("path", SCRIPTS, ids=name)
def test_every_recorded_script_on_an_export(path: Path, tmp_path: Path) -> None:
    for ring in ("split", "packed"):
        does_it_again(path, tmp_path / f"{ring}.trace", "vhost-user", "shared", Way(ring))
