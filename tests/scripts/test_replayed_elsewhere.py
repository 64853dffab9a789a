"""The scripts of the corpus, recorded, and their requests fed to other rings and transports, to QEMU and its daemon."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from guestsim.portable.machine import Place
from guestsim.portable.run import replay
from guestsim.script.needs import parse_target
from guestsim.script.recording import Recording
from guestsim.script.run import Options
from guestsim.script.schema import RingName, TransportName
from tests.qemu.conftest import missing_tools
from tests.scripts.corpus import has_disks_only, loaded
from tests.scripts.test_ways import SCRIPTS, name, run

QUICK = (
    "merging",
    "resize",
    "stop",
    "werror-enospc",
    "hostile/data-outside-memory",
)
"""What is run each time."""

ELSEWHERE: list[tuple[RingName, TransportName]] = [
    ("packed", "pci"),
    ("packed", "mmio"),
    ("split", "pci-legacy"),
    ("split", "mmio-legacy"),
]
RECORDED = [path for path in SCRIPTS if "devmodels" in loaded(path).targets and has_disks_only(path)]


def is_answered_alike(path: Path, trace: Path, *places: Place) -> None:
    """The script holds while it is recorded; what each device was asked is answered alike elsewhere."""
    report = run(path, Options(recording=Recording(trace)))
    assert not report.failures
    for place in places:
        for number, options in enumerate(loaded(path).devices):
            tally = replay(trace, place, device=str(options.get("id", f"vd{number}"))).tally
            assert (place, tally.differences, tally.stopped) == (place, [], "")
            assert tally.compared + sum(tally.skipped.values()) == tally.requests


@pytest.mark.parametrize("path", [path for path in RECORDED if name(path) in QUICK], ids=name)
def test_a_script_on_another_ring(path: Path, tmp_path: Path) -> None:
    is_answered_alike(
        path, tmp_path / "a.trace", Place(parse_target("devmodels"), "packed", "mmio", "bounced")
    )


@pytest.mark.slow
@pytest.mark.parametrize("path", RECORDED, ids=name)
def test_every_script_elsewhere(path: Path, tmp_path: Path) -> None:
    ours = parse_target("devmodels")
    places = [Place(ours, ring, transport) for ring, transport in ELSEWHERE]
    is_answered_alike(path, tmp_path / "a.trace", *places)


@pytest.mark.qemu
@pytest.mark.parametrize("path", RECORDED, ids=name)
def test_every_script_on_qemu(path: Path, tmp_path: Path) -> None:
    _needs(missing_tools())
    is_answered_alike(path, tmp_path / "a.trace", Place(parse_target("qemu"), "packed", "pci"))


@pytest.mark.qemu
@pytest.mark.parametrize("path", RECORDED, ids=name)
def test_every_script_on_the_storage_daemon(path: Path, tmp_path: Path) -> None:
    daemon = "qemu-storage-daemon"
    _needs([] if shutil.which(daemon) else [daemon])
    is_answered_alike(path, tmp_path / "a.trace", Place(parse_target(daemon), "split"))


def _needs(missing: list[str]) -> None:
    if missing:
        reason = f"needs {' and '.join(missing)}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
