"""Fixtures: a server with a device that holds its requests, and one that answers at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .frontend import World, front_end_mappings, open_files


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Requests stay with the device until the test gives them back."""
    found = World(tmp_path)
    yield found
    found.close()


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[World]:
    """Requests are answered at once."""
    found = World(tmp_path, immediate=True)
    yield found
    found.close()


@pytest.fixture
def tidy(world: World) -> Iterator[World]:
    """As `world`; afterwards nothing of a front end may be left, and the next one must be served."""
    with world.front_end() as first:
        first.up(rings=2)
    before = open_files()
    assert front_end_mappings() == []
    yield world
    while world.device.held:
        world.device.give_back()
    world.context.run_until_idle()
    assert open_files() == before
    assert front_end_mappings() == []
    with world.front_end() as following:
        (ring,) = following.up()
        head = ring.add()
        following.kick(0)
        world.device.give_back()
        following.run()
        assert ring.taken_back() == [(head, 16)]
