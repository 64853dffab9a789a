"""Our own export and our own initiator in one context, with no network between them."""

from __future__ import annotations

import socket
from typing import Any

from devmodels.blockbackend import BlockNode
from devmodels.iocontext import IoContext
from tests.unit.blockbackend.support import Disk
from tests.unit.exports.iscsi.initiator import TARGET, World


class Link:
    """A transport to an export in the same context; `socks` are the export's ends, in order."""

    outside = False

    def __init__(self, world: World, export: str = "e0") -> None:
        self._world = world
        self._export = export
        self.socks: list[socket.socket] = []
        self.down = 0
        """How many further connections are refused."""

    async def connect(self, context: IoContext, host: str, port: int) -> socket.socket:
        """A socket that the export takes for one of its portal's."""
        if self.down:
            self.down -= 1
            raise ConnectionRefusedError(111, "Connection refused")
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.socks.append(theirs)
        self._world.export.portal.welcome(theirs)
        return ours

    def cut(self) -> None:
        """The connection breaks."""
        self.socks[-1].shutdown(socket.SHUT_RDWR)


def options(**more: object) -> dict[str, object]:
    """A node's options."""
    given: dict[str, object] = {
        "driver": "iscsi",
        "transport": "tcp",
        "portal": "127.0.0.1",
        "target": TARGET,
        "node-name": "i0",
        "discard": "unmap",
    }
    return given | {key.replace("_", "-"): value for key, value in more.items()}


def open_disk(world: World, **more: Any) -> Disk:
    """The export as a disk."""
    node: BlockNode = world.graph.add(options(**more))
    return Disk(node)
