"""Fixtures: a world that is closed after the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.unit.scsi.initiator import World


@pytest.fixture
def make() -> Iterator[Callable[..., World]]:
    worlds: list[World] = []

    def build(*args: object, **options: object) -> World:
        worlds.append(World(*args, **options))  # type: ignore[arg-type]
        return worlds[-1]

    yield build
    for world in worlds:
        world.close()


@pytest.fixture
def world(make: Callable[..., World]) -> World:
    return make()
