"""The sectors of a CD with all their fields: 2352 bytes, whatever of them an image has (ECMA-130 §14, MMC-6 §4.2.3).

mode 1           sync 12, header 4, user data 2048, EDC 4, zeroes 8, ECC 276
mode 2           sync 12, header 4, user data 2336
mode 2, form 1   sync 12, header 4, sub-header 8, user data 2048, EDC 4, ECC 276
mode 2, form 2   sync 12, header 4, sub-header 8, user data 2324, EDC 4
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from devmodels.disc.address import bcd, to_msf
from devmodels.disc.disc import BLOCK, Extent, Mode
from devmodels.disc.parity import edc, parity

RAW = 2352
"""A whole sector, in bytes."""
WITHOUT_HEADER = 2336
SYNC = b"\0" + b"\xff" * 10 + b"\0"
HEADER_AT, SUBHEADER_AT, MODE1_DATA_AT, FORM1_DATA_AT = 12, 16, 16, 24
_FORM2 = 0x20
"""The bit of the submode byte that says which form a sector has."""
_DATA = 0x08
"""SUBMODE of a sector of data."""
SUBHEADER = bytes((0, 0, _DATA, 0)) * 2
"""That of a form 1 sector whose image has none."""


class Spans(NamedTuple):
    """Where the fields of a sector begin; each ends where the next one does.  A field that is not there is empty."""

    header: int
    subheader: int
    user: int
    edc: int
    end: int = RAW


class Kind(Enum):
    """What a sector is, with its fields and its number as sector type of READ CD (MMC-6 Table 351)."""

    CDDA = (1, Spans(0, 0, 0, RAW))
    MODE1 = (2, Spans(12, 16, 16, 2064))
    FORMLESS = (3, Spans(12, 16, 16, RAW))
    FORM1 = (4, Spans(12, 16, 24, 2072))
    FORM2 = (5, Spans(12, 16, 24, RAW))

    def __init__(self, number: int, spans: Spans) -> None:
        self.number = number
        self.spans = spans


def sync_and_header(lba: int, mode: int) -> bytes:
    """The first 16 bytes of a data sector: sync, address in BCD, mode (ECMA-130 §14.2)."""
    minute, second, frame = to_msf(lba)
    return SYNC + bytes((bcd(minute), bcd(second), bcd(frame), mode))


def mode1(lba: int, user: bytes) -> bytes:
    """A whole mode 1 sector of 2048 bytes of user data."""
    front = sync_and_header(lba, 1) + user
    body = front + edc(front) + bytes(8)
    return body + parity(body[HEADER_AT:])


def form1(lba: int, user: bytes) -> bytes:
    """A whole mode 2 form 1 sector of 2048 bytes of user data.  Its parity is that of a header of zeroes."""
    body = SUBHEADER + user
    body += edc(body)
    return sync_and_header(lba, 2) + body + parity(bytes(4) + body)


def whole(extent: Extent, lba: int, stored: bytes) -> bytes:
    """The 2352 bytes of a block of `extent` of which the image has `stored`."""
    mode = extent.track.mode
    if len(stored) == RAW:
        return stored if not extent.swapped else swap(stored)
    if mode is Mode.MODE1:
        return mode1(lba, stored)
    if len(stored) == BLOCK:
        return form1(lba, stored)
    return sync_and_header(lba, 2) + stored


def gap(extent: Extent, lba: int) -> bytes:
    """The 2352 bytes of a block that is in no image."""
    mode = extent.track.mode
    if mode is Mode.AUDIO:
        return bytes(RAW)
    if mode is Mode.MODE1:
        return mode1(lba, bytes(BLOCK))
    return sync_and_header(lba, 2) + bytes(WITHOUT_HEADER)


def swap(data: bytes) -> bytes:
    """16-bit numbers with their bytes the other way round."""
    out = bytearray(len(data))
    out[0::2], out[1::2] = data[1::2], data[0::2]
    return bytes(out)


def kind_of(mode: Mode, sector: bytes) -> Kind:
    """What a whole sector of a track is: that of mode 2 says so itself, by its sub-header's two copies."""
    if mode is Mode.AUDIO:
        return Kind.CDDA
    if mode is Mode.MODE1:
        return Kind.MODE1
    if sector[16:20] != sector[20:24]:
        return Kind.FORMLESS
    if not any(sector[16:20]):
        # Two copies of nothing: as likely user data of zeroes.
        return Kind.FORMLESS
    return Kind.FORM2 if sector[18] & _FORM2 else Kind.FORM1


def user_data(kind: Kind, sector: bytes) -> bytes:
    """The user data of a whole sector."""
    spans = kind.spans
    return sector[spans.user : spans.edc]


def sectors(extent: Extent, lba: int, blocks: int, stored: bytes) -> Iterator[bytes]:
    """Whole sectors of `blocks` blocks of `extent` from `lba` on; `stored`: what the image has of them."""
    if extent.offset is None:
        for number in range(blocks):
            yield gap(extent, lba + number)
        return
    size = extent.stored
    for number in range(blocks):
        yield whole(extent, lba + number, stored[number * size : (number + 1) * size])
