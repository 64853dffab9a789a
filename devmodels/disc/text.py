"""A disc as a line of text, for a trace: tracks and where they are stored, as JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from devmodels.disc import cdtext
from devmodels.disc.address import LONGEST
from devmodels.disc.cuesheet import MAX_TRACKS, MODES
from devmodels.disc.disc import Disc, Extent, Mode, Track

MAX_INDEXES = 99
_STORED = frozenset(MODES.values())
_CATALOG, _ISRC = re.compile(r"([0-9]{13})?"), re.compile(r"([0-9A-Z]{12})?")
_TEXT = re.compile(f"[\\x01-\\xff]{{0,{cdtext.LONGEST}}}")
_CONTROLS = 0xF
_FARTHEST = 1 << 62
"""An image's last byte is somewhere before it."""


class _Extent(msgspec.Struct, frozen=True, array_like=True):
    start: int
    blocks: int
    track: int
    offset: int | None
    stored: int
    swapped: bool


class _Track(msgspec.Struct, frozen=True, rename="kebab", omit_defaults=True):
    number: int
    mode: str
    first: int
    start: int
    end: int
    indexes: list[int]
    control: int
    isrc: str = ""


class _Disc(msgspec.Struct, frozen=True, omit_defaults=True):
    tracks: list[_Track]
    extents: list[_Extent]
    catalog: str = ""
    texts: dict[int, list[str]] = {}


def to_text(disc: Disc) -> str:
    """What `from_text` makes it again of."""
    tracks = [
        _Track(
            each.number,
            each.mode.name,
            each.first,
            each.start,
            each.end,
            list(each.indexes),
            each.control,
            each.isrc,
        )
        for each in disc.tracks
    ]
    extents = [
        _Extent(
            each.start, each.blocks, disc.tracks.index(each.track), each.offset, each.stored, each.swapped
        )
        for each in disc.extents
    ]
    return msgspec.json.encode(
        _Disc(tracks, extents, disc.catalog, {kind: list(each) for kind, each in disc.texts.items()})
    ).decode()


def from_text(text: str) -> Disc:
    """The disc; ValueError where the text is none."""
    try:
        found = msgspec.json.decode(text, type=_Disc)
        tracks = [
            Track(
                each.number,
                Mode[each.mode],
                each.first,
                each.start,
                each.end,
                tuple(each.indexes),
                each.control,
                each.isrc,
            )
            for each in found.tracks
        ]
        extents = [
            Extent(each.start, each.blocks, tracks[each.track], each.offset, each.stored, each.swapped)
            for each in found.extents
        ]
    except (msgspec.DecodeError, UnicodeError, RecursionError, LookupError) as error:
        raise ValueError(f"not a disc: {error}") from None
    _check_tracks(tracks)
    _check_extents(extents, tracks[-1].end)
    if not _CATALOG.fullmatch(found.catalog):
        raise ValueError(f"not a disc: catalogue number {found.catalog!r}")
    for kind, texts in found.texts.items():
        if kind not in cdtext.KINDS or len(texts) != 1 + len(tracks) or not all(map(_TEXT.fullmatch, texts)):
            raise ValueError(f"not a disc: its texts of type {kind:#x}")
    return Disc(tracks, extents, found.catalog, found.texts)


def _check_tracks(tracks: Sequence[Track]) -> None:
    """ValueError where they do not follow one another, or are not as tracks are."""
    if not tracks:
        raise ValueError("not a disc: it has no tracks")
    at = 0
    for number, track in enumerate(tracks, tracks[0].number):
        if not (
            1 <= track.number == number <= MAX_TRACKS
            and at == track.first <= track.start < track.end <= LONGEST
            and 1 <= len(track.indexes) <= MAX_INDEXES
            and list(track.indexes) == sorted(track.indexes)
            and track.start == track.indexes[0]
            and track.indexes[-1] <= track.end
            and 0 <= track.control <= _CONTROLS
            and _ISRC.fullmatch(track.isrc)
        ):
            raise ValueError(f"not a disc: its track {number}")
        at = track.end


def _check_extents(extents: Sequence[Extent], blocks: int) -> None:
    """ValueError where they do not hold each of so many blocks, or not as such tracks are stored."""
    at = 0
    for extent in extents:
        track = extent.track
        if not (
            extent.start == at
            and extent.blocks > 0
            and track.first <= at < extent.end <= track.end
            and (track.mode, extent.stored) in _STORED
            and 0 <= (extent.offset or 0) <= _FARTHEST
        ):
            raise ValueError(f"not a disc: its block {at}")
        at = extent.end
    if at != blocks:
        raise ValueError(f"not a disc: {at} of {blocks} blocks")
