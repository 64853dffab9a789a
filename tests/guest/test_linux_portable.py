"""A Linux guest is recorded; its requests are answered alike elsewhere, and defects it meets are shrunk to scripts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from guestsim.portable.machine import Place
from guestsim.portable.run import replay
from guestsim.portable.shrink.shrink import shrink
from guestsim.replay import replay as exact_replay
from guestsim.script.needs import parse_target
from guestsim.script.run import Options, read_scripts
from guestsim.script.schema import RingName
from tests.unit.guestsim.portable import defects

from .backends import devmodels_serve
from .conftest import ROW, needed
from .vm import run_guest

pytestmark = pytest.mark.guest

SIZE = 256 << 20

Properties = Callable[[str, object], None]


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Linux makes an ext4, works on it, and trims it; SeaBIOS has looked for something to boot before."""
    folder = tmp_path_factory.mktemp("portable")
    image, path = folder / "disk.img", folder / "a.trace"
    with image.open("wb") as file:
        file.truncate(SIZE)
    expected = f"sectors={SIZE // 512}\nblock_size=512\nqueues=1\npacked=0\nmodern=1\npart=16m\n"
    files = {"expected": expected.encode(), "host.bin": os.urandom(1 << 20)}
    with needed(), devmodels_serve(image, folder, more=["--record", str(path)]) as backend:
        run = run_guest("ext4.sh", backend, files=files)
    assert run.failure is None
    return path


@pytest.mark.parametrize(
    ("target", "ring"),
    [("devmodels", "split"), ("devmodels", "packed"), ("qemu-storage-daemon", "split"), ("qemu", "packed")],
)
def test_its_requests_are_answered_alike(
    trace: Path, target: str, ring: RingName, record_property: Properties
) -> None:
    program = {"qemu": "qemu-system-x86_64"}.get(target, target)
    if target != "devmodels" and shutil.which(program) is None:
        pytest.skip(f"needs {program}")
    tally = replay(trace, Place(parse_target(target), ring)).tally
    assert (tally.differences, tally.stopped) == ([], "")
    assert tally.compared > 400
    assert tally.compared + sum(tally.skipped.values()) == tally.requests
    record_property(
        ROW, f"{f'{target} {ring}':28} {tally.seconds:>5.2f}  {tally.equal} of {tally.requests} equal"
    )


@pytest.mark.parametrize(
    ("defect", "requests", "steps"),
    [(defects.lost_interrupt, 256, 2), (defects.swapped_reads, 3, 3), (defects.stale_zeroes, 3, 4)],
)
def test_a_defect_that_it_meets_becomes_a_short_script(
    trace: Path,
    tmp_path: Path,
    record_property: Properties,
    defect: Callable[[], AbstractContextManager[None]],
    requests: int,
    steps: int,
) -> None:
    out = tmp_path / "out.guest.yaml"
    with defect():
        assert not exact_replay(trace).ok
        shrunk = shrink(trace, out)
        (script,) = read_scripts(out)
        assert not script.run(Options()).ok
    assert script.run(Options()).ok
    assert shrunk.requests <= requests
    assert shrunk.steps <= steps
    said = f"{shrunk.requests} requests, {shrunk.steps} steps, {shrunk.lines} lines, {shrunk.runs} runs"
    record_property(ROW, f"{defect.__name__:28} {said}")


def test_what_only_the_exact_replay_sees_is_a_shorter_trace(trace: Path, tmp_path: Path) -> None:
    with defects.empty_flush():
        shrunk = shrink(trace, tmp_path / "out.guest.yaml")
    assert shrunk.path == tmp_path / "out.trace"
    assert 0 < shrunk.events < 1000
