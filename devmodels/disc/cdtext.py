"""CD-TEXT: titles and names in the sub-channels of a disc's lead-in, as READ TOC/PMA/ATIP gives them (MMC-6 Annex J).

A pack has 18 bytes: its type, the track that its text begins with, its number, how many characters of that track's text
are in packs before it, 12 bytes of text, a CRC.  The text of a type is that of the disc and then of each track, each
with a zero behind it.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping, Sequence

from devmodels.disc.disc import Disc

TITLE, PERFORMER, SONGWRITER = 0x80, 0x81, 0x82
KINDS = (TITLE, PERFORMER, SONGWRITER)
_SIZES = 0x8F
"""The type of the last three packs, which say how many there are."""
LONGEST = 160
"""The longest text, in characters of ISO 8859-1."""
_TEXT = 12
_MOST = 256 - 3
"""So many packs of text are numbered at most."""
_MOST_BEFORE = 15
_FIRST_TYPE = 0x80
_BLOCKS = 8
_ENGLISH = 0x09
_ONES = 0xFFFF


def packs(disc: Disc) -> bytes:
    """All packs of a disc; empty where it has no text.  Texts are cut where there would be too many."""
    if not disc.texts:
        return b""
    longest = LONGEST
    found = _text_packs(disc.texts, disc.tracks[0].number, longest)
    while len(found) > _MOST:
        longest //= 2
        found = _text_packs(disc.texts, disc.tracks[0].number, longest)
    found += _size_packs(disc, found)
    return b"".join(_with_crc(pack) for pack in found)


def _with_crc(pack: bytes) -> bytes:
    return pack + (binascii.crc_hqx(pack, 0) ^ _ONES).to_bytes(2, "big")


def _text_packs(texts: Mapping[int, Sequence[str]], first: int, longest: int) -> list[bytes]:
    """Packs without their CRC, of texts of `longest` characters at most; the tracks' numbers are from `first` on."""
    found: list[bytes] = []
    for kind in sorted(texts):
        numbers = [0, *range(first, first + len(texts[kind]) - 1)]
        # Of each character: its track, and how many of the track's are before it.
        places = [
            (number, before, character)
            for number, text in zip(numbers, texts[kind], strict=True)
            for before, character in enumerate(text[:longest].encode("latin-1", "replace") + b"\0")
        ]
        for at in range(0, len(places), _TEXT):
            number, before, _ = places[at]
            body = bytes(character for _, _, character in places[at : at + _TEXT])
            head = bytes((kind, number, len(found) & 0xFF, min(before, _MOST_BEFORE)))
            found.append(head + body.ljust(_TEXT, b"\0"))
    return found


def _size_packs(disc: Disc, before: Sequence[bytes]) -> list[bytes]:
    """One block, of ISO 8859-1, in English."""
    counts = [0] * 16
    for pack in before:
        counts[pack[0] - _FIRST_TYPE] += 1
    counts[_SIZES - _FIRST_TYPE] = 3
    data = bytes((0, disc.tracks[0].number, disc.tracks[-1].number, 0, *counts))
    data += bytes((len(before) + 2,)).ljust(_BLOCKS, b"\0") + bytes((_ENGLISH,)).ljust(_BLOCKS, b"\0")
    return [
        bytes((_SIZES, part, len(before) + part, 0)) + data[part * _TEXT : (part + 1) * _TEXT]
        for part in range(3)
    ]
