"""Fixtures: exports and initiators, closed after the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from .initiator import Initiator, World


@pytest.fixture
def make() -> Iterator[Callable[..., World]]:
    """Worlds with the options that are given."""
    worlds: list[World] = []

    def build(**options: object) -> World:
        worlds.append(World(**options))  # type: ignore[arg-type]
        return worlds[-1]

    yield build
    for world in worlds:
        world.close()


@pytest.fixture
def world(make: Callable[..., World]) -> World:
    return make()


@pytest.fixture
def initiator(world: World) -> Initiator:
    """Logged in, with the defaults of all keys, and told that the disk was reset."""
    found = world.login()
    found.ready()
    return found
