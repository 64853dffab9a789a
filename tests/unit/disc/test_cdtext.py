"""CD-TEXT: what is in the packs is what the sheet says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from devmodels.disc import Disc
from devmodels.disc.cdtext import packs
from devmodels.disc.cuesheet import Contents, lay_out, parse

ALBUM = """TITLE "An album, and a long title of it"
PERFORMER Nobody
FILE x BINARY
TRACK 05 AUDIO
TITLE "one"
INDEX 01 00:00:00
TRACK 06 AUDIO
TITLE say "two"
PERFORMER "Björk ☃"
INDEX 01 00:00:01"""


def album(text: str = ALBUM) -> Disc:
    return lay_out(parse(text), [Contents(2352 * 200, 0)])


def crc(data: bytes) -> int:
    value = 0
    for byte in data:
        value ^= byte << 8
        for _ in range(8):
            value = value << 1 & 0xFFFF ^ (0x1021 if value & 0x8000 else 0)
    return value


def of(data: bytes) -> list[bytes]:
    return [data[at : at + 18] for at in range(0, len(data), 18)]


def texts_in(found: list[bytes], kind: int) -> list[str]:
    text = b"".join(pack[4:16] for pack in found if pack[0] == kind).rstrip(b"\0")
    return text.decode("latin-1").split("\0")


def test_the_texts_of_an_album() -> None:
    found = of(packs(album()))
    assert texts_in(found, 0x80) == ["An album, and a long title of it", "one", 'say "two"']
    assert texts_in(found, 0x81) == ["Nobody", "", "Björk ?"]
    assert [pack[2] for pack in found] == list(range(len(found)))
    # Where each begins: track, and how much of its text is before.
    assert [(pack[1], pack[3]) for pack in found if pack[0] == 0x80] == [(0, 0), (0, 12), (0, 15), (5, 3)]
    assert all(crc(pack[:16]) ^ 0xFFFF == int.from_bytes(pack[16:], "big") for pack in found)


def test_the_last_packs_say_how_many_there_are() -> None:
    found = of(packs(album()))
    sizes = b"".join(pack[4:16] for pack in found if pack[0] == 0x8F)
    assert sizes[:4] == bytes((0, 5, 6, 0))
    assert sizes[4:20] == bytes((4, 2, *[0] * 13, 3))
    assert sizes[20:] == bytes((8, *[0] * 7, 9, *[0] * 7))
    assert [pack[1] for pack in found[-3:]] == [0, 1, 2]


def test_no_text_no_packs() -> None:
    assert packs(album("FILE x BINARY\nTRACK 01 AUDIO\nINDEX 01 00:00:00")) == b""


@given(
    titles=st.lists(
        st.text(st.characters(blacklist_characters="\r\n\0"), max_size=300), min_size=1, max_size=99
    )
)
def test_texts_are_cut_where_there_are_too_many(titles: list[str]) -> None:
    tracks = "".join(
        f"TRACK {number} AUDIO\nTITLE {title}\nPERFORMER {title}\nSONGWRITER {title}\nINDEX 01 00:00:{number % 75:02}\n"
        if number < 75
        else f"TRACK {number} AUDIO\nTITLE {title}\nINDEX 01 00:01:{number - 75:02}\n"
        for number, title in enumerate(titles, 1)
    )
    found = of(packs(album("FILE x BINARY\n" + tracks)))
    assert len(found) <= 256
    assert [pack[2] for pack in found] == list(range(len(found)))
    for got, title in zip(texts_in(found, 0x80)[1:], titles, strict=False):
        assert len(got) <= 160
        assert len(got) <= len(title.strip()) or not title.strip()
