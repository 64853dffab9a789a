"""The Q sub-channel of a block, as a disc would have it (IEC 60908 §17, MMC-6 §4.2.3.4)."""

from __future__ import annotations

import binascii
from typing import NamedTuple

from devmodels.disc.address import FRAMES, SECONDS, bcd, to_msf
from devmodels.disc.disc import Disc, Track

POSITION = 1
"""ADR: the kind of Q that says where it is."""
PAUSE = 0x80
"""P is 1 before a track."""
SUB_CHANNEL = 96
_ONES = 0xFFFF


class Position(NamedTuple):
    """Where a block is: track and index, and how many blocks from the track's start, up to it in the pregap."""

    track: Track
    index_number: int
    relative: int

    @property
    def relative_msf(self) -> tuple[int, int, int]:
        """The same in minutes, seconds and frames."""
        seconds, frame = divmod(self.relative, FRAMES)
        return (*divmod(seconds, SECONDS), frame)


def position(disc: Disc, lba: int) -> Position:
    """Where a block of the disc is."""
    track = disc.track_at(lba)
    return Position(track, track.index_at(lba), abs(lba - track.start))


def q_channel(disc: Disc, lba: int) -> bytes:
    """Twelve bytes: control and ADR, track, index, time in the track, zero, time on the disc, CRC."""
    where = position(disc, lba)
    numbers = (where.track.number, where.index_number, *where.relative_msf, 0, *to_msf(lba))
    data = bytes((where.track.control << 4 | POSITION, *map(bcd, numbers)))
    # The CRC is recorded with its bits turned round.
    return data + (binascii.crc_hqx(data, 0) ^ _ONES).to_bytes(2, "big")


def formatted_q(disc: Disc, lba: int) -> bytes:
    """The 16 bytes that READ CD returns: Q, zeroes, and P in the last bit of all."""
    p = PAUSE if not position(disc, lba).index_number else 0
    return q_channel(disc, lba) + bytes((0, 0, 0, p))


def raw_sub_channel(disc: Disc, lba: int) -> bytes:
    """The 96 bytes of P to W, one bit of each in a byte: P the highest, then Q; the others are zero."""
    q = int.from_bytes(q_channel(disc, lba), "big")
    p = PAUSE if not position(disc, lba).index_number else 0
    return bytes(p | (q >> bit & 1) << 6 for bit in range(SUB_CHANNEL - 1, -1, -1))
