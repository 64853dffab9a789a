"""Fixtures: a server with a function of the tests' own, and a client that has introduced itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .client import MEMORY_NAME, Client, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Afterwards nothing of a client may be left."""
    found = World(tmp_path)
    yield found
    found.close()
    with open("/proc/self/maps") as maps:
        assert not [line for line in maps if MEMORY_NAME in line]
    assert found.memory.regions == ()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One for many clients."""
    found = World(tmp_path_factory.mktemp("vfio"))
    yield found
    found.close()


@pytest.fixture
def client(world: World) -> Iterator[Client]:
    with world.client() as found:
        yield found
