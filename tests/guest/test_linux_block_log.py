"""A guest's block I/O is recorded: its kernel's own record of it agrees, and it is done again, without the guest."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from devmodels.tracefile import TraceReader
from guestsim.blocklog.blkparse import read_blkparse
from guestsim.blocklog.events import Begin, Event, Lines, Losses
from guestsim.blocklog.traces import read_trace
from guestsim.cli import app

from .backends import devmodels_serve
from .conftest import Check, needed
from .host import tool
from .initramfs import TOOLS, libraries
from .vm import GuestRun, run_guest

pytestmark = pytest.mark.guest

SIZE = 256 << 20


@dataclass(frozen=True, slots=True)
class Story:
    """What the guest did: on its disk, by our trace, by its own kernel."""

    run: GuestRun
    image: Path
    trace: Path

    def recorded(self) -> list[Event]:
        """By our trace."""
        with TraceReader(self.trace) as reader:
            return list(read_trace(reader, Losses()))

    def traced(self) -> list[Event]:
        """By its kernel."""
        lines = [line[4:] for line in self.run.console.splitlines() if line.startswith("BLK ")]
        return list(read_blkparse(Lines(lines, "blkparse"), Losses()))


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("log")
    image, trace = folder / "disk.img", folder / "a.trace"
    with image.open("wb") as file:
        file.truncate(SIZE)
    with needed():
        files = {"host.bin": os.urandom(1 << 20)}
        there = {path for name, package in TOOLS.items() for path in libraries(tool(name, package))}
        for name in ("blktrace", "blkparse"):
            program = tool(name, "blktrace")
            files[name] = program.read_bytes()
            missing = set(libraries(program)) - there
            files |= {str(path).lstrip("/"): path.read_bytes() for path in missing}
        with devmodels_serve(image, folder, more=["--record", str(trace)]) as backend:
            return Story(run_guest("blktrace.sh", backend, files=files), image, trace)


def _requests(events: list[Event]) -> list[tuple[str, int, int]]:
    """What was asked for, in order; blkparse doesn't tell writes of zeroes from others."""
    return [
        (event.op.name.replace("WRITE_ZEROES", "WRITE"), event.offset, event.length)
        for event in events
        if isinstance(event, Begin)
    ]


def test_the_guest_s_kernel_tells_the_same_requests(story: Story, check: Check) -> None:
    check(story.run, "traced")
    ours, theirs = _requests(story.recorded()), _requests(story.traced())
    assert len(theirs) > 200
    # Its record begins with the script, and ours with the search for partitions.
    before = len(ours) - len(theirs)
    assert 0 <= before < 20
    assert ours[before:] == theirs


@pytest.mark.parametrize("way", [["--direct"], ["--device", "virtio-blk-pci,packed=on"]])
def test_the_disk_is_the_guest_s_again(way: list[str], story: Story, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        file.truncate(SIZE)
    node = f"driver=file,filename={image},node-name=d0,discard=unmap"
    arguments = ["io", str(story.trace), "--blockdev", node, "--speed", "max", "--check", *way]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert image.read_bytes() == story.image.read_bytes()


def test_fio_does_what_the_guest_did(story: Story, tmp_path: Path) -> None:
    image, log = tmp_path / "disk.img", tmp_path / "a.iolog"
    with image.open("wb") as file:
        file.truncate(SIZE)
    assert CliRunner().invoke(app, ["convert", str(story.trace), str(log)]).exit_code == 0
    options = ["--ioengine=psync", "--replay_no_stall=1", "--minimal", "--name=a"]
    command = ["fio", f"--read_iolog={log}", f"--replay_redirect={image}", *options]
    fields = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split(";")
    requests = _requests(story.recorded())
    for field, op in ((5, "READ"), (46, "WRITE")):
        assert int(fields[field]) == sum(length for name, _, length in requests if name == op) // 1024
