"""A disc as a list of tracks, and where in an image each of its blocks is stored."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum, auto

import msgspec

BLOCK = 2048
"""The user data of a block, in bytes, where it is no audio."""
DATA_CONTROL = 0x4
"""CONTROL of a data track, uninterrupted (MMC-6 Table 464)."""


class Mode(Enum):
    """What the blocks of a track are (ECMA-130 §14)."""

    AUDIO = auto()
    MODE1 = auto()
    MODE2 = auto()


class Track(msgspec.Struct, frozen=True):
    """One track.

    Blocks from `first` on are its own, those before `start` its pregap; `end` is the first block of what follows.
    `indexes`: the blocks at which index 1, 2, … begin.  `control`: CONTROL of the Q sub-channel.
    """

    number: int
    mode: Mode
    first: int
    start: int
    end: int
    indexes: tuple[int, ...]
    control: int = DATA_CONTROL
    isrc: str = ""

    @property
    def data(self) -> bool:
        """Whether it is no audio."""
        return self.mode is not Mode.AUDIO

    def index_at(self, lba: int) -> int:
        """The index that a block belongs to: 0 in the pregap."""
        return bisect_right(self.indexes, lba)


class Extent(msgspec.Struct, frozen=True):
    """Blocks of one track that lie one after the other in the image, from byte `offset` on, each of `stored` bytes.

    Without an `offset` they are not in the image: a gap of silence, or of zeroes.  `stored`: 2048 (user data), 2336
    (without sync and header) or 2352 (everything); `swapped`: as 16-bit numbers with the high byte first.
    """

    start: int
    blocks: int
    track: Track
    offset: int | None
    stored: int = BLOCK
    swapped: bool = False

    @property
    def end(self) -> int:
        """The first block after it."""
        return self.start + self.blocks


class Disc:
    """`tracks` in ascending order; `extents` hold every block from 0 to `blocks` - 1; `catalog` is the media catalog
    number, 13 digits, or empty; `texts`: by their types of CD-TEXT, those of the disc and of each track.

    `plain`: all of it is one extent of user data from the image's first byte on.
    """

    __slots__ = ("_first_of_tracks", "_starts", "blocks", "catalog", "extents", "plain", "texts", "tracks")

    def __init__(
        self,
        tracks: Sequence[Track],
        extents: Sequence[Extent],
        catalog: str = "",
        texts: Mapping[int, Sequence[str]] | None = None,
    ) -> None:
        self.tracks = tuple(tracks)
        self.extents = tuple(extents)
        self.catalog = catalog
        self.texts = {} if texts is None else {kind: tuple(each) for kind, each in texts.items()}
        self.blocks = extents[-1].end
        self._starts = [extent.start for extent in extents]
        self._first_of_tracks = [track.first for track in tracks]
        only = extents[0]
        self.plain = len(extents) == 1 and (only.offset, only.stored) == (0, BLOCK) and only.track.data

    @classmethod
    def of_data(cls, blocks: int) -> Disc:
        """A disc of one data track: what an image of blocks of 2048 bytes is.  At least one block."""
        track = Track(1, Mode.MODE1, 0, 0, blocks, (0,))
        return cls((track,), (Extent(0, blocks, track, 0),))

    @property
    def audio_only(self) -> bool:
        """Whether no track holds data."""
        return not any(track.data for track in self.tracks)

    def track_at(self, lba: int) -> Track:
        """The track of a block of the disc."""
        return self.tracks[max(bisect_right(self._first_of_tracks, lba) - 1, 0)]

    def track(self, number: int) -> Track | None:
        """The track of that number; None where there is none."""
        index = number - self.tracks[0].number
        return self.tracks[index] if 0 <= index < len(self.tracks) else None

    def pieces(self, lba: int, blocks: int) -> Iterator[tuple[Extent, int, int]]:
        """`blocks` blocks from `lba` on, all on the disc, by extent: the extent, the first block, how many."""
        index = bisect_right(self._starts, lba) - 1
        while blocks:
            extent = self.extents[index]
            count = min(blocks, extent.end - lba)
            yield extent, lba, count
            lba += count
            blocks -= count
            index += 1
