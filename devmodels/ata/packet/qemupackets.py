"""The packets of QEMU 7.2's ATAPI drive: what each answers, and what it refuses.

`asqemu` is the drive that they are sent to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from devmodels.ata.packet import packet
from devmodels.ata.packet.state import HEAD
from devmodels.scsi.constants import DeviceType, SenseKey
from devmodels.scsi.qemu import disc, toc
from devmodels.scsi.qemu.disc import BLOCK

if TYPE_CHECKING:
    from devmodels.ata.packet.asqemu import PacketFront
    from devmodels.ata.packet.device import AtapiDevice

LONGEST_CONFIGURATION = 512
IDENTIFICATION = 0x83
CURRENT, SAVED = 0, 3
"""Page control of MODE SENSE (10)."""
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


def sense_data(key: int = 0, code: int = 0) -> bytes:
    """Fixed, with a key and an additional sense code, and INFORMATION said to be valid."""
    return bytes((0xF0, 0, key, 0, 0, 0, 0, 10, 0, 0, 0, 0, code, 0, 0, 0, 0, 0))


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
