"""The scripts of the corpus over every transport and with both rings: what they say of a disk holds in each way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from guestsim.script.run import Options, ScriptReport, read_scripts
from guestsim.script.ways import Way, vary
from tests.qemu.conftest import qemu  # noqa: F401 - a fixture
from tests.scripts.corpus import loaded

FOLDER = Path(__file__).parent
SCRIPTS = sorted(FOLDER.rglob("*.guest.yaml"))
WAYS = (
    Way("packed", "pci"),
    Way("split", "pci-legacy"),
    Way("split", "mmio"),
    Way("packed", "mmio"),
    Way("split", "mmio-legacy"),
)
MEMORIES = ("shared", "bounced")
QUICK = ("scatter", "multi-queue", "framing", "hostile/lba-overflow", "hostile/reset-storm")
"""What is run each time; the rest takes its time."""

QEMU_DEPARTS = {
    ("mmio", "queue-reset-in-flight"): "offers RING_RESET and has no register QueueReset (VIRTIO 1.4 §4.2.2)",
    ("pci-legacy", "scsi/framing"): "does what it does not do otherwise where ANY_LAYOUT was negotiated",
    ("mmio-legacy", "scsi/framing"): "does what it does not do otherwise where ANY_LAYOUT was negotiated",
}
"""Transport and script to what QEMU 7.2 does otherwise there than over PCI."""


def run(path: Path, options: Options) -> ScriptReport:
    """The script in a file, the first one of a table's."""
    return read_scripts(path)[0].run(options)


def name(path: Path) -> str:
    return str(path.relative_to(FOLDER)).removesuffix(".guest.yaml")


def label(each: object) -> str:
    """A parameter in the name of a test."""
    return name(each) if isinstance(each, Path) else str(each) or "as-it-is"


def in_turn(paths: Iterable[Path], ways: Sequence[Way]) -> list[tuple[Path, Way, str]]:
    """Every script in every way, over the kinds of memory in turn: with the next way, or script, it is the other one.

    A list of ways that begins with one more, the script's own, has the other kind in all that follow.
    """
    return [
        (path, way, MEMORIES[number % len(MEMORIES)])
        for path in paths
        for number, way in enumerate(ways, SCRIPTS.index(path))
    ]


@pytest.mark.long
@pytest.mark.parametrize(
    ("path", "way", "memory"), in_turn((FOLDER / f"{each}.guest.yaml" for each in QUICK), WAYS), ids=label
)
def test_a_disk_is_a_disk_in_every_way(path: Path, way: Way, memory: str) -> None:
    report = run(path, Options("devmodels", memory, way))
    assert report.skipped is None
    assert not report.failures


@pytest.mark.slow
@pytest.mark.parametrize(("path", "way", "memory"), in_turn(SCRIPTS, WAYS), ids=label)
def test_a_script_in_another_way(path: Path, way: Way, memory: str) -> None:
    assert not run(path, Options("devmodels", memory, way)).failures


@pytest.mark.qemu
@pytest.mark.usefixtures("qemu")
@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("path", SCRIPTS, ids=name)
def test_a_script_in_another_way_on_qemu(path: Path, way: Way) -> None:
    departs = QEMU_DEPARTS.get((way.transport or "", name(path)))
    assert bool(run(path, Options("qemu", way=way)).failures) == (departs is not None), departs


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_many_scripts_hold_in_each_way(way: Way) -> None:
    held = [path for path in SCRIPTS if not isinstance(vary(loaded(path), way), str)]
    assert len(held) >= 35
