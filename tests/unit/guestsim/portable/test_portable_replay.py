"""A recorded guest, fed to other rings, transports and memories: every answer is the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from guestsim.cli import app
from guestsim.disk import Disk, boot
from guestsim.drivers import virtio_blk
from guestsim.guest import Guest
from guestsim.portable.run import replay
from guestsim.script.schema import RingName, TransportName
from guestsim.targets.daemon_exports import Exported
from guestsim.targets.inprocess import InProcessTarget
from guestsim.targets.qmp import Json
from guestsim.targets.storage_daemon import DEVMODELS_SERVE, DaemonProcess
from tests.unit.guestsim.portable.recorded import on, record


def some_work(disk: Disk) -> None:
    disk.write(4096, b"\xa5" * 8192, scatter=5)
    disk.requests(
        virtio_blk.read(4096, 4096, scatter=3), virtio_blk.read(8192, 4096), virtio_blk.write(0, b"\1" * 512)
    )
    disk.flush()
    disk.write_zeroes(4096, 1024)
    disk.discard(64 << 10, 4096)
    disk.read(64 << 10, 8192)
    disk.get_id()
    disk.set_write_cache(on=False)
    disk.read(4096, 8192)
    disk.request(virtio_blk.read(disk.capacity, 512))
    disk.reset()
    disk.read(0, 4096)


@pytest.mark.long
@pytest.mark.parametrize("memory", ["shared", "bounced"])
@pytest.mark.parametrize(
    ("ring", "transport"),
    [
        ("split", "pci"),
        ("packed", "pci"),
        ("split", "pci-legacy"),
        ("packed", "mmio"),
        ("split", "mmio-legacy"),
    ],
)
def test_on_every_ring_and_transport(
    tmp_path: Path, ring: RingName, transport: TransportName, memory: str
) -> None:
    trace = record(tmp_path / "a.trace", some_work, serial="one")
    tally = replay(trace, on(ring=ring, transport=transport, memory=memory)).tally
    assert (tally.differences, tally.stopped) == ([], "")
    assert (tally.requests, tally.compared, tally.equal) == (12, 12, 12)
    assert sum(tally.unknown.values()) == 1  # What was discarded.


def reads_and_writes(image: Path, trace: Path) -> None:
    """A guest on a disk that holds something already."""
    image.write_bytes(b"".join(bytes([n]) * 512 for n in range(64)))
    drive = {"driver": "file", "node-name": "d0", "filename": str(image)}
    with InProcessTarget(blockdevs=[drive], devices=[{"driver": "virtio-blk-pci", "drive": "d0"}]) as machine:
        machine.record(trace)
        disk = boot(Guest(machine))
        disk.write(1024, b"\xee" * 1024)
        disk.read(0, 8192)


def test_what_was_there_before_is_there_again(tmp_path: Path) -> None:
    image, trace = tmp_path / "disk.img", tmp_path / "a.trace"
    reads_and_writes(image, trace)
    image.unlink()
    tally = replay(trace, on()).tally
    assert (tally.equal, tally.different, tally.stopped) == (2, 0, "")


@pytest.mark.slow
def test_a_disk_of_somebody_elses_is_given_what_was_there_before(tmp_path: Path) -> None:
    image, trace = tmp_path / "disk.img", tmp_path / "a.trace"
    reads_and_writes(image, trace)
    image.write_bytes(b"\xff" * 32768)
    drive: dict[str, Json] = {"driver": "file", "node-name": "d0", "filename": str(image)}
    export: dict[str, Json] = {"type": "vhost-user-blk", "id": "e0", "node-name": "d0", "writable": True}
    daemon = DaemonProcess(DEVMODELS_SERVE, [drive], [Exported("e0", export)])
    try:
        tally = replay(trace, on(f"vhost-user:{daemon.sockets['e0']}")).tally
    finally:
        daemon.close()
    assert (tally.equal, tally.different, tally.stopped) == (2, 0, "")


def test_the_command_prints_figures(tmp_path: Path) -> None:
    trace = record(tmp_path / "a.trace", some_work)
    result = CliRunner().invoke(app, ["replay", str(trace), "--target", "devmodels", "--ring", "packed"])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[1].startswith("on devmodels, packed, pci, shared: 12 requests in ")
    assert lines[-1] == "12 equal, 0 differences"
    result = CliRunner().invoke(app, ["replay", str(trace), "--target", "devmodels", "--json"])
    told = json.loads(result.output)
    assert (told["ok"], told["compared"], told["different"]) == (True, 12, 0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--target", "nowhere"], "guestsim replay: --target: 'nowhere', expected one of"),
        (["--ring", "packed"], "guestsim replay: --ring: packed is given, expected --target with it"),
        (["--target", "devmodels", "--device", "vd7"], "no device 'vd7', expected one of vd0"),
        (
            ["--target", "devmodels", "--qtest-log", "q"],
            "--qtest-log: devmodels is the target, expected qemu",
        ),
        (
            ["--target", "qemu-storage-daemon", "--transport", "mmio"],
            "--transport: mmio is given, expected none with qemu-storage-daemon",
        ),
        (
            ["--target", "qemu", "--memory", "bounced"],
            "--memory: bounced is given, expected shared with qemu: that of our own devices alone can be bounced",
        ),
        (
            ["--target", "devmodels", "--transport", "pci-legacy", "--ring", "packed"],
            "--ring: the legacy interface has no packed ring",
        ),
    ],
)
def test_a_wrong_option_is_one_line(
    tmp_path: Path, options: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = record(tmp_path / "a.trace", some_work)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    result = CliRunner().invoke(app, ["replay", str(trace), *options])
    assert result.exit_code == 2
    assert words in result.output
    assert len(result.output.splitlines()) == 1
    assert list(here.iterdir()) == []
