"""What QEMU says of a thread that is not there, against what is said here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.blockbackend.qemuio import need

pytestmark = pytest.mark.qemu

NODE = "driver=null-co,node-name=d0,read-zeroes=on"
MACHINE = ("-machine", "q35", "-nodefaults", "-display", "none")


def complaint(*command: str) -> str:
    """The last part of what a program says when it refuses to start."""
    need(command[0])
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode != 0
    return done.stderr.strip()


def test_an_export_on_a_thread_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "e0.sock"
    export = f"type=vhost-user-blk,id=e0,node-name=d0,addr.type=unix,addr.path={path},iothread=t9"
    theirs = complaint("qemu-storage-daemon", "--blockdev", NODE, "--export", export)
    ours = complaint(sys.executable, "-m", "devmodels", "serve", "--blockdev", NODE, "--export", export)
    text = 'iothread "t9" not found'
    assert theirs.endswith(text)
    assert ours.endswith(text)


def test_a_device_on_a_thread_that_is_not_there() -> None:
    device = "virtio-blk-pci,drive=d0,iothread=t9"
    theirs = complaint("qemu-system-x86_64", *MACHINE, "-blockdev", NODE, "-device", device)
    program = (
        "from devmodels.assembly import assemble\n"
        "nodes = [{'driver': 'null-co', 'node-name': 'd0'}]\n"
        "device = {'driver': 'virtio-blk-pci', 'drive': 'd0', 'iothread': 't9'}\n"
        "assemble(blockdevs=nodes, devices=[device], clock='wall')\n"
    )
    ours = complaint(sys.executable, "-c", program)
    text = "Device 't9' not found"
    assert theirs.endswith(text)
    assert ours.endswith(text)
