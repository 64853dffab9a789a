"""CDs for the guest, and whoever changes them meanwhile."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

import pycdlib

from .scsi import monitor, pattern
from .vm import Guest

BLOCK = 2048
FILES = {"small.txt": b"small\n", "large": pattern(7, 700_000)}


def iso(path: Path, files: Mapping[str, bytes]) -> Path:
    """An image with these files, by their names as Rock Ridge has them."""
    disc = pycdlib.PyCdlib()
    disc.new(interchange_level=3, rock_ridge="1.09")
    for number, (name, content) in enumerate(files.items()):
        disc.add_fp(io.BytesIO(content), len(content), f"/F{number}.;1", rr_name=name)
    disc.write(str(path))
    disc.close()
    return path


def cd_files(disc: Path, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """What `ata-cd.sh` is told of a disc with these files: `/cd` and `/sums`."""
    content = disc.read_bytes()
    about = f"blocks={len(content) // BLOCK}\nsum={hashlib.sha256(content).hexdigest()}\n"
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  /mnt/{name}\n" for name, data in files.items())
    return {"cd": about.encode(), "sums": sums.encode()}


def change_media(guest: Guest, folder: Path, drive: str, second: Path) -> None:
    """What the host's user does with `drive` while `ata-cd.sh` runs: the button, another disc, none."""
    guest.await_item("cd-locked")
    with monitor(folder) as client:
        client.execute("blockdev-open-tray", {"id": drive})
        guest.tell("go")
        guest.await_item("cd-eject")
        client.execute("blockdev-change-medium", {"id": drive, "filename": str(second)})
        guest.tell("go")
        guest.await_item("cd-medium-changed")
        client.execute("eject", {"id": drive})
        guest.tell("go")
