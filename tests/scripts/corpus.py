"""The scripts of this folder, each read once however many tests want to look at it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from guestsim.script.load import load
from guestsim.script.schema import Script


@cache
def loaded(path: Path) -> Script:
    """The script in a file with one."""
    return load(path)[0]


def has_disks_only(path: Path) -> bool:
    """Whether all devices of the script in a file are virtio-blk."""
    return all(str(device.get("driver")).startswith("virtio-blk") for device in loaded(path).devices)
