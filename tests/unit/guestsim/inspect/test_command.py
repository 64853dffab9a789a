"""`guestsim inspect` as its users meet it: output and exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from devmodels.elfcore import write_core
from devmodels.memory import GuestMemory
from devmodels.memoryregions import SharedRegion
from guestsim.cli import app

from .rings import BASE, SplitRing


@pytest.fixture
def ring() -> SplitRing:
    ring = SplitRing(size=128)
    ring.add(*ring.memory.blk(1, 7, 512))
    return ring


def place(ring: SplitRing) -> str:
    return f"desc={ring.desc:#x},driver={ring.driver:#x},device={ring.device:#x},size={ring.at.size}"


def run(ring: SplitRing, folder: Path, *arguments: str) -> Result:
    write_core(GuestMemory(SharedRegion(BASE, ring.memory.bytes)), folder / "core")
    return CliRunner().invoke(app, ["inspect", str(folder / "core"), *arguments], env={"COLUMNS": "120"})


def test_a_ring_is_shown(ring: SplitRing, tmp_path: Path) -> None:
    result = run(ring, tmp_path, "--vq", place(ring))
    assert result.exit_code == 0
    assert "available idx 1, used idx 0" in result.output
    assert "1 buffer is with the device" in result.output
    assert "OUT" in result.output
    assert "nothing that the specification forbids" in result.output


def test_json(ring: SplitRing, tmp_path: Path) -> None:
    result = run(ring, tmp_path, "--json", "--vq", place(ring), "--vq", place(ring) + ",type=other")
    one, other = json.loads(result.output)
    assert one["buffers"][0]["request"]["sector"] == 7
    assert other["buffers"][0]["request"] is None
    assert (one["outstanding"], one["problems"]) == (1, [])


def test_what_is_broken_is_told_with_its_clause(ring: SplitRing, tmp_path: Path) -> None:
    ring.expose(200)
    result = run(ring, tmp_path, "--vq", place(ring))
    assert result.exit_code == 1
    assert "names descriptor 200 of 128 (VIRTIO 1.4 §2.7.13)" in result.output


def test_a_ring_is_found(ring: SplitRing, tmp_path: Path) -> None:
    result = run(ring, tmp_path, "--find", "--json")
    (state,) = json.loads(result.output)
    assert (state["desc"], state["size"], state["outstanding"]) == (ring.desc, 128, 1)
    assert state["score"] > 50
    shown = run(ring, tmp_path, "--find").output
    assert f"found, {state['score']} of 100: {state['why'][0]}" in shown


def test_nothing_is_found(tmp_path: Path) -> None:
    result = run(SplitRing(), tmp_path, "--find")
    assert (result.exit_code, result.output) == (0, "no virtqueue was found\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "no virtqueue is named"),
        (("--find", "--step", "48"), "--step 48, expected a power of two from 16 to 4096"),
        (("--vq", "desc=1"), "driver and device and size missing"),
    ],
)
def test_wrong_options_are_one_line(
    ring: SplitRing, tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    result = run(ring, tmp_path, *arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_wrong_core_is_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["inspect", str(tmp_path), "--vq", "desc=0,driver=2,device=4,size=4"])
    assert result.exit_code == 2
    assert result.stderr == f"guestsim inspect: {tmp_path}: cannot be read: Is a directory\n"
