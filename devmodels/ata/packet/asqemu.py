"""QEMU 7.2's ATAPI drive: which packets it has, what it answers, and how it refuses.

Facts are those of its IDE core and of its packet commands; where they depart from MMC-6 and ATA/ATAPI-7, the masks of
`guestsim diff` say by which clause.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from devmodels.ata.command import AtaCommand, AtaError
from devmodels.ata.constants import Error, Status, Transport
from devmodels.ata.device import AtaDevice
from devmodels.ata.packet import packet
from devmodels.ata.packet.device import PacketTask
from devmodels.ata.packet.packet import Blocks, MediumIn
from devmodels.ata.packet.state import HEAD
from devmodels.ata.table import PENDING, Reply
from devmodels.ata.transfer import DataIn
from devmodels.ata.words import Words, altered
from devmodels.blockbackend.vectors import gather, window
from devmodels.scsi.constants import DeviceType, SenseKey
from devmodels.scsi.kind import UnitFront
from devmodels.scsi.mmc.medium import CD_BLOCKS
from devmodels.scsi.qemu import disc, toc

if TYPE_CHECKING:
    from devmodels.ata.packet.device import AtapiDevice
    from devmodels.scsi.table import Reply as UnitReply
    from devmodels.scsi.task import Task

BLOCK, WHOLE = disc.BLOCK, 2352
"""Bytes of a block's data, and of all of a sector of a CD."""
SYNC = b"\0" + b"\xff" * 10 + b"\0"
HEADER = 16
MODE_1 = 1
CYCLE_NS, SLOW_NS = 180, 300
"""Cycle times of DMA, and of PIO without flow control."""
SLOTS = 32
LONGEST_CONFIGURATION = 512
IDENTIFICATION = 0x83
CURRENT, SAVED = 0, 3
"""Page control of MODE SENSE (10)."""
MC = 0x20
"""Bit 5 of the error register (ATA/ATAPI-4 §7.9)."""
DMA = 1
FIELDS, USER_DATA = 0xF8, 0x10
"""Which parts of a sector READ CD asks for."""

ILLEGAL = SenseKey.ILLEGAL_REQUEST
INVALID_OPCODE, INVALID_FIELD, OUT_OF_RANGE = (ILLEGAL, 0x20), (ILLEGAL, 0x24), (ILLEGAL, 0x21)
INCOMPATIBLE, UNSAVED, NO_ROOM = (ILLEGAL, 0x30), (ILLEGAL, 0x39), (ILLEGAL, 0x4B)
NO_MEDIUM, CHANGED = (SenseKey.NOT_READY, 0x3A), (SenseKey.UNIT_ATTENTION, 0x28)
LOCKED = 0x53


class Refused(Exception):
    """A packet is refused with a sense key and an additional sense code."""

    def __init__(self, sense: tuple[int, int]) -> None:
        super().__init__(sense)
        self.sense = sense


class Answer(NamedTuple):
    """What goes into the buffer, and how many bytes of that the host has room for.

    First so many are `cleared`; only what is `written` is put there then, of data that end with zeroes.
    """

    data: bytes
    room: int
    cleared: int = 0
    written: int = HEAD


class Extent(NamedTuple):
    """Blocks that are read: the data of each, or `whole` sectors."""

    first: int
    number: int
    whole: bool


Told = Answer | Extent | None
"""What a packet leads to: data, blocks of the medium, nothing."""


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


def sense_data(key: int = 0, code: int = 0) -> bytes:
    """Fixed, with a key and an additional sense code, and INFORMATION said to be valid."""
    return bytes((0xF0, 0, key, 0, 0, 0, 0, 10, 0, 0, 0, 0, code, 0, 0, 0, 0, 0))


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


# --- commands: what they are told is their packet


def _word(cdb: bytes, at: int) -> int:
    return int.from_bytes(cdb[at : at + 2], "big")


def nothing(_front: PacketFront, _cdb: bytes) -> None:
    """Done."""


def request_sense(front: PacketFront, cdb: bytes) -> Answer:
    """Sense data stay until another packet fails, or a reset; only a unit attention is gone when it was told."""
    kept = front.device.sense or sense_data()
    if kept[2] == SenseKey.UNIT_ATTENTION:
        front.device.sense = sense_data(code=kept[12])
    return Answer(kept, cdb[4])


def inquiry(front: PacketFront, cdb: bytes) -> Answer:
    """INQUIRY, with two pages."""
    page, room = cdb[2], cdb[4]
    if not cdb[1] & 1:
        text = b"QEMU".ljust(8) + b"QEMU DVD-ROM".ljust(16) + front.device.version.encode()[:4].ljust(4)
        return Answer(bytes((DeviceType.CD_DVD, 0x80, 0, 0x21, 31, 0, 0, 0)) + text, room)
    if page == 0:
        body = bytes((0, IDENTIFICATION))
    elif page == IDENTIFICATION:
        body = _identification(front.device, room - 4)
    else:
        raise Refused(INVALID_FIELD)
    return Answer(bytes((DeviceType.CD_DVD, page, 0, len(body))) + body, room)


def _identification(device: AtapiDevice, room: int) -> bytes:
    """Names, as many as there is room for."""
    serial = device.serial.encode()[:20].ljust(20)
    model = device.model.encode()[:40].ljust(40)
    names = [bytes((2, 0, 0, 20)) + serial, bytes((2, 1, 0, 68)) + b"ATA".ljust(8) + model + serial]
    if device.options.wwn:
        names.append(bytes((1, 3, 0, 8)) + device.options.wwn.to_bytes(8, "big"))
    if len(names[0]) > room:
        raise Refused(NO_ROOM)
    body = b""
    for name in names:
        if len(body) + len(name) > room:
            break
        body += name
    return body


def start_stop(front: PacketFront, cdb: bytes) -> None:
    """START STOP UNIT moves the tray, where it is about no power condition."""
    tray = front.drive.tray
    if cdb[4] & 0xF0 or not cdb[4] & 2:
        return
    if cdb[4] & 1:
        tray.move_in()
    elif not tray.open:
        if tray.locked:
            raise Refused((SenseKey.NOT_READY if front.backend.inserted else ILLEGAL, LOCKED))
        tray.move_out()


def prevent_allow(front: PacketFront, cdb: bytes) -> None:
    """PREVENT ALLOW MEDIUM REMOVAL."""
    tray = front.drive.tray
    tray.allow_all()
    if cdb[4] & 1:
        tray.prevented_by.add(front.device.nexus)


def read_capacity(front: PacketFront, _cdb: bytes) -> Answer:
    """READ CAPACITY."""
    return Answer((front.blocks - 1).to_bytes(4, "big") + BLOCK.to_bytes(4, "big"), 8)


def read(front: PacketFront, cdb: bytes) -> Extent | None:
    """READ (10) and (12)."""
    number = _word(cdb, 7) if cdb[0] == READ_10 else int.from_bytes(cdb[6:10], "big")
    return _extent(front, cdb, number, whole=False)


def _extent(front: PacketFront, cdb: bytes, number: int, *, whole: bool) -> Extent | None:
    if not number:
        return None
    first = int.from_bytes(cdb[2:6], "big")
    if first >= front.blocks or (first + number - 1 & 0xFFFF_FFFF) >= front.blocks:
        raise Refused(OUT_OF_RANGE)
    return Extent(first, number, whole)


def read_cd(front: PacketFront, cdb: bytes) -> Extent | None:
    """READ CD: the data of blocks, or whole sectors; of what type, and what else is asked for, is not looked at."""
    extent = _extent(front, cdb, int.from_bytes(cdb[6:9], "big"), whole=cdb[9] & FIELDS == FIELDS)
    return extent if cdb[9] & FIELDS else None


def seek(front: PacketFront, cdb: bytes) -> None:
    """SEEK (10)."""
    if int.from_bytes(cdb[2:6], "big") >= front.blocks:
        raise Refused(OUT_OF_RANGE)


def read_toc(front: PacketFront, cdb: bytes) -> Answer:
    """READ TOC/PMA/ATIP: the format is where SFF-8020i has it, in byte 9."""
    data = toc.read(front.blocks, cdb[:2] + bytes((cdb[9] >> 6,)) + cdb[3:])
    if data is None:
        raise Refused(INVALID_FIELD)
    return Answer(data, _word(cdb, 7))


def configuration(front: PacketFront, cdb: bytes) -> Answer:
    """GET CONFIGURATION: the profiles alone."""
    if _word(cdb, 2):
        raise Refused(INVALID_FIELD)
    room = min(_word(cdb, 7), LONGEST_CONFIGURATION)
    return Answer(disc.configuration(front.profile), room, cleared=room)


def event_status(front: PacketFront, cdb: bytes) -> Answer:
    """GET EVENT STATUS NOTIFICATION."""
    if not cdb[1] & 1:
        raise Refused(INVALID_FIELD)
    tray = front.drive.tray
    data = front.media_status(cdb[4], opened=tray.open, inserted=front.backend.inserted)
    return Answer(data, _word(cdb, 7))


def disc_information(_front: PacketFront, cdb: bytes) -> Answer:
    """READ DISC INFORMATION."""
    if cdb[1] & 7:
        raise Refused(INVALID_FIELD)
    return Answer(disc.INFORMATION, _word(cdb, 7))


def disc_structure(front: PacketFront, cdb: bytes) -> Answer:
    """READ DISC STRUCTURE: the layer is looked at only where there is no room for an answer."""
    form, room = cdb[7], _word(cdb, 8)
    if form != disc.CAPABILITIES:
        if front.profile == disc.CD_ROM:
            raise Refused(INCOMPATIBLE)
        if not front.present:
            raise Refused(INVALID_FIELD)
    data = None if cdb[1] else disc.structure(form, cdb[6] if room <= 6 else 0, front.blocks)
    if data is None:
        front.buffer[:room] = bytes(min(room, HEAD))
        raise Refused(INVALID_FIELD)
    return Answer(data, room, cleared=room, written=20)


def mechanism_status(_front: PacketFront, cdb: bytes) -> Answer:
    """MECHANISM STATUS."""
    return Answer(disc.MECHANISM, _word(cdb, 8))


def mode_sense(front: PacketFront, cdb: bytes) -> Answer:
    """MODE SENSE (10): three pages, their current values."""
    control, page = cdb[2] >> 6, cdb[2] & 0x3F
    if control == SAVED:
        raise Refused(UNSAVED)
    if control != CURRENT or page not in PAGES:
        raise Refused(INVALID_FIELD)
    body = PAGES[page](front)
    head = (len(body) + 8).to_bytes(2, "big") + bytes((0x70, 0, 0, 0, 0, 0))
    return Answer(head + bytes((page, len(body))) + body, _word(cdb, 7))


def _recovery(_front: PacketFront) -> bytes:
    return bytes((0, 5, 0, 0, 0, 0))


def _audio(front: PacketFront) -> bytes:
    """What the buffer had there, but for volumes, which are 0."""
    body = bytearray(front.buffer[10:24])
    body[7::2] = bytes(4)
    return bytes(body)


def _capabilities(front: PacketFront) -> bytes:
    lock = 2 * front.drive.tray.locked
    speed = (704).to_bytes(2, "big")
    head = bytes((0x3B, 0, 0x71, 3 << 5, 0x29 | lock, 0)) + speed
    return (head + (2).to_bytes(2, "big") + (512).to_bytes(2, "big") + speed).ljust(20, b"\0")


PAGES: Mapping[int, Callable[[PacketFront], bytes]] = {0x01: _recovery, 0x0E: _audio, 0x2A: _capabilities}


class Known(NamedTuple):
    """A command: it comes `always`, whatever there is to tell of media, needs a `ready` medium, returns `data`."""

    handler: Callable[[PacketFront, bytes], Told]
    always: bool = False
    ready: bool = False
    data: bool = True


READ_10 = 0x28
READING = (READ_10, packet.READ_12, packet.READ_CD)
COMMANDS: Mapping[int, Known] = {
    0x00: Known(nothing, ready=True, data=False),
    0x03: Known(request_sense, always=True),
    0x12: Known(inquiry, always=True),
    0x1B: Known(start_stop, data=False),
    0x1E: Known(prevent_allow, data=False),
    0x25: Known(read_capacity, ready=True),
    READ_10: Known(read, ready=True),
    0x2B: Known(seek, ready=True, data=False),
    0x43: Known(read_toc, ready=True),
    0x46: Known(configuration, always=True),
    0x4A: Known(event_status, always=True),
    0x51: Known(disc_information, ready=True),
    0x5A: Known(mode_sense),
    packet.READ_12: Known(read, ready=True),
    0xAD: Known(disc_structure, ready=True),
    0xBB: Known(nothing, data=False),
    0xBD: Known(mechanism_status),
    packet.READ_CD: Known(read_cd, ready=True, data=False),
}
