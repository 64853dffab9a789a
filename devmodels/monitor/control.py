"""The monitor itself: `query-version`, `query-commands`, `quit`."""

from __future__ import annotations

from functools import cache

import msgspec

from devmodels.monitor.world import World


class VersionTriple(msgspec.Struct):
    """Three numbers."""

    major: int
    minor: int
    micro: int


class VersionInfo(msgspec.Struct):
    """The member `qemu` is what clients look for; the numbers are ours."""

    qemu: VersionTriple
    package: str


@cache
def version_info() -> VersionInfo:
    """What speaks here."""
    from importlib.metadata import version  # slow to import, and for those only that are asked

    numbers = [*version("devmodels").split("."), "0", "0"][:3]
    triple = (int("".join(filter(str.isdigit, number)) or 0) for number in numbers)
    return VersionInfo(VersionTriple(*triple), "devmodels")


def version_of(world: World) -> VersionInfo:
    """What a world says it is: itself, or the one that it stands in for."""
    if world.stands_for is None:
        return version_info()
    return VersionInfo(VersionTriple(*world.stands_for), "")


async def query_version(world: World) -> VersionInfo:
    """What speaks here."""
    return version_of(world)


async def quit_(world: World) -> None:
    """End the daemon, or tell the embedder to."""
    world.events.emit("SHUTDOWN", {"guest": False, "reason": "host-qmp-quit"})
    world.quit()
