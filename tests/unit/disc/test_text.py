"""Discs in traces, which come from anywhere."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.disc import Disc
from devmodels.disc.cdtext import packs
from devmodels.disc.cuesheet import Contents, lay_out, parse
from devmodels.disc.sector import sectors
from devmodels.disc.subchannel import formatted_q
from devmodels.disc.text import from_text, to_text

SHEET = """CATALOG 1234567890123
TITLE "Björk"
FILE "x" BINARY
TRACK 02 MODE1/2048
INDEX 01 00:00:00
TRACK 03 AUDIO
ISRC ABCDE1234567
INDEX 00 00:00:10
INDEX 01 00:00:20
TRACK 04 MODE2/2336
PREGAP 00:00:05
INDEX 01 00:00:30
INDEX 02 00:00:35"""


def example() -> Disc:
    return lay_out(parse(SHEET), [Contents(10 * 2048 + 20 * 2352 + 10 * 2336, 0)])


def test_there_and_back() -> None:
    disc, again = example(), from_text(to_text(example()))
    assert (again.tracks, again.extents, again.catalog) == (disc.tracks, disc.extents, disc.catalog)
    assert again.texts == disc.texts == {0x80: ("Björk", "", "", "")}


@pytest.mark.parametrize(
    ("find", "other"),
    [
        ('"number":3', '"number":7'),
        ('"mode":"AUDIO"', '"mode":"VIDEO"'),
        ('"first":10', '"first":9'),
        ('"start":20', '"start":30'),
        ('"end":45', '"end":44'),
        ('"indexes":[0]', '"indexes":[]'),
        ('"indexes":[35,40]', '"indexes":[40,35]'),
        ('"control":4', '"control":16'),
        ('"isrc":"ABCDE1234567"', '"isrc":"ABC"'),
        ('"catalog":"1234567890123"', '"catalog":"x"'),
        ("[0,10,0,0,2048,false]", "[0,10,0,-1,2048,false]"),
        ("[0,10,0,0,2048,false]", "[0,10,0,0,2049,false]"),
        ("[0,10,0,0,2048,false]", "[0,10,1,0,2048,false]"),
        ("[0,10,0,0,2048,false]", "[1,9,0,0,2048,false]"),
        ("[0,10,0,0,2048,false],", ""),
        (to_text(example()), '{"tracks":[],"extents":[]}'),
        ('"128":', '"127":'),
        ('["Björk","","",""]', '["Björk","",""]'),
        ('["Björk","","",""]', '["Björk","","","\\u2603"]'),
        (to_text(example()), "["),
    ],
)
def test_what_is_no_disc(find: str, other: str) -> None:
    text = to_text(example())
    assert find in text
    with pytest.raises(ValueError, match="not a disc: "):
        from_text(text.replace(find, other, 1))


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every place in a JSON value: what holds it, and its key or index there."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, inner in items for place in ((value, key), *_places(inner))]


VALUES = st.one_of(
    st.integers(-2, 60), st.integers(), st.sampled_from([None, "", "MODE1", [], [0], True, 2336])
)


@given(changes=st.lists(st.tuples(st.integers(0, 200), VALUES), min_size=1, max_size=3))
def test_whatever_a_trace_says_is_a_disc_or_refused(changes: list[tuple[int, Any]]) -> None:
    found = json.loads(to_text(example()))
    for number, value in changes:
        places = _places(found)
        holder, key = places[number % len(places)]
        holder[key] = deepcopy(value)
    try:
        disc = from_text(json.dumps(found))
    except ValueError:
        return
    assert sum(count for _, _, count in disc.pieces(0, disc.blocks)) == disc.blocks
    for extent, lba, _ in disc.pieces(0, disc.blocks):
        assert disc.track_at(lba) is extent.track
        assert len(next(sectors(extent, lba, 1, bytes(extent.stored)))) == 2352
        assert len(formatted_q(disc, lba)) == 16
    assert len(packs(disc)) % 18 == 0
