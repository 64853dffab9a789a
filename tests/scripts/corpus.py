"""The scripts of this folder, each read once however many tests want to look at it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from guestsim.script.load import load_all
from guestsim.script.schema import Script


def loaded(path: Path) -> Script:
    """The script in a file, the first one of a table's."""
    return all_loaded(path)[0]


@cache
def all_loaded(path: Path) -> tuple[Script, ...]:
    """The scripts in a file."""
    return tuple(script for script, _ in load_all(path))


def has_disks_only(path: Path) -> bool:
    """Whether all devices of the script in a file are virtio-blk."""
    return all(str(device.get("driver")).startswith("virtio-blk") for device in loaded(path).devices)
