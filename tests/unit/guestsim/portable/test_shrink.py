"""A device with a defect, and a recorded guest that meets it: found by replay, and shrunk to a script."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from typer.testing import CliRunner

from guestsim.cli import app
from guestsim.disk import Disk
from guestsim.drivers import virtio_blk
from guestsim.portable.run import replay
from guestsim.portable.shrink.shrink import Shrunk, shrink
from guestsim.replay import replay as exact_replay
from guestsim.script.run import Options, read_scripts
from tests.unit.guestsim.portable import defects
from tests.unit.guestsim.portable.programs import SIZE, RandomGuest
from tests.unit.guestsim.portable.recorded import on, record

Defect = Callable[[], AbstractContextManager[None]]


def some_traffic(disk: Disk) -> None:
    """Writes, zeroes and neighbouring reads here and there, in no order."""
    chance = random.Random(1)
    for turn in range(8):
        at = chance.randrange(200) * 4096
        match turn % 4:
            case 0:
                disk.write(at, chance.randbytes(8192), scatter=2)
            case 1:
                disk.requests(*(virtio_blk.read(at + n * 8192, 4096) for n in range(3)))
            case 2:
                disk.flush()
                disk.write(at, b"\x33" * 512)
                disk.write(at + 8192, b"\x44" * 512)
            case _:
                disk.read(at, 4096)
    disk.write_zeroes(0, 65536)
    disk.write(8192, b"\xa5" * 4096)
    disk.requests(virtio_blk.read(4096, 4096), virtio_blk.read(8192, 4096), virtio_blk.read(65536, 512))
    disk.flush()


def many_requests(disk: Disk) -> None:
    for number in range(260):
        disk.flush() if number % 3 else disk.read(number * 512, 512)


@pytest.fixture(scope="module")
def traffic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("traces") / "traffic.trace", some_traffic)


@pytest.fixture(scope="module")
def little(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def work(disk: Disk) -> None:
        disk.write_zeroes(0, 4096)
        disk.write(512, b"\xa5" * 512)
        disk.read(512, 512)

    return record(tmp_path_factory.mktemp("traces") / "little.trace", work)


def fails(script: Path) -> bool:
    (read,) = read_scripts(script)
    report = read.run(Options())
    assert report.error is None
    return not report.ok


def yaml(script: Path) -> Any:
    return YAML(typ="safe").load(script)


def found_and_shrunk(trace: Path, defect: Defect, out: Path) -> Shrunk:
    """What is right passes; with the defect both replays fail, and so does the script, which passes without it."""
    assert exact_replay(trace).ok
    assert replay(trace, on()).tally.ok
    with defect():
        assert not exact_replay(trace).ok
        assert not replay(trace, on()).tally.ok
        shrunk = shrink(trace, out)
        assert shrunk.path == out
        assert fails(out)
    assert not fails(out)
    return shrunk


@pytest.mark.long
@pytest.mark.parametrize(
    ("defect", "requests"),
    [
        (defects.swapped_reads, 3),
        pytest.param(defects.stale_zeroes, 3, marks=pytest.mark.slow),
        pytest.param(defects.forgotten_request, 3, marks=pytest.mark.slow),
    ],
)
def test_a_defect_is_found_and_shrunk(traffic: Path, tmp_path: Path, defect: Defect, requests: int) -> None:
    shrunk = found_and_shrunk(traffic, defect, tmp_path / "out.guest.yaml")
    assert shrunk.requests == requests
    assert shrunk.failure


@pytest.mark.long
def test_what_makes_the_device_raise_is_shrunk(traffic: Path, tmp_path: Path) -> None:
    shrunk = found_and_shrunk(traffic, defects.raises_on_zeroes, tmp_path / "out.guest.yaml")
    assert shrunk.requests == 1
    assert "the target raised KeyError" in shrunk.first
    assert "the target raised KeyError" in shrunk.failure


@pytest.mark.slow
def test_a_request_whose_pieces_matter_is_made_shorter(tmp_path: Path) -> None:
    def work(disk: Disk) -> None:
        disk.write(0, b"\xa5" * (128 << 10), scatter=32)
        disk.read(0, 128 << 10)

    trace = record(tmp_path / "a.trace", work)
    out = tmp_path / "out.guest.yaml"
    with defects.cut_write():
        assert shrink(trace, out).path == out
        assert fails(out)
    assert not fails(out)
    (write,) = (step for step in yaml(out)["steps"] if "request" in step)
    assert 8192 < write["request"]["data"]["length"] <= 16384
    assert len(write["request"]["readable-split"]) == 3


@pytest.mark.slow
def test_what_is_wrong_on_the_disk_and_nobody_reads_is_read_by_the_script(tmp_path: Path) -> None:
    def work(disk: Disk) -> None:
        for number in range(10):
            disk.write(number << 14, bytes([number]) * 16384, scatter=4)
            disk.flush()

    trace = record(tmp_path / "a.trace", work)
    shrunk = found_and_shrunk(trace, defects.cut_write, tmp_path / "out.guest.yaml")
    assert "content of the disk" in shrunk.first
    assert "data at byte" in shrunk.failure
    assert shrunk.requests == 2


@pytest.mark.slow
def test_a_write_that_another_one_destroys(tmp_path: Path) -> None:
    def work(disk: Disk) -> None:
        disk.write(0, b"\x11" * 512)
        disk.flush()
        disk.write(65536, b"\x22" * 4096)
        disk.reset()

    trace = record(tmp_path / "a.trace", work)
    shrunk = found_and_shrunk(trace, defects.write_at_the_beginning, tmp_path / "out.guest.yaml")
    assert shrunk.requests == 3


@pytest.mark.long
def test_the_same_trace_gives_the_same_script(little: Path, tmp_path: Path) -> None:
    with defects.stale_zeroes():
        shrunk = [shrink(little, tmp_path / f"{n}.guest.yaml") for n in range(2)]
    first, second = ((tmp_path / f"{n}.guest.yaml").read_text() for n in range(2))
    assert first == second
    assert shrunk[0].runs == shrunk[1].runs


@pytest.mark.slow
def test_when_the_runs_are_used_up_the_shortest_so_far_is_saved(traffic: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.guest.yaml"
    with defects.stale_zeroes():
        shrunk = shrink(traffic, out, most=8)
        assert fails(out)
    assert shrunk.runs == 8
    assert 3 < shrunk.requests < 36


ANY = [defects.swapped_reads, defects.stale_zeroes, defects.write_at_the_beginning]
"""Those that show whatever else is in flight: a script has one queue at work after the other, not two at one time."""


@pytest.mark.slow
@settings(max_examples=60)
@given(seed=st.integers(0, 1 << 32), defect=st.sampled_from(ANY))
def test_what_a_random_guest_meets_is_shrunk(seed: int, defect: Defect) -> None:
    """The script fails on the device that has the defect, and on no other."""
    with TemporaryDirectory() as folder:
        trace = record(Path(folder, "a.trace"), RandomGuest(seed, 10), size=SIZE, num_queues=2, queue_size=32)
        out = Path(folder, "out.guest.yaml")
        with defect():
            if replay(trace, on()).tally.ok:
                return
            shrunk = shrink(trace, out)
            assert shrunk.path == out
            assert shrunk.requests <= 4
            assert fails(out)
        assert not fails(out)


@pytest.mark.slow
def test_what_comes_after_many_requests_is_shrunk_to_a_repetition(tmp_path: Path) -> None:
    trace = record(tmp_path / "a.trace", many_requests)
    shrunk = found_and_shrunk(trace, defects.lost_interrupt, tmp_path / "out.guest.yaml")
    assert (shrunk.requests, shrunk.steps) == (256, 2)
    assert "waited for" in shrunk.failure


@pytest.mark.long
def test_what_no_driver_sees_is_kept_as_a_shorter_trace(traffic: Path, tmp_path: Path) -> None:
    with defects.empty_flush():
        assert replay(traffic, on()).tally.ok
        shrunk = shrink(traffic, tmp_path / "out.guest.yaml")
        assert shrunk.path == tmp_path / "out.trace"
        again = exact_replay(shrunk.path).difference
    assert again is not None
    assert shrunk.events == again.number + 1
    assert exact_replay(shrunk.path).ok


@pytest.mark.long
def test_the_command_says_what_it_saved(little: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.guest.yaml"
    arguments = ["replay", str(little), "--shrink", "-o", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, result.output) == (0, "nothing fails: there is nothing to shrink\n")
    assert not out.exists()
    with defects.stale_zeroes():
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 1
        first, second, third = result.output.splitlines()
        assert "queue 0 head" in first
        assert second.startswith(f"{out}: 3 requests in 4 steps, ")
        assert "data at byte 0: 00 00" in third
        told = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).output)
    assert (told["fails"], told["kind"], told["requests"]) == (True, "script", 3)


def test_options_of_shrinking_are_judged(little: Path) -> None:
    for more, words in (
        (["--shrink", "--ring", "packed"], "--ring: packed is given, expected none with --shrink"),
        (["-o", "x"], "--output: x is given, expected --shrink with it"),
        (["--shrink", "-o", "/nowhere/x"], "/nowhere/x: cannot be written: there is no /nowhere"),
    ):
        result = CliRunner().invoke(app, ["replay", str(little), *more])
        assert result.exit_code == 2
        assert words in result.output
        assert len(result.output.splitlines()) == 1
