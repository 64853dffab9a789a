"""A daemon starts quickly: it imports the devices and exports that it was asked for, and no others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys

DEVICES = ["ahci", "assembly", "ata", "ide_cdrom", "scsi", "virtio_blk", "virtio_scsi"]
EXPORTS = ["iscsi", "vfio_user", "vhost_user_blk", "vhost_user_scsi"]

def show():
    print(*(name for name in DEVICES if f"devmodels.{name}" in sys.modules),
        *(name for name in EXPORTS if f"devmodels.exports.{name}" in sys.modules),
        *(name for name in ("recording",) if f"devmodels.{name}" in sys.modules))

from devmodels.cli.main import main

sys.argv = ["devmodels", "--version"]
try:
    main()
except SystemExit:
    show()

from devmodels.cli.serve import Server

with Server(poll_max_ns=0, strict=False) as server:
    server.add_blockdev("driver=memory,size=1M,node-name=d0")
    server.add_export("type=vhost-user-blk,id=e0,node-name=d0,addr.type=unix,addr.path=e0.sock")
    server.add_chardev("socket,id=c0,path=c0.sock,server=on,wait=off")
    server.add_monitor("chardev=c0")
    show()
    server.add_device("virtio-scsi-pci,id=s0")
    show()
    server.add_device("ich9-ahci,id=a0")
    show()
"""


@pytest.mark.long
def test_what_is_not_asked_for_is_not_imported(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    version, for_version, for_blk, for_scsi, for_ata = done.stdout.splitlines()
    assert version.startswith("devmodels ")
    assert for_version.split() == []
    assert for_blk.split() == ["assembly", "virtio_blk", "vhost_user_blk"]
    assert for_scsi.split() == ["assembly", "scsi", "virtio_blk", "virtio_scsi", "vhost_user_blk"]
    assert {"ahci", "ata"} <= set(for_ata.split())


@pytest.mark.long
def test_options_that_are_text_are_taken_without_what_looks_at_others(tmp_path: Path) -> None:
    program = """
import sys
from devmodels.cli.main import main
try:
    main()
except SystemExit as end:
    print("pydantic" in sys.modules, end.code)
"""

    def said(*words: str) -> tuple[str, str]:
        options = ["--blockdev", "driver=file,filename=none,node-name=d0", "--export", "id=e0"]
        command = [sys.executable, "-c", program, "serve", "--strict", *options, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
        return done.stdout.strip(), done.stderr.strip()

    found, error = said()
    assert found == "False 2"
    assert "none" in error
    assert said("--poll-max-ns", "1")[0] == "True 2"
    found, error = said("--poll-max-ns", "-1")
    assert found == "True 2"
    assert "--poll-max-ns" in error
