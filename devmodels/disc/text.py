"""A disc as a line of text, for a trace: tracks and where they are stored, as JSON."""

from __future__ import annotations

import msgspec

from devmodels.disc.disc import BLOCK, Disc, Extent, Mode, Track


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
    return msgspec.json.encode(_Disc(tracks, extents, disc.catalog)).decode()


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
    if not extents or not tracks or any(each.blocks <= 0 or each.stored < BLOCK for each in extents):
        raise ValueError("not a disc: it has no blocks")
    return Disc(tracks, extents, found.catalog)
