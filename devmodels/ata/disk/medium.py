"""Transfers between a host and the medium, and what becomes of a sector that cannot be had."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from devmodels.ata.command import AtaCommand, AtaError, MediumError
from devmodels.ata.constants import Error
from devmodels.ata.disk.requests import AtaRequest, LookingRequest
from devmodels.ata.transfer import Transfer
from devmodels.blockbackend import Flags, Op, Request
from devmodels.blockbackend.vectors import clear

if TYPE_CHECKING:
    from devmodels.ata.disk.disk import AtaDisk
    from devmodels.ata.taskfile import TaskFile


class MediumTransfer(Transfer):
    """`length` bytes at `offset` of the backend, read or written."""

    __slots__ = ("flags", "offset")

    def __init__(self, offset: int, length: int, *, out: bool, block: int, flags: Flags = Flags.NONE) -> None:
        super().__init__(length, out=out, block=block)
        self.offset = offset
        self.flags = flags

    def move(self, device: Any, command: AtaCommand, vectors: Sequence[memoryview], length: int) -> None:
        """Make a block request of the next `length` bytes; a read whose data is at hand is done at once."""
        offset = self.offset + command.moved
        if not self.out and device.bad.made:
            bad = device.first_bad(offset, length)
            if bad is not None:
                device.fail(command, device.bad.error(bad))
                return
        if not self.out and device.backend.read_now(((offset, vectors, length),)):
            device.moved(command, length)
            return
        request = AtaRequest(Op.WRITE if self.out else Op.READ, offset, length, vectors, self.flags, _done)
        request.command = command
        command.running = True
        device.backend.submit(request)

    def concluded(self, device: AtaDisk, command: AtaCommand) -> None:
        """Of QEMU's disk, count and address have gone with the sectors."""
        if device.violations.as_qemu and not command.queued:
            self.show(device, command, command.moved)

    def show(self, disk: AtaDisk, command: AtaCommand, moved: int) -> None:
        """Put the address behind so many bytes and what is left of the count into the task file, as QEMU's disk."""
        size, taskfile = disk.sector_size, command.taskfile
        disk.show_address(command, (self.offset + moved) // size)
        # A channel's previous content is as it was written.
        wide = disk.count_bits
        taskfile.count = taskfile.count & ~wide | (self.length - moved) // size & wide

    def shown(self, command: AtaCommand, moved: int) -> TaskFile:
        """A task file with the address behind so many bytes."""
        kept, command.taskfile = command.taskfile, command.taskfile.copy()
        self.show(command.device, command, moved)  # type: ignore[arg-type]
        shown, command.taskfile = command.taskfile, kept
        return shown


class BrokenTransfer(MediumTransfer):
    """One of QEMU's disk by DRQ data blocks, of which the medium has the first `reach` bytes: then it fails."""

    __slots__ = ("_reach",)

    def __init__(self, offset: int, length: int, *, out: bool, block: int, reach: int) -> None:
        super().__init__(offset, length, out=out, block=block)
        self._reach = reach

    @property
    def reach(self) -> int:
        """In whole data blocks."""
        return self._reach

    @property
    def lost(self) -> int:  # type: ignore[override]
        """The block that a host gives before the disk has looked where it is to go."""
        return min(self.block, self.length - self._reach) if self.out else 0

    def move(self, device: Any, command: AtaCommand, vectors: Sequence[memoryview], length: int) -> None:
        """Move a block that the medium has."""
        if command.moved < self._reach:
            super().move(device, command, vectors, length)
        else:
            device.fail(command, AtaError())

    def concluded(self, device: AtaDisk, command: AtaCommand) -> None:
        """The next block is not there."""
        super().concluded(device, command)
        raise AtaError


class RefusedTransfer(MediumTransfer):
    """One of QEMU's disk whose address is not looked at before the bus master has been started."""

    __slots__ = ()

    def move(self, device: Any, command: AtaCommand, vectors: Sequence[memoryview], length: int) -> None:  # noqa: ARG002
        """The medium does not have it."""
        device.fail(command, AtaError())


def _done(request: Request) -> None:
    """The request of a transfer has ended."""
    assert isinstance(request, AtaRequest)
    command = request.command
    disk: AtaDisk = command.device  # type: ignore[assignment]
    if not request.error:
        if request.op is Op.WRITE:
            disk.written(request.offset, request.length)
        disk.moved(command, request.length)
    elif request.op is Op.WRITE or command.dropped:
        disk.fail(command, MediumError(Error.ABRT, lba=disk.sector_of(request.offset)))
    else:
        clear(request.vectors)
        disk.start(command, find_bad_sector(disk, command, request.offset, request.length))


async def find_bad_sector(disk: AtaDisk, command: AtaCommand, offset: int, length: int) -> None:
    """End a read that failed with the address of the first sector that cannot be read (ACS-3 §6.3, UNC).

    A block request says only that something of it failed: halves of it are read again, for nobody.
    """
    size = disk.sector_size
    # What the host's memory takes in one go need not be whole sectors.
    first = offset // size
    count = -(-(offset + length) // size) - first
    while count > 1:
        half = count // 2
        if command.dropped or await can_read(disk, command, first * size, half * size):
            first += half
            count -= half
        else:
            count = half
    raise disk.bad.error(disk.sector_of(first * size))


SCRATCH = 1 << 20
"""How much is read at a time for nobody, in bytes."""


async def can_read(disk: AtaDisk, command: AtaCommand, offset: int, length: int) -> bool:
    """Whether these bytes can be read."""
    end = offset + length
    if disk.first_bad(offset, length) is not None:
        return False
    while offset < end:
        part = min(SCRATCH, end - offset)
        vectors = (memoryview(bytearray(part)),)
        request = LookingRequest(Op.READ, offset, part, vectors, Flags.NONE)
        if await disk.perform(command, request):
            return False
        offset += part
    return True
