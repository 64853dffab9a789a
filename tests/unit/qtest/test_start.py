"""The stand-in starts quickly: it imports what its machine has, and what is slow to import when it is first needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, sys

os._exit = lambda status: print(*(name for name in {names} if name in sys.modules))
from devmodels.qtest.main import main

sys.argv[0] = "devmodels-system-x86_64"
main()
"""
SLOW = """
    argparse asyncio cProfile concurrent.futures construct copy ctypes dataclasses email hashlib http importlib.metadata
    json logging multiprocessing pathlib pdb pickle pydantic qemu rich ruamel.yaml ssl subprocess
    inspect tempfile traceback typer typing_extensions unittest urllib zstandard
"""
"""Modules that cost milliseconds each; who needs one imports it where it is needed."""
COMMANDS = "ata.disk.commands ata.packet.commands scsi.disk.commands scsi.mmc.commands"
"""Tables of commands, with all that does them: a device has one when its first command comes."""
OTHERS = {
    "ide": "ahci ata.packet scsi virtio virtio_blk virtio_scsi",
    "ide-cd": "ahci ata.disk scsi.disk virtio virtio_blk virtio_scsi",
    "ahci": "ata.packet ide_cdrom scsi virtio virtio_blk virtio_scsi",
    "ahci-cd": "ata.disk ide_cdrom scsi.disk virtio virtio_blk virtio_scsi",
    "virtio-blk": "ahci ata.disk ata.packet scsi virtio.mmio virtio.packed virtio_scsi",
    "virtio-scsi": "ahci ata.disk ata.packet scsi.mmc.drive virtio.mmio virtio.packed virtio_blk",
    "virtio-scsi-cd": "ahci ata.disk ata.packet scsi.disk.disk virtio.mmio virtio_blk",
    "none": "ahci ata ide_cdrom scsi virtio virtio_blk virtio_scsi",
}
MONITOR = ["monitor", "recording", "telemetry", "exports", "cli", "tracefile.reader", "tracefile.writer"]
DISK = ["-nodefaults", "-drive", "if=none,id=d0,file=null-co://,format=raw", "-device"]
MACHINES = {
    "ide": ["-machine", "pc", *DISK, "ide-hd,drive=d0,bus=ide.0"],
    "ide-cd": ["-machine", "pc", *DISK, "ide-cd,drive=d0,bus=ide.0"],
    "ahci": ["-machine", "q35", *DISK, "ide-hd,drive=d0,bus=ide.0"],
    "ahci-cd": ["-machine", "q35", *DISK, "ide-cd,drive=d0,bus=ide.0"],
    "virtio-blk": ["-machine", "pc", *DISK, "virtio-blk-pci,drive=d0,addr=4.0"],
    "virtio-scsi": ["-machine", "pc", *DISK, "virtio-scsi-pci,addr=4.0", "-device", "scsi-hd,drive=d0"],
    "virtio-scsi-cd": ["-machine", "pc", *DISK, "virtio-scsi-pci,addr=4.0", "-device", "scsi-cd,drive=d0"],
    "none": ["-machine", "none"],
}


@pytest.mark.parametrize("kind", MACHINES)
def test_what_a_machine_does_not_have_is_not_imported(kind: str, tmp_path: Path) -> None:
    names = [
        *SLOW.split(),
        *(f"devmodels.{name}" for name in (*COMMANDS.split(), *OTHERS[kind].split(), *MONITOR)),
    ]
    # Without the interpreter's site: there, other packages' hooks may import what they like.
    paths = [path for path in sys.path if path]
    program = f"import sys; sys.path[:] = {paths}\n" + PROGRAM.format(names=names)
    line = [*MACHINES[kind], "-accel", "qtest", "-display", "none", "-qtest", "stdio"]
    done = subprocess.run(
        [sys.executable, "-S", "-c", program, *line],
        input="outl 0xcf8 0x80000000\n",
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    answer, imported = done.stdout.split("\n")[:2]
    assert (answer, imported.split()) == ("OK", [])
