"""A disk that can be taken out: what a device with a tray says to those who act for its user, and what is left without
a medium."""

from __future__ import annotations

import errno
from typing import NoReturn, Protocol

from devmodels.blockbackend.node import BlockNode
from devmodels.blockbackend.options import NodeOptions
from devmodels.blockbackend.request import Request
from devmodels.iocontext import IoContext
from devmodels.trace import NO_DISC, PLAIN_DISC


def disc_of(node: BlockNode) -> str:
    """What a drive over a node has for a disc, as a trace says it."""
    if node.empty:
        return NO_DISC
    if node.disc is None:
        return PLAIN_DISC
    from devmodels.disc.text import to_text  # slow to import, and for discs with tracks only

    return to_text(node.disc)


class Tray(Protocol):
    """A drive's tray.  What is in it is the node of the drive's backend; the drive itself is told of it here."""

    @property
    def open(self) -> bool:
        """Whether it is open."""
        ...

    @property
    def locked(self) -> bool:
        """Whether the guest keeps it closed."""
        ...

    def request_eject(self, *, force: bool) -> None:
        """The user wants it open while it is locked: tell the guest; with `force`, unlock it."""
        ...

    def user_opens(self) -> None:
        """The user opens it."""
        ...

    def user_closes(self) -> None:
        """The user closes it, with what is in it."""
        ...


class EmptyNode(BlockNode):
    """What a backend leads to while there is no medium."""

    def __init__(self, context: IoContext) -> None:
        super().__init__(NodeOptions(driver="empty", discard="unmap"), context, 0)
        self.kept = False
        self.empty = True

    async def read(self, request: Request) -> NoReturn:  # noqa: ARG002
        """There is nothing."""
        raise OSError(errno.ENOMEDIUM, "no medium")

    write = flush = discard = write_zeroes = secure_erase = block_status = passthrough = read
