"""Makes the traces in tests/data anew: `python -m tests.guest.record_piece [NAME]`.

`linux-ext4`: a stock Linux behind SeaBIOS makes and mounts an ext4 and works on files; the recording ends at its limit.
`linux-scsi`: a stock Linux on a SCSI host with two units, and a third that comes and goes.
`linux-vfio`: a stock Linux on two PCI functions: a disk by its legacy interface, and a SCSI host by its modern one.
`linux-ahci`, `linux-ide`: a stock Linux's ahci and ata_piix: two disks and a CD, an error, a command that hangs.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from guestsim.replay.cut import cut

from .ata_piece import AHCI, IDE, Host, ata
from .backends import devmodels_serve
from .scsi import MIB, Unit, image, monitor, scsi_serve
from .several import FUNCTIONS, several
from .test_linux_scsi_units import marked, plug, unplug
from .vm import Guest, run_guest

DATA = Path(__file__).parents[1] / "data"
PIECE = DATA / "linux-ext4.trace"
SCSI_PIECE = DATA / "linux-scsi.trace"
VFIO_PIECE = DATA / "linux-vfio.trace"
AHCI_PIECE = DATA / "linux-ahci.trace"
IDE_PIECE = DATA / "linux-ide.trace"
LIMIT = "190k"


def ext4(folder: Path, trace: Path) -> None:
    """A guest's day, as far as the limit goes."""
    disk = folder / "disk.img"
    with disk.open("wb") as file:
        file.truncate(32 << 20)
    files = {"expected": b"size=2m\n", "host.bin": bytes(range(256)) * 4096}
    options = ["--strict", "--record", str(trace), "--record-limit", LIMIT]
    with devmodels_serve(disk, folder, more=options) as backend:
        run_guest("recorded.sh", backend, files=files).check("files")


SCSI_ITEMS = (
    "unit-came",
    "asked",
    "changed",
    "reserved",
    "filesystem",
    "unit-gone",
    "unit-grown",
)


def scsi(folder: Path, trace: Path) -> None:
    """All of it."""
    units = [Unit(image(folder, "disk.img", b"", 4 * MIB), 0, 0), marked(folder, 0, 1, 64 << 10)]
    new = marked(folder, 1, 0, 64 << 10)
    whole = folder / "whole.trace"

    def come_and_go(guest: Guest) -> None:
        guest.await_item("ready")
        plug(folder, new)
        guest.await_item("settled")
        unplug(folder, new)
        guest.await_item("unit-gone")
        with monitor(folder) as client:
            client.execute("block_resize", {"node-name": units[0].name, "size": 8 * MIB})

    options = ["--strict", "--record", str(whole)]
    with scsi_serve(units, folder, 2, options) as backend:
        files = {"host.bin": bytes(range(256)) * 64}
        run = run_guest(
            "scsi-piece.sh", backend, files=files, cpus=2, queues=2, timeout=240, attend=come_and_go
        )
    for item in SCSI_ITEMS:
        run.check(item)
    cut(whole, sys.maxsize, trace)


def vfio(folder: Path, trace: Path) -> None:
    """All of it: a legacy disk and a modern SCSI host."""
    whole = folder / "whole.trace"
    functions = [each for each in FUNCTIONS if each.name in ("legacy-blk", "modern-scsi")]
    files = {"expected": b"queues=2\nlight=1\n", "host.bin": bytes(range(256)) * 256}
    run = several(folder, functions, files, ("--strict", "--record", str(whole)))
    run.check("end")
    for item in run.results:
        run.check(item)
    cut(whole, sys.maxsize, trace)


def ata_host(host: Host, folder: Path, trace: Path) -> None:
    """All of it."""
    whole = folder / "whole.trace"
    run = ata(folder, host, ("--strict", "--record", str(whole)))
    run.check("end")
    for item in run.results:
        run.check(item)
    cut(whole, sys.maxsize, trace)


PIECES: dict[str, tuple[Path, Callable[[Path, Path], None]]] = {
    "linux-ext4": (PIECE, ext4),
    "linux-scsi": (SCSI_PIECE, scsi),
    "linux-vfio": (VFIO_PIECE, vfio),
    "linux-ahci": (AHCI_PIECE, partial(ata_host, AHCI)),
    "linux-ide": (IDE_PIECE, partial(ata_host, IDE)),
}


def main() -> None:
    """Record those that are named, or all of them."""
    for name in sys.argv[1:] or PIECES:
        path, record = PIECES[name]
        path.unlink(missing_ok=True)
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            # The path of a host's socket is in its trace.
            stack.callback(os.chdir, os.getcwd())
            os.chdir(folder)
            record(Path(), path)


if __name__ == "__main__":
    main()
