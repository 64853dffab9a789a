"""The log of IDENTIFY DEVICE data, 30h (ACS-4 annex A): what the words say, by name and place.

Page 0 lists the pages, 1 is the data of IDENTIFY DEVICE.  The others are quadwords, each with bit 63 where it is valid;
a page that the disk has not got is zeroes.  All but a few fields are bits of the words: `Row` says which.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from devmodels.ata.constants import BLOCK, Transport
from devmodels.ata.disk import identify, sct
from devmodels.ata.modes import MULTIWORD, ULTRA
from devmodels.ata.words import Words

if TYPE_CHECKING:
    from devmodels.ata.disk.disk import AtaDisk

VALID = 1 << 63
VERSION = 1
LIST, COPY, CAPACITY, CAPABILITIES, SETTINGS, STRINGS, SECURITY, PARALLEL_ATA, SERIAL_ATA = range(9)


class Row(NamedTuple):
    """`width` bits of a word, from `bit` on, which are those from `at` on of a quadword."""

    name: str
    at: int
    word: int
    bit: int
    width: int = 1


Page = Mapping[int, tuple[Row, ...]]
"""The quadwords of a page, by their offset in bytes; one without rows is valid, and 0."""

PAGES: dict[int, Page] = {
    CAPABILITIES: {
        8: (
            Row("AMAX ADDR SUPPORTED", 41, 119, 8),
            Row("DRAT SUPPORTED", 39, 69, 14),
            Row("READ BUFFER DMA SUPPORTED", 36, 69, 11),
            Row("WRITE BUFFER DMA SUPPORTED", 35, 69, 10),
            Row("28-BIT SUPPORTED", 32, 69, 6),
            Row("RZAT SUPPORTED", 31, 69, 5),
            Row("NOP SUPPORTED", 29, 82, 14),
            Row("READ BUFFER SUPPORTED", 28, 82, 13),
            Row("WRITE BUFFER SUPPORTED", 27, 82, 12),
            Row("READ LOOK-AHEAD SUPPORTED", 25, 82, 6),
            Row("VOLATILE WRITE CACHE SUPPORTED", 24, 82, 5),
            Row("SMART", 23, 82, 0),
            Row("FLUSH CACHE EXT SUPPORTED", 22, 83, 13),
            Row("48-BIT SUPPORTED", 20, 83, 10),
            Row("SPIN-UP SUPPORTED", 18, 83, 6),
            Row("PUIS SUPPORTED", 17, 83, 5),
            Row("APM SUPPORTED", 16, 83, 3),
            Row("UNLOAD SUPPORTED", 13, 84, 13),
            Row("WRITE FUA EXT SUPPORTED", 12, 84, 6),
            Row("GPL SUPPORTED", 11, 84, 5),
            Row("SMART SELF-TEST SUPPORTED", 8, 84, 1),
            Row("SMART ERROR LOGGING SUPPORTED", 7, 84, 0),
            Row("GPL DMA SUPPORTED", 2, 119, 3),
            Row("WRITE UNCORRECTABLE SUPPORTED", 1, 119, 2),
        ),
        24: (Row("NOMINAL MEDIA ROTATION RATE", 0, 217, 0, 16),),
        32: (Row("NOMINAL FORM FACTOR", 0, 168, 0, 4),),
        56: tuple(Row("WORLD WIDE NAME", 48 - 16 * n, 108 + n, 0, 16) for n in range(4)),
        72: (Row("MAX PAGES PER DSM COMMAND", 16, 105, 0, 16), Row("TRIM SUPPORTED", 0, 169, 0)),
        136: (Row("QUEUE DEPTH", 0, 75, 0, 5),),
        144: (
            Row("SCT SUPPORTED", 0, 206, 0),
            Row("SCT WRITE SAME, ERROR RECOVERY, FEATURE CONTROL, DATA TABLES SUPPORTED", 2, 206, 2, 4),
        ),
    },
    SETTINGS: {
        8: (
            Row("VOLATILE WRITE CACHE ENABLED", 13, 85, 5),
            Row("READ LOOK-AHEAD ENABLED", 7, 85, 6),
            Row("SMART ENABLED", 6, 85, 0),
            Row("PUIS ENABLED", 3, 86, 5),
            Row("APM ENABLED", 2, 86, 3),
        ),
        16: (Row("APM LEVEL", 8, 91, 0, 8),),
    },
    SECURITY: {
        8: (Row("MASTER PASSWORD IDENTIFIER", 0, 92, 0, 16),),
        16: (
            Row("SECURITY SUPPORTED", 6, 128, 0),
            Row("MASTER PASSWORD CAPABILITY", 5, 128, 8),
            Row("ENHANCED SECURITY ERASE SUPPORTED", 4, 128, 5),
            Row("SECURITY COUNT EXPIRED", 3, 128, 4),
            Row("SECURITY FROZEN", 2, 128, 3),
            Row("SECURITY LOCKED", 1, 128, 2),
            Row("SECURITY ENABLED", 0, 128, 1),
        ),
        24: (Row("ENHANCED SECURITY ERASE TIME", 0, 90, 0, 16),),
        32: (Row("NORMAL SECURITY ERASE TIME", 0, 89, 0, 16),),
        40: (Row("TRUSTED COMPUTING SUPPORTED", 0, 48, 0),),
        48: (),
    },
    PARALLEL_ATA: {
        8: (
            Row("IORDY SUPPORTED", 38, 49, 11),
            Row("IORDY DISABLE SUPPORTED", 37, 49, 10),
            Row("DMA SUPPORTED", 36, 49, 8),
            Row("MULTIWORD DMA MODES ENABLED", 33, 63, 8, 3),
            Row("MULTIWORD DMA MODES SUPPORTED", 30, 63, 0, 3),
            Row("UDMA MODES ENABLED", 23, 88, 8, 7),
            Row("UDMA MODES SUPPORTED", 16, 88, 0, 7),
        ),
        16: (Row("PIO MODES 3 AND 4 SUPPORTED", 0, 64, 0, 2),),
        24: (
            Row("RECOMMENDED MULTIWORD CYCLE TIME", 16, 66, 0, 16),
            Row("MIN MULTIWORD CYCLE TIME", 0, 65, 0, 16),
        ),
        32: (
            Row("MIN PIO TRANSFER TIME WITH IORDY", 16, 68, 0, 16),
            Row("MIN PIO TRANSFER TIME WITHOUT IORDY", 0, 67, 0, 16),
        ),
        40: (),
        48: (
            Row("CBLID", 55, 93, 13),
            Row("D1 PDIAG", 15, 93, 11),
            Row("D1 DEVICE NUMBER DETECT", 8, 93, 9, 2),
            Row("D0/D1 SELECTION", 5, 93, 6),
            Row("D0 DASP", 6, 93, 5),
            Row("D0 PDIAG", 7, 93, 4),
            Row("D0 DIAGNOSTICS", 4, 93, 3),
            Row("D0 DEVICE NUMBER DETECT", 0, 93, 1, 2),
        ),
    },
    SERIAL_ATA: {
        8: (
            Row("SOFTWARE SETTINGS PRESERVATION SUPPORTED", 23, 78, 6),
            Row("SEND AND RECEIVE QUEUED COMMANDS SUPPORTED", 17, 77, 6),
            Row("NCQ QUEUE MANAGEMENT COMMAND SUPPORTED", 16, 77, 5),
            Row("READ LOG DMA EXT AS EQUIVALENT TO READ LOG EXT SUPPORTED", 14, 76, 15),
            Row("NCQ PRIORITY INFORMATION SUPPORTED", 11, 76, 12),
            Row("RECEIPT OF HOST INITIATED POWER MANAGEMENT REQUESTS SUPPORTED", 8, 76, 9),
            Row("NCQ FEATURE SET SUPPORTED", 7, 76, 8),
            Row("SATA GEN1 TO GEN3 SIGNALING SPEED SUPPORTED", 0, 76, 1, 3),
        ),
        16: (
            Row("SOFTWARE SETTINGS PRESERVATION ENABLED", 8, 79, 6),
            Row("CURRENT SERIAL ATA SIGNAL SPEED", 0, 77, 1, 3),
        ),
    },
}
WORLD_WIDE_NAME = 56
"""This one has 16 bytes: the second half says whether it is valid."""
REVERTING = 1 << 11
"""REVERTING TO DEFAULTS ENABLED, which no word says."""
TEXTS = {8: (10, 10), 32: (23, 4), 48: (27, 20)}
"""Serial number, firmware revision and model number: first word, and how many, by their offset in page 5."""


def pages(disk: AtaDisk) -> bytes:
    """All pages, from the first to the last one that the disk has."""
    words = identify.words(disk)
    made = {COPY: words.pack(), CAPACITY: _capacity(disk), STRINGS: _strings(words)}
    made[CAPABILITIES] = _page(words, CAPABILITIES, {144: sct.SAME_FUNCTIONS})
    made[SECURITY] = _page(words, SECURITY)
    made[SETTINGS] = _page(words, SETTINGS, {8: REVERTING * disk.reverts})
    if disk.transport is Transport.SERIAL:
        made[SERIAL_ATA] = _page(words, SERIAL_ATA)
    else:
        made[PARALLEL_ATA] = _page(words, PARALLEL_ATA, {40: transfer_mode(disk)})
    made[LIST] = struct.pack("<QB", VERSION, len(made) + 1) + bytes(sorted({LIST, *made}))
    return b"".join(made.get(number, b"").ljust(BLOCK, b"\0") for number in range(max(made) + 1))


def _page(words: Words, number: int, more: Mapping[int, int] | None = None) -> bytes:
    quadwords = [0] * (BLOCK // 8)
    quadwords[0] = _header(number)
    for offset, rows in PAGES[number].items():
        value = (more or {}).get(offset, 0)
        for row in rows:
            value |= (words[row.word] >> row.bit & (1 << row.width) - 1) << row.at
        quadwords[offset // 8] |= value
        quadwords[offset // 8 + (offset == WORLD_WIDE_NAME)] |= VALID
    return struct.pack(f"<{len(quadwords)}Q", *quadwords)


def _header(number: int) -> int:
    return VALID | number << 16 | VERSION


def _capacity(disk: AtaDisk) -> bytes:
    size, physical = disk.sector_size, disk.options.physical_block_size
    exponent = (physical // size).bit_length() - 1
    sizes = VALID | int(physical > size) << 62 | int(size != BLOCK) << 61 | exponent << 16
    return struct.pack("<4Q", _header(CAPACITY), VALID | disk.accessible, sizes, VALID | size // 2)


def _strings(words: Words) -> bytes:
    page = bytearray(struct.pack("<Q", _header(STRINGS))).ljust(BLOCK, b"\0")
    for offset, (first, count) in TEXTS.items():
        struct.pack_into(f"<{count}H", page, offset, *(words[first + n] for n in range(count)))
    return bytes(page)


def transfer_mode(disk: AtaDisk) -> int:
    """What SET FEATURES, set transfer mode, was given last (ACS-3 §7.45)."""
    modes = disk.modes
    return ULTRA | modes.ultra if modes.ultra >= 0 else MULTIWORD | modes.multiword
