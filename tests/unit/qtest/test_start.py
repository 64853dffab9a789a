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
    argparse asyncio bitarray cProfile concurrent.futures construct copy ctypes dataclasses email hashlib http
    importlib.metadata json logging msgspec.inspect multiprocessing pathlib pdb pickle platform pydantic qemu rich
    ruamel.yaml selectors socket ssl subprocess datetime inspect tempfile textwrap traceback typer typing_extensions
    unittest urllib zstandard
"""
"""Modules that cost milliseconds each; who needs one imports it where it is needed."""
COMMANDS = "ata.disk.commands ata.packet.commands scsi.disk.commands scsi.mmc.commands"
"""Tables of commands, with all that does them: a device has one when its first command comes."""
CD = "scsi.layout.mmc_cdb scsi.layout.mmc_data scsi.mmc.audio scsi.mmc.drivepages scsi.modes"
"""What only some commands of a CD drive have to do with."""
OTHERS = {
    "ide": "ahci ata.packet scsi virtio virtio_blk virtio_scsi",
    "ide-cd": f"{CD} ahci ata.disk scsi.disk virtio virtio_blk virtio_scsi",
    "ahci": "ata.packet ide_cdrom scsi virtio virtio_blk virtio_scsi",
    "ahci-cd": f"{CD} ata.disk ide_cdrom scsi.disk virtio virtio_blk virtio_scsi",
    "virtio-blk": "ahci ata.disk ata.packet scsi virtio.mmio virtio.packed virtio_scsi",
    "virtio-scsi": "ahci ata.disk ata.packet scsi.mmc.drive virtio.mmio virtio.packed virtio_blk",
    "virtio-scsi-cd": f"{CD} ahci ata.disk ata.packet scsi.disk.disk virtio.mmio virtio_blk",
    "none": "ahci ata ide_cdrom scsi virtio virtio_blk virtio_scsi",
}
MONITOR = [
    "blockbackend.listing",
    "monitor",
    "recording",
    "telemetry",
    "exports",
    "cli",
    "tracefile.reader",
    "tracefile.writer",
]
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


@pytest.mark.long
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


def test_what_msgspec_was_imported_without_is_there_for_who_wants_it_later(tmp_path: Path) -> None:
    program = """
import os

def later(status):
    import datetime, platform, textwrap, uuid
    import msgspec
    class Told(msgspec.Struct):
        "Told."
        when: datetime.datetime
        who: uuid.UUID
    print(msgspec.json.schema(Told)["$defs"]["Told"]["required"])
    print(msgspec.json.decode(b'{"when": "2020-01-02T03:04:05", "who": "%s"}' % (b"0" * 32), type=Told).when)
    print(msgspec.inspect.type_info(int) == msgspec.inspect.IntType())
    print(platform.system() == os.uname().sysname, platform.machine() == os.uname().machine)
    print(textwrap.dedent(" a"), datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC))

os._exit = later
import sys
from devmodels.qtest.main import main
sys.argv = ["devmodels-system-x86_64", "-version"]
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.split("\n")[1:-1] == [
        "['when', 'who']",
        "2020-01-02 03:04:05",
        "True",
        "True True",
        "a 2020-01-02 00:00:00+00:00",
    ]
