"""PACKET: one command of the drive's, its data in DRQ data blocks or by DMA (ATA/ATAPI-7 vol. 1 §6.24).

The drive does a command with a few bytes of data at once, and its data is then sent.  Commands that read the medium
are looked at first without room for their data (what is wrong with them comes out, and how much they return); then the
medium is read piece by piece, as the host takes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from devmodels.ata.command import AtaCommand, AtaError
from devmodels.ata.table import PENDING, Pending, Reply
from devmodels.ata.transfer import DataIn, Transfer
from devmodels.blockbackend.vectors import gather, scatter
from devmodels.disc.disc import BLOCK
from devmodels.scsi.mmc.audio import msf_range
from devmodels.scsi.mmc.reading import LARGEST, READ_CD_MSF
from devmodels.scsi.sense import CheckCondition
from devmodels.scsi.table import Data

if TYPE_CHECKING:
    from devmodels.ata.packet.device import AtapiDevice, PacketTask

DMA, OVERLAP = 0x01, 0x02
"""Features of PACKET (ATA/ATAPI-7 vol. 1 §6.24.4)."""
LARGEST_LIMIT = 0xFFFE

REQUEST_SENSE, READ_12, READ_CD = 0x03, 0xA8, 0xBE
AT_ONCE = 64
"""So many blocks go by DMA at a time in QEMU's drive."""
PIECE = 32
"""So many blocks are read at a time where they do not go straight to the host's memory."""


class Blocks(NamedTuple):
    """What a command reads: `cdb(first, number)` is one that reads some of them, each of at most `most` bytes.

    `fixed`: all of them have so many.  `made` makes what the host gets, from a block on, of what was read.
    """

    cdb: Callable[[int, int], bytes]
    first: int
    number: int
    most: int
    fixed: bool
    made: Callable[[int, bytes], bytes] | None = None


def byte_count_limit(command: AtaCommand) -> int:
    """The most bytes in a DRQ data block; 0 where there is no limit that could be kept to.

    An odd limit holds for a last block alone, so that it is as good as the even one below (§6.24.4).
    """
    return min(command.taskfile.lba >> 8 & 0xFFFF, LARGEST_LIMIT) & ~1


def packet(device: AtapiDevice, command: AtaCommand) -> Reply:
    """Do the command that the host has sent."""
    features, cdb = command.taskfile.features, command.packet
    if features & OVERLAP or cdb is None:
        raise AtaError
    block = byte_count_limit(command)
    data, most = device.drive.transfer(cdb)
    if most and not block and not features & DMA:
        raise AtaError
    if cdb[0] == REQUEST_SENSE and device.sense:
        kept, device.sense = device.sense, b""
        return _answer(command, kept[: cdb[4]], block)
    device.sense = b""
    if data is Data.OUT and most:
        return PacketOut(most, block=block)
    blocks = blocks_of(device, cdb)
    if blocks is not None:
        device.run(command, cdb, partial(_begin_reading, device, blocks, block))
    else:
        room = bytearray(most)
        data_in = (memoryview(room),) if most else ()
        device.run(command, cdb, partial(_done, device, room, block), data_in=data_in)
    return PENDING


def _answer(command: AtaCommand, data: bytes, block: int) -> Transfer:
    """Data for the host; an odd byte count limit holds where one block is all."""
    limit = min(command.taskfile.lba >> 8 & 0xFFFF, LARGEST_LIMIT)
    return DataIn(data, block=limit if len(data) == limit else block)


def _done(device: AtapiDevice, room: bytearray, block: int, task: PacketTask) -> None:
    data = bytes(room[: task.sent])
    device.settle(task.command, _answer(task.command, data, block) if data else None)


def _begin_reading(device: AtapiDevice, blocks: Blocks, block: int, task: PacketTask) -> None:
    device.settle(task.command, MediumIn(task.wanted, blocks, block=block) if task.wanted else None)


def blocks_of(device: AtapiDevice, cdb: bytes) -> Blocks | None:
    """What a command reads of the medium; None where it is no such command."""
    if device.violations.as_qemu:
        return device.front.blocks_of(cdb)
    lba = int.from_bytes(cdb[2:6], "big")
    match cdb[0]:
        case 0x28:
            return Blocks(partial(_read, cdb), lba, int.from_bytes(cdb[7:9], "big"), BLOCK, fixed=True)
        case 0xA8:
            return Blocks(partial(_read, cdb), lba, int.from_bytes(cdb[6:10], "big"), BLOCK, fixed=True)
        case 0xBE:
            number = int.from_bytes(cdb[6:9], "big")
            return Blocks(partial(_read_cd, cdb), lba, number, LARGEST, fixed=False)
        case 0xB9:
            try:
                first, end = msf_range(device.drive, READ_CD_MSF.unpack(cdb), READ_CD_MSF)
            except CheckCondition:
                # The drive will say the same of it.
                first = end = 0
            return Blocks(partial(_read_cd, cdb), first, end - first, LARGEST, fixed=False)
        case _:
            return None


def _read(cdb: bytes, first: int, number: int) -> bytes:
    return bytes((READ_12, cdb[1])) + first.to_bytes(4, "big") + number.to_bytes(4, "big") + bytes(2)


def _read_cd(cdb: bytes, first: int, number: int) -> bytes:
    where = first.to_bytes(4, "big") + number.to_bytes(3, "big")
    return bytes((READ_CD, cdb[1])) + where + cdb[9:12]


class MediumIn(Transfer):
    """`length` bytes of the medium's blocks.

    `next` is the first block that has not been read yet; `ready` are bytes that have, and that nobody has taken yet.
    """

    __slots__ = ("blocks", "next", "ready")

    @property
    def sector(self) -> int:  # type: ignore[override]
        """Bytes in a block."""
        return self.blocks.most

    @property
    def chunk(self) -> int:
        """Whole sectors one by one, others 64 at a time."""
        return self.blocks.most * (AT_ONCE if self.blocks.made is None else 1)

    def __init__(self, length: int, blocks: Blocks, *, block: int) -> None:
        super().__init__(length, out=False, block=block)
        self.blocks = blocks
        self.next = blocks.first
        self.ready = bytearray()

    def move(self, device: Any, command: AtaCommand, vectors: Sequence[memoryview], length: int) -> None:
        """Read whole blocks straight into `vectors`, or through what is ready."""
        blocks = self.blocks
        if self.ready or not blocks.fixed or length % blocks.most:
            self._fill(device, command, vectors, length)
            return
        number = length // blocks.most
        cdb = blocks.cdb(self.next, number)
        device.run(command, cdb, partial(self._went_straight, device, number, length), data_in=vectors)

    def _went_straight(self, device: AtapiDevice, number: int, length: int, task: PacketTask) -> None:
        if task.sent < length:
            device.fail(task.command, AtaError())
            return
        self.next += number
        device.moved(task.command, length)

    def _fill(
        self, device: AtapiDevice, command: AtaCommand, vectors: Sequence[memoryview], length: int
    ) -> None:
        if self.ready and len(self.ready) >= length:
            scatter(vectors, self.ready[:length])
            del self.ready[:length]
            device.moved(command, length)
            return
        blocks = self.blocks
        number = min(PIECE, blocks.first + blocks.number - self.next)
        room = bytearray(number * blocks.most)
        cdb = blocks.cdb(self.next, number)

        def read(task: PacketTask) -> None:
            if not task.sent:
                # The medium is not what it was.
                device.fail(command, AtaError())
                return
            data = bytes(room[: task.sent])
            self.ready += data if blocks.made is None else blocks.made(self.next, data)
            self.next += number
            self._fill(device, command, vectors, length)

        device.run(command, cdb, read, data_in=(memoryview(room),))


class PacketOut(Transfer):
    """The parameters of a command, which is done when all of them are there."""

    __slots__ = ("data",)

    def __init__(self, length: int, *, block: int) -> None:
        super().__init__(length, out=True, block=block)
        self.data = bytearray()

    def move(self, device: Any, command: AtaCommand, vectors: Sequence[memoryview], length: int) -> None:
        """Copy them in."""
        self.data += gather(vectors)[:length]
        device.moved(command, length)

    def concluded(self, device: Any, command: AtaCommand) -> Pending:
        """Let the drive have them."""
        assert command.packet is not None
        device.run(command, command.packet, partial(_taken, device), data_out=(memoryview(self.data),))
        return PENDING


def _taken(device: AtapiDevice, task: PacketTask) -> None:
    device.settle(task.command, None)
