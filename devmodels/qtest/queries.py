"""Queries of QEMU's machines that a daemon's monitor has no use for, and the button that a machine has.

There are no jobs here, so the queries for them are answered with none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from devmodels.monitor.command import Run
from devmodels.monitor.world import World
from devmodels.qtest.pciinfo import PciInfo, pci_info

if TYPE_CHECKING:
    from devmodels.qtest.assembling import Assembling
    from devmodels.qtest.channels import Channel


class ChardevInfo(msgspec.Struct, rename="kebab"):
    """A character device; that of the client's own connection is called `qtest`."""

    label: str
    filename: str
    frontend_open: bool


class NameInfo(msgspec.Struct):
    """The machine's name: it has none."""


class Job(msgspec.Struct):
    """What runs beside the guest: nothing does."""

    id: str


class Queries:
    """The queries of one machine."""

    def __init__(self, assembling: Assembling) -> None:
        self._launch = assembling.launch
        self._board = assembling.board

    def table(self) -> dict[str, Run]:
        """By name."""
        return {
            "query-block-jobs": query_block_jobs,
            "query-chardev": self.query_chardev,
            "query-jobs": query_jobs,
            "query-name": query_name,
            "query-pci": self.query_pci,
            "system_powerdown": system_powerdown,
        }

    async def query_pci(self, _world: World) -> list[PciInfo]:
        """What is on the PCI buses."""
        return pci_info(self._board)

    async def query_chardev(self, _world: World) -> list[ChardevInfo]:
        """The connections."""
        found = sorted(self._launch.channels.known.items(), key=lambda each: each[0] != "qtest")
        return [ChardevInfo(name, _filename(where), where is not None) for name, where in found]


def _filename(where: Channel) -> str:
    if where is None:
        return "null"
    return where if where == "stdio" else where.filename


async def query_name(_world: World) -> NameInfo:
    """No name."""
    return NameInfo()


async def query_jobs(_world: World) -> list[Job]:
    """No jobs."""
    return []


async def query_block_jobs(_world: World) -> list[Job]:
    """No jobs."""
    return []


async def system_powerdown(world: World) -> None:
    """Press the button: there is no ACPI that a guest would hear of it by."""
    world.events.emit("POWERDOWN", {})
