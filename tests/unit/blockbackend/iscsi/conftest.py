"""Fixtures: an export, and nodes that reach it without a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from devmodels.blockbackend.drivers.iscsi.node import IscsiNode
from tests.unit.exports.iscsi.initiator import World

from .ours import Link


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., World]]:
    """Worlds with an export of the options that are given, which nodes are connected to."""
    worlds: list[World] = []

    def build(**given: object) -> World:
        world = World(**given)  # type: ignore[arg-type]
        worlds.append(world)
        monkeypatch.setattr(IscsiNode, "transport", Link(world))
        return world

    yield build
    for world in worlds:
        for node in [each for each in world.graph.nodes.values() if isinstance(each, IscsiNode)]:
            world.graph.delete(node.node_name, force=True)
        world.context.run_until_idle()
        world.close()


@pytest.fixture
def world(make: Callable[..., World]) -> World:
    return make()
