"""Fixtures: drives that are closed after the test, images of discs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.scsi.mmc import driveworld
from tests.unit.scsi.mmc.driveworld import DriveWorld, iso


@pytest.fixture
def insert() -> Iterator[Callable[..., DriveWorld]]:
    """`insert(node, **options)`: a drive with this medium."""
    worlds: list[DriveWorld] = []

    def build(*args: Any, **options: Any) -> DriveWorld:
        worlds.append(DriveWorld(*args, **options))
        return worlds[-1]

    yield build
    for world in worlds:
        world.close()


@pytest.fixture
def cd(insert: Callable[..., DriveWorld], tmp_path: Path) -> DriveWorld:
    """A drive with a CD of 300 blocks."""
    return insert(iso(tmp_path / "cd.iso"))


@pytest.fixture
def mixed(insert: Callable[..., DriveWorld], tmp_path: Path) -> DriveWorld:
    """A drive with a disc of four tracks: mode 1, mode 2, two of audio with a gap between them."""
    return insert({"driver": "cue", "filename": str(driveworld.mixed(tmp_path))})
