"""The scripts of the corpus, recorded: the trace alone is enough for the devices to do it all again."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle
from pathlib import Path

import pytest

from guestsim.script.recording import Recording
from guestsim.script.run import Options
from guestsim.script.schema import RingName
from guestsim.script.ways import Way
from tests.scripts.corpus import has_disks_only
from tests.scripts.test_ways import MEMORIES, SCRIPTS, WAYS, in_turn, label, name, run
from tests.unit.guestsim.replay.anywhere import goes_on_anywhere

QUICK = (
    "error-ignore",
    "error-stop",
    "in-order",
    "intx",
    "merging",
    "queue-reset-in-flight",
    "reset-in-flight",
    "reset-while-stopped",
    "resize",
    "stop",
    "suspend",
    "scsi/cd-change",
    "scsi/failures",
    "scsi/hot-plug",
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


A_SCRIPT_IN = 2
"""Of all scripts, one in so many is recorded on an export: each needs a daemon."""

STOPS = 3
"""At how many events of a recorded script a replay stops, and another one goes on."""


def does_it_again(path: Path, trace: Path, options: Options, stops: int = 0) -> None:
    """The script holds while it is recorded, and its devices do it again without a guest; disks go on from anywhere."""
    report = run(path, replace(options, recording=Recording(trace)))
    assert not report.failures
    if report.skipped is None:
        assert goes_on_anywhere(trace, stops if has_disks_only(path) else 0) > 10
        trace.unlink()


@pytest.mark.long
@pytest.mark.parametrize(
    ("path", "way", "memory"), in_turn((path for path in SCRIPTS if name(path) in QUICK), [Way()]), ids=label
)
def test_a_recorded_script(path: Path, way: Way, memory: str, tmp_path: Path) -> None:
    does_it_again(path, tmp_path / "a.trace", Options("devmodels", memory, way))


def ways_in_turn() -> list[tuple[Path, Way, str]]:
    """Every script in its own way, and in one of the others, each with its kind of memory: the next one in the next."""
    return [
        case
        for number, path in enumerate(SCRIPTS)
        for case in in_turn([path], [Way(), WAYS[number // len(MEMORIES) % len(WAYS)]])
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("path", "way", "memory"), ways_in_turn(), ids=label)
def test_every_recorded_script_in_two_ways(path: Path, way: Way, memory: str, tmp_path: Path) -> None:
    does_it_again(path, tmp_path / "a.trace", Options("devmodels", memory, way), STOPS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "ring"), list(zip(SCRIPTS[::A_SCRIPT_IN], cycle(("split", "packed")), strict=False)), ids=label
)
def test_a_recorded_script_on_an_export(path: Path, ring: RingName, tmp_path: Path) -> None:
    does_it_again(path, tmp_path / "a.trace", Options("vhost-user", way=Way(ring)), STOPS)
