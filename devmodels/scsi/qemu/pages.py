"""What a unit says of itself: INQUIRY and its pages, and mode pages, none of which but the cache's can be changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.scsi.asc import Asc
from devmodels.scsi.constants import SenseKey
from devmodels.scsi.qemu.front import INVALID_FIELD
from devmodels.scsi.sense import CheckCondition, Sense

if TYPE_CHECKING:
    from devmodels.scsi.qemu.own import OwnFront

UNSAVED = Sense(SenseKey.ILLEGAL_REQUEST, Asc.SAVING_PARAMETERS_NOT_SUPPORTED)

LONGEST_INQUIRY = 256
SHORTEST_INQUIRY = 36
SERIAL = 36
DEVICE_ID = 247
NAMED_BY_SERIAL = 20
DESCRIPTORS = 255
"""MAXIMUM UNMAP BLOCK DESCRIPTOR COUNT."""
CHANGEABLE, SAVED = 1, 3
"""Values of PC."""
ALL_PAGES = 0x3F
CACHING = 0x08
MODE_SENSE_6 = 0x1A
WCE = 0x04
RPM = 5400
DENSEST = 0xFF_FFFF


def inquiry(front: OwnFront, cdb: bytes, wanted: int) -> bytes:
    """As much as is asked for."""
    if cdb[1] & 1:
        return _vital(front, cdb[2])
    if cdb[2]:
        raise CheckCondition(INVALID_FIELD)
    options = front.options
    size = min(wanted, LONGEST_INQUIRY)
    length = (size if size > SHORTEST_INQUIRY else SHORTEST_INQUIRY) - 5
    head = bytes((front.kind, 0x80 * front.removable, 5, 0x12, length, 0, 0, 0x12))
    text = options.vendor.encode()[:8].ljust(8) + options.product.encode()[:16].ljust(16)
    return (head + text + options.ver.encode()[:4].ljust(4, b"\0"))[:size]


def _vital(front: OwnFront, page: int) -> bytes:
    options = front.options
    match page:
        case 0x00:
            limits = () if front.drive else (0xB0, 0xB1, 0xB2)
            body = bytes((0x00, *(0x80,) * bool(options.serial), 0x83, *limits))
        case 0x80 if options.serial:
            body = options.serial.encode()[:SERIAL]
        case 0x83:
            body = _identification(options.device_id or options.serial[:NAMED_BY_SERIAL], options.wwn)
        case 0xB0 if not front.drive:
            body = front.limits()
        case 0xB1:
            body = front.rotation.to_bytes(2, "big").ljust(0x3C, b"\0")
        case 0xB2:
            body = bytes((0, 0xE0, 2 if front.granularity else 1, 0))
        case _:
            raise CheckCondition(INVALID_FIELD)
    return bytes((front.kind, page, 0, len(body))) + body


def _identification(name: str, wwn: int) -> bytes:
    data = name.encode()[:DEVICE_ID]
    named = bytes((2, 0, 0, len(data))) + data if data else b""
    return named + (bytes((1, 3, 0, 8)) + wwn.to_bytes(8, "big") if wwn else b"")


# --- mode pages


def mode_sense(front: OwnFront, cdb: bytes) -> bytes:
    """A header, the block descriptor of a disk, and one page or all there are."""
    control, number = cdb[2] >> 6, cdb[2] & 0x3F
    short = cdb[0] == MODE_SENSE_6
    descriptor = b"" if cdb[1] & 8 or front.drive else _descriptor(front)
    if control == SAVED:
        raise CheckCondition(UNSAVED)
    if number == ALL_PAGES:
        pages = b"".join(mode_page(front, each, control) or b"" for each in range(ALL_PAGES))
    else:
        page = mode_page(front, number, control)
        if page is None:
            raise CheckCondition(INVALID_FIELD)
        pages = page
    body = descriptor + pages
    if short:
        return bytes(((len(body) + 3) & 0xFF, 0, front.device_specific, len(descriptor))) + body
    head = bytes((0, front.device_specific, 0, 0, 0, len(descriptor)))
    return (len(body) + 6).to_bytes(2, "big") + head + body


def _descriptor(front: OwnFront) -> bytes:
    blocks = front.blocks
    if not front.backend.size:
        return b""
    return (blocks if blocks <= DENSEST else 0).to_bytes(4, "big") + bytes((0, 0, front.block_size >> 8, 0))


def mode_page(front: OwnFront, number: int, control: int) -> bytes | None:
    """A page with its header; None where there is none."""
    make = front.PAGES.get(number)
    if make is None:
        return None
    body = make(front, changeable=control == CHANGEABLE)
    return bytes((number, len(body))) + body


def caching(front: OwnFront, *, changeable: bool) -> bytes:
    """WCE, which can be changed (SBC-4 §6.5.5)."""
    return bytes((WCE if changeable or front.backend.write_cache else 0,)).ljust(18, b"\0")


def recovery(front: OwnFront, *, changeable: bool) -> bytes:
    """Read-write error recovery (SBC-4 §6.5.8, MMC-6 §7.4)."""
    if changeable:
        return bytes((0x80 if front.drive else 0,)).ljust(10, b"\0")
    return bytes((0x80, 0x20 if front.drive else 0)).ljust(10, b"\0")


def geometry(front: OwnFront, *, changeable: bool) -> bytes:
    """Rigid disk geometry, obsolete."""
    if changeable:
        return bytes(22)
    cylinders, heads, _ = front.geometry()
    many = cylinders.to_bytes(3, "big")
    head = many + bytes((heads,)) + many * 2 + bytes((0, 200, 0xFF, 0xFF, 0xFF, 0, 0, 0))
    return (head + RPM.to_bytes(2, "big")).ljust(22, b"\0")


def flexible(front: OwnFront, *, changeable: bool) -> bytes:
    """Flexible disk, obsolete."""
    if changeable:
        return bytes(30)
    cylinders, heads, sectors = front.geometry()
    many = cylinders.to_bytes(2, "big")
    head = (5000).to_bytes(2, "big") + bytes((heads, sectors, front.block_size >> 8, 0)) + many * 3
    steps = bytes((0, 1, 1, 0, 1, 1, 1)).ljust(14, b"\0")
    return (head + steps + RPM.to_bytes(2, "big")).ljust(30, b"\0")


def audio(_front: OwnFront, *, changeable: bool) -> bytes:  # noqa: ARG001
    """CD audio control (MMC-6 §7.5)."""
    return bytes(14)


_SPEED = (16 * 176).to_bytes(2, "big")


def capabilities(front: OwnFront, *, changeable: bool) -> bytes:
    """Capabilities and mechanical status (MMC-3 §5.5.10)."""
    if changeable:
        return bytes(20)
    can = bytes((0x3B, 0, 0x7F, 0xFF, 0x2D | 2 * front.locked, 0))
    speeds = (50 * 176).to_bytes(2, "big") + (2).to_bytes(2, "big") + (2048).to_bytes(2, "big") + _SPEED
    return can + speeds + bytes(2) + _SPEED * 2


class Refused(Exception):
    """A parameter list is wrong, in a field or, `short`, in its length."""

    def __init__(self, *, short: bool) -> None:
        super().__init__(short)
        self.short = short

    @property
    def sense(self) -> Sense:
        """What to say."""
        code = Asc.PARAMETER_LIST_LENGTH_ERROR if self.short else Asc.INVALID_FIELD_IN_PARAMETER_LIST
        return Sense(SenseKey.ILLEGAL_REQUEST, code)


def selected(front: OwnFront, data: bytes) -> int | None:
    """The pages of MODE SELECT: the first byte of the caching page, where that is there."""
    cache = None
    while data:
        long = bool(data[0] & 0x40)
        if len(data) < (4 if long else 2):
            raise Refused(short=True)
        number, size = data[0] & 0x3F, int.from_bytes(data[2:4], "big") if long else data[1]
        if long and data[1]:
            raise Refused(short=False)
        data = data[4 if long else 2 :]
        if size > len(data):
            raise Refused(short=True)
        _check(front, number, data[:size])
        if number == CACHING:
            cache = data[0]
        data = data[size:]
    return cache


def _check(front: OwnFront, number: int, body: bytes) -> None:
    now, mask = mode_page(front, number, 0), mode_page(front, number, CHANGEABLE)
    if now is None or mask is None or len(now) != len(body) + 2:
        raise Refused(short=False)
    if any((old ^ new) & ~free for old, new, free in zip(now[2:], body, mask[2:], strict=True)):
        raise Refused(short=False)
