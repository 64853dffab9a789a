"""Transfers: what of a command's data is to be moved, piece by piece, between its host adapter and the device.

A transfer is plain data: how far it has come is in its command (`moved`), so that one of several DRQ data blocks can
wait for its guest as long as it likes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from devmodels.blockbackend.vectors import gather, scatter

if TYPE_CHECKING:
    from devmodels.ata.command import AtaCommand
    from devmodels.ata.table import Pending
    from devmodels.ata.taskfile import TaskFile
    from devmodels.iocontext import Coro


class Transfer:
    """`length` bytes from the device, or with `out` to it; `block` bytes at a time where they go in DRQ data blocks.

    Without `exact` fewer bytes may be moved than `length` says, as the device finds out.
    """

    __slots__ = ("block", "length", "out")

    sector = 0
    """Bytes in a block of a packet device's medium, where the data is of such."""

    exact = True

    lost = 0
    """How many bytes a host gives beyond `reach`, before it hears that they cannot be written."""

    def __init__(self, length: int, *, out: bool, block: int) -> None:
        self.length = length
        self.out = out
        self.block = block

    @property
    def reach(self) -> int:
        """How many bytes can be moved: all, but of some transfers of QEMU's disk."""
        return self.length

    @property
    def chunk(self) -> int:
        """How many bytes go by DMA at a time in QEMU's packet device."""
        return self.length

    def move(self, device: Any, command: AtaCommand, vectors: Sequence[memoryview], length: int) -> None:
        """Move the next `length` bytes, from `command.moved` on, and call `device.moved(command, length)`.

        Or fail the command.
        """
        raise NotImplementedError

    def shown(self, command: AtaCommand, moved: int) -> TaskFile:  # noqa: ARG002
        """What QEMU's device shows when so many bytes have gone."""
        return command.taskfile

    def concluded(self, device: Any, command: AtaCommand) -> Coro[None] | Pending | None:
        """All has been moved: what there is still to do, as what a handler may return; AtaError."""


class DataIn(Transfer):
    """Bytes that the device has ready."""

    __slots__ = ("data",)

    def __init__(self, data: bytes, *, block: int = 512) -> None:
        super().__init__(len(data), out=False, block=block)
        self.data = data

    def move(self, device: Any, command: AtaCommand, vectors: Sequence[memoryview], length: int) -> None:
        """Copy them out."""
        scatter(vectors, self.data[command.moved : command.moved + length])
        device.moved(command, length)


class DataOut(Transfer):
    """`length` bytes that the device wants as a whole: `then(device, command, data)` is given them.

    They are copied out as they come and judged from the copy.
    """

    __slots__ = ("data", "then")

    def __init__(
        self, length: int, then: Callable[[Any, AtaCommand, bytes], Coro[None] | None], *, block: int = 512
    ) -> None:
        super().__init__(length, out=True, block=block)
        self.data = bytearray()
        self.then = then

    def move(self, device: Any, command: AtaCommand, vectors: Sequence[memoryview], length: int) -> None:
        """Copy them in."""
        self.data += gather(vectors)[:length]
        device.moved(command, length)

    def concluded(self, device: Any, command: AtaCommand) -> Coro[None] | None:
        """Let the handler have them."""
        return self.then(device, command, bytes(self.data))
