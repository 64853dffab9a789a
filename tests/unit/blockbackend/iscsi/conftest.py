"""Fixtures: an export, and nodes that reach it without a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from devmodels.blockbackend.drivers.iscsi.node import IscsiNode
from devmodels.iocontext import IoContext
from tests.unit.blockbackend.support import Disk
from tests.unit.exports.iscsi.initiator import World

from .ours import Link, options
from .target import Target


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


@pytest.fixture
def context() -> Iterator[IoContext]:
    """A clock that jumps."""
    found = IoContext.virtual()
    yield found
    found.close()


@pytest.fixture
def target(context: IoContext, monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
    """A target that nodes are connected to, and that does what a test says."""
    found = Target(context)
    monkeypatch.setattr(IscsiNode, "transport", found)
    yield found
    found.close()


@pytest.fixture
def opened(target: Target) -> Iterator[Callable[..., Disk]]:
    """Disks over that target."""
    disks: list[Disk] = []

    def build(**given: object) -> Disk:
        disks.append(Disk(options(**given), context=target.context))
        return disks[-1]

    yield build
    for disk in disks:
        disk.backend.close()
        disk.node.close()
    target.context.run_until_idle()
    assert not target.context.awaited


@pytest.fixture
def disk(opened: Callable[..., Disk]) -> Disk:
    return opened()
