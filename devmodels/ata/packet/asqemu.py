"""QEMU 7.2's ATAPI drive: how its packets (`qemupackets`) are done, and refused.

Facts are those of its IDE core and of its packet commands; where they depart from MMC-6 and ATA/ATAPI-7, the masks of
`guestsim diff` say by which clause.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from devmodels.ata.command import AtaCommand, AtaError
from devmodels.ata.constants import Error, Status, Transport
from devmodels.ata.device import AtaDevice
from devmodels.ata.packet import packet
from devmodels.ata.packet.device import PacketTask
from devmodels.ata.packet.packet import Blocks, MediumIn
from devmodels.ata.packet.qemupackets import (
    CHANGED,
    COMMANDS,
    FIELDS,
    INVALID_FIELD,
    INVALID_OPCODE,
    NO_MEDIUM,
    OUT_OF_RANGE,
    READING,
    USER_DATA,
    Answer,
    Extent,
    Refused,
    sense_data,
)
from devmodels.ata.packet.state import HEAD
from devmodels.ata.table import PENDING, Reply
from devmodels.ata.transfer import DataIn
from devmodels.ata.words import Words, altered
from devmodels.blockbackend.vectors import gather, window
from devmodels.scsi.constants import SenseKey
from devmodels.scsi.kind import UnitFront
from devmodels.scsi.mmc.medium import CD_BLOCKS
from devmodels.scsi.qemu import disc

if TYPE_CHECKING:
    from devmodels.ata.packet.device import AtapiDevice
    from devmodels.scsi.table import Reply as UnitReply
    from devmodels.scsi.task import Task

BLOCK, WHOLE = disc.BLOCK, 2352
"""Bytes of a block's data, and of all of a sector of a CD."""
SYNC = b"\0" + b"\xff" * 10 + b"\0"
MODE_1 = 1
CYCLE_NS, SLOW_NS = 180, 300
"""Cycle times of DMA, and of PIO without flow control."""
SLOTS = 32
MC = 0x20
"""Bit 5 of the error register (ATA/ATAPI-4 §7.9)."""
DMA = 1


class PacketFront(UnitFront, disc.MediaEvents):
    """What answers for `device`; its drive moves the tray and reads.

    `changed`: what comes next of a medium that its user has put in: 1 that there is none, 2 that it is another one.
    `buffer`: how the buffer begins through which everything goes.  `identity`: what it has told of itself, from the
    first time on that it was asked; empty before.
    """

    def __init__(self, device: AtapiDevice) -> None:
        self.device = device
        self.drive = device.drive
        self.backend = device.drive.backend
        self.changed = 0
        self.buffer = bytearray(HEAD)
        self.identity = b""

    # --- the drive

    @property
    def blocks(self) -> int:
        """The capacity, with the tray open or not."""
        return self.backend.size // BLOCK

    @property
    def present(self) -> bool:
        """Whether a medium is in the closed tray."""
        return self.drive.tray.loaded and self.blocks > 0

    @property
    def profile(self) -> int:
        """The current one."""
        if not self.present:
            return disc.NO_PROFILE
        return disc.CD_ROM if self.blocks <= CD_BLOCKS else disc.DVD_ROM

    def tray_moved(self, *, opened: bool) -> None:  # noqa: ARG002
        """The user has done it."""
        self.changed = 1
        self.medium_moved()
        self._ask()

    def asked_to_eject(self) -> None:
        """The user wishes it."""
        self.eject_requested = True
        self._ask()

    def _ask(self) -> None:
        if self.device.attention is not None:
            self.device.attention()

    def reset(self) -> None:
        """Every reset reaches the drive: the tray is closed, and nobody keeps it so."""
        self.device.sense = b""
        self.changed = 0
        self.drive.tray.allow_all()
        self.drive.tray.move_in()

    def process(self, task: Task) -> UnitReply:
        """Blocks are read, by a READ (12) of ours."""
        first, number = int.from_bytes(task.cdb[2:6], "big"), int.from_bytes(task.cdb[6:10], "big")
        return self.drive.read_blocks(task, first * BLOCK, number * BLOCK)

    def identify(self) -> DataIn:
        """IDENTIFY PACKET DEVICE."""
        self.identity = self.identity or _words(self.device).plain()
        self._put(self.identity)
        return DataIn(self.identity)

    def know(self, words: Mapping[int, int]) -> None:
        """Have other words in what was told first."""
        if self.identity:
            self.identity = altered(self.identity, words)

    # --- a packet

    def packet(self, command: AtaCommand) -> Reply:
        """Do the command that the host has sent, at once but for what is read."""
        taskfile, cdb = command.taskfile, command.packet
        if taskfile.features & packet.OVERLAP or cdb is None:
            raise AtaError
        self._count(command, 1)
        self.buffer[: len(cdb)] = cdb
        found = COMMANDS.get(cdb[0])
        try:
            if found is None or not found.always:
                if self.device.sense and self.device.sense[2] == SenseKey.UNIT_ATTENTION:
                    return self._repeated(command)
                self._tell_changed()
            if found is None:
                raise Refused(INVALID_OPCODE)
            if found.ready and not self.present:
                raise Refused(NO_MEDIUM)
            if found.data and not _can_move(command):
                return self._aborted(command)
            told = found.handler(self, cdb)
            if isinstance(told, Extent):
                if not _can_move(command):
                    return self._aborted(command)
                if cdb[0] == packet.READ_CD and cdb[9] & FIELDS not in (USER_DATA, FIELDS):
                    raise Refused(INVALID_FIELD)
                return self._reading(command, told)
        except Refused as refused:
            self.refuse(command, *refused.sense)
            return PENDING
        return None if told is None else self._answer(command, told)

    def _count(self, command: AtaCommand, value: int) -> None:
        """Show a count; on a cable its previous content stays."""
        command.taskfile.count = command.taskfile.count & ~self.device.count_bits | value

    def _tell_changed(self) -> None:
        if self.changed and self.drive.tray.loaded:
            first, self.changed = self.changed == 1, 2 if self.changed == 1 else 0
            raise Refused(NO_MEDIUM if first else CHANGED)

    def refuse(self, command: AtaCommand, key: int, code: int) -> None:
        """The sense key is shown in the error register, the rest is asked for."""
        self.device.sense = sense_data(key, code)
        self.device.fail(command, AtaError(key << 4))

    def failed(self, command: AtaCommand, key: int, code: int) -> None:
        """What could not be read was beyond the medium, whatever the reason was."""
        self.refuse(command, *((key, code) if key == SenseKey.NOT_READY else OUT_OF_RANGE))

    def _repeated(self, command: AtaCommand) -> Reply:
        """A unit attention that was told is told again, until it is asked for: an HBA hears nothing, and waits."""
        taskfile = command.taskfile
        self._count(command, 0)
        taskfile.status = Status.ERR
        taskfile.error = SenseKey.UNIT_ATTENTION << 4 | MC
        command.unheard = self.device.transport is Transport.SERIAL
        AtaDevice.finish(self.device, command)
        return PENDING

    def _aborted(self, command: AtaCommand) -> Reply:
        """Without a limit for its data a command is aborted; on a cable nobody is told."""
        command.taskfile.status, command.taskfile.error = Status.DRDY | Status.ERR, Error.ABRT
        command.unheard = self.device.transport is not Transport.SERIAL
        AtaDevice.finish(self.device, command)
        return PENDING

    # --- data

    def _answer(self, command: AtaCommand, told: Answer) -> Reply:
        self.buffer[: min(told.cleared, HEAD)] = bytes(min(told.cleared, HEAD))
        self._put(told.data[: told.written])
        data = told.data[: told.room]
        if not data and not self._waits(command):
            return None
        return DataIn(data, block=block_of(command, len(data)))

    def _put(self, data: bytes) -> None:
        part = data[:HEAD]
        self.buffer[: len(part)] = part

    def _waits(self, command: AtaCommand) -> bool:
        """Whether the bus master has to be started for data that there are none of."""
        by_dma = command.taskfile.features & DMA
        return bool(by_dma) and self.device.transport is not Transport.SERIAL

    def _reading(self, command: AtaCommand, extent: Extent) -> Reply:
        length = extent.number * (WHOLE if extent.whole else BLOCK)
        if extent.first + extent.number > self.blocks:
            # The last address is one of 32 bits, and the length less than nothing.
            length = 0
        if not length and not self._waits(command):
            return None
        return MediumIn(length, blocks_of(extent), block=block_of(command, length))

    def extent(self, cdb: bytes) -> Extent | None:
        """What a packet reads; None where it reads nothing."""
        if cdb[0] not in READING:
            return None
        try:
            told = COMMANDS[cdb[0]].handler(self, cdb)
        except Refused:
            return None
        return told if isinstance(told, Extent) else None

    def blocks_of(self, cdb: bytes) -> Blocks | None:
        """The same for a transfer."""
        extent = self.extent(cdb)
        return None if extent is None else blocks_of(extent)

    def ended(self, task: Task) -> None:
        """The buffer has what was the last to go through it."""
        assert isinstance(task, PacketTask)
        command = task.command
        extent = None if command.packet is None else self.extent(command.packet)
        if extent is None or not task.sent:
            return
        step = packet.AT_ONCE if command.taskfile.features & DMA and not extent.whole else 1
        last = extent.first + (extent.number - 1) // step * step
        if command.transfer is not None and not command.transfer.block and step == 1:
            # By PIO no more than a first one comes so far where no byte of it may be moved.
            last = extent.first
        first, number = int.from_bytes(task.cdb[2:6], "big"), int.from_bytes(task.cdb[6:10], "big")
        if first <= last < first + number:
            data = gather(window(task.data_in, (last - first) * BLOCK, HEAD))
            self._put(sector(last, data) if extent.whole else data)


def _words(device: AtapiDevice) -> Words:
    words = Words()
    words[0] = 0x85C0
    words.text(10, 10, device.serial)
    words[20], words[21], words[22] = 3, 512, 4
    words.text(23, 4, device.version)
    words.text(27, 20, device.model)
    words[48], words[49], words[53] = 1, 0x0300, 0x0007
    words[62] = words[63] = 0x0007
    words[64] = 0x0003
    words[65] = words[66] = words[68] = CYCLE_NS
    words[67] = SLOW_NS
    words[71] = words[72] = 30
    if device.transport is Transport.SERIAL:
        words[75], words[76] = SLOTS - 1, 0x0100
    words[80], words[88] = 0x001E, 0x203F
    if device.options.wwn:
        words[84] = words[87] = 0x0100
        for at in range(4):
            words[108 + at] = device.options.wwn >> 48 - 16 * at
    return words


def _can_move(command: AtaCommand) -> bool:
    return bool(command.taskfile.features & DMA or command.taskfile.lba >> 8 & 0xFFFF)


def block_of(command: AtaCommand, length: int) -> int:
    """Bytes in a DRQ data block: a limit that is odd holds for all there is, and is else one less."""
    limit = min(command.taskfile.lba >> 8 & 0xFFFF, packet.LARGEST_LIMIT)
    return limit if length <= limit else limit & ~1


def sector(lba: int, data: bytes) -> bytes:
    """A whole sector of mode 1 around its data: the address is binary, and nothing guards it."""
    return (SYNC + disc.address(lba) + bytes((MODE_1,)) + data).ljust(WHOLE, b"\0")


def sectors(first: int, data: bytes) -> bytes:
    """Whole sectors around the data of as many blocks, from `first` on."""
    parts = range(0, len(data), BLOCK)
    return b"".join(sector(first + at // BLOCK, data[at : at + BLOCK]) for at in parts)


def blocks_of(extent: Extent) -> Blocks:
    """The same for a transfer."""
    whole = extent.whole
    return Blocks(
        _read, extent.first, extent.number, WHOLE if whole else BLOCK, not whole, sectors if whole else None
    )


def _read(first: int, number: int) -> bytes:
    return bytes((packet.READ_12, 0)) + first.to_bytes(4, "big") + number.to_bytes(4, "big") + bytes(2)
