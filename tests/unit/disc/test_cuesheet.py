"""Cue sheets: which block of the disc is where, and what is wrong with a sheet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.disc import Disc, Mode
from devmodels.disc.cuesheet import Contents, CueError, lay_out, parse
from devmodels.disc.subchannel import formatted_q, position, q_channel, raw_sub_channel
from devmodels.disc.text import from_text, to_text


def disc(text: str, *sizes: int) -> Disc:
    """The disc of a sheet whose files have these sizes, one after the other in the image."""
    contents, base = [], 0
    for size in sizes:
        contents.append(Contents(size, base))
        base += size
    return lay_out(parse(text), contents)


MIXED = """
REM a data track and two of audio
CATALOG 1234567890123
FILE "mixed.bin" BINARY
  TRACK 01 MODE1/2352
    INDEX 01 00:00:00
  TRACK 02 AUDIO
    TITLE "one"
    FLAGS DCP PRE
    ISRC ABCDE1234567
    INDEX 00 00:00:50
    INDEX 01 00:01:00
    INDEX 02 00:01:10
  TRACK 03 AUDIO
    PREGAP 00:02:00
    INDEX 01 00:02:00
"""


def test_a_mixed_disc() -> None:
    it = disc(MIXED, 200 * 2352)
    assert (it.blocks, it.catalog) == (350, "1234567890123")
    one, two, three = it.tracks
    assert (one.mode, one.first, one.start, one.end, one.control) == (Mode.MODE1, 0, 0, 50, 4)
    assert (two.first, two.start, two.end, two.indexes) == (50, 75, 150, (75, 85))
    assert (two.control, two.isrc) == (3, "ABCDE1234567")
    assert (three.first, three.start, three.end) == (150, 300, 350)
    assert [two.index_at(lba) for lba in (50, 74, 75, 84, 85)] == [0, 0, 1, 1, 2]
    assert [(e.start, e.blocks, e.offset) for e in it.extents] == [
        (0, 50, 0),
        (50, 25, 50 * 2352),
        (75, 10, 75 * 2352),
        (85, 65, 85 * 2352),
        (150, 150, None),
        (300, 50, 150 * 2352),
    ]
    assert not it.plain
    assert [number for _, number, _ in it.pieces(140, 200)] == [140, 150, 300]


def test_sectors_of_several_sizes_in_one_file() -> None:
    text = """FILE a BINARY
      TRACK 01 MODE1/2048
        INDEX 01 00:00:00
      TRACK 02 MODE2/2336
        INDEX 01 00:00:10
      TRACK 03 AUDIO
        INDEX 01 00:00:20"""
    it = disc(text, 10 * 2048 + 10 * 2336 + 5 * 2352 + 7)
    assert [(e.offset, e.stored, e.blocks) for e in it.extents] == [
        (0, 2048, 10),
        (20480, 2336, 10),
        (20480 + 23360, 2352, 5),
    ]


def test_a_file_for_each_track() -> None:
    text = """FILE "1.bin" BINARY
      TRACK 01 MODE1/2048
        INDEX 01 00:00:00
      TRACK 02 AUDIO
        INDEX 00 00:00:08
    FILE "2.bin" MOTOROLA
        INDEX 01 00:00:00
      TRACK 03 AUDIO
        INDEX 01 00:00:05
        POSTGAP 00:00:03"""
    it = disc(text, 8 * 2048 + 2 * 2352, 9 * 2352)
    assert [(t.first, t.start, t.end) for t in it.tracks] == [(0, 0, 8), (8, 10, 15), (15, 15, 22)]
    assert [e.swapped for e in it.extents] == [False, False, True, True, False]
    assert [e.offset for e in it.extents] == [0, 16384, 21088, 21088 + 5 * 2352, None]


def test_a_plain_sheet_is_a_plain_disc() -> None:
    it = disc("FILE x.iso BINARY\nTRACK 1 MODE1/2048\nINDEX 1 0:0:0", 2048 * 9 + 100)
    assert it.plain
    assert it.blocks == 9


def test_the_first_tracks_pregap_is_on_every_disc() -> None:
    text = "FILE x BINARY\nTRACK 01 AUDIO\nPREGAP 00:0{}:00\nINDEX 01 00:00:00"
    assert disc(text.format(2), 2352 * 10).tracks[0].start == 0
    assert disc(text.format(3), 2352 * 10).tracks[0].start == 75


def test_what_is_hidden_before_the_first_track() -> None:
    it = disc("FILE x BINARY\nTRACK 01 AUDIO\nINDEX 01 00:01:00", 2352 * 100)
    (track,) = it.tracks
    assert (track.first, track.start, track.end) == (0, 75, 100)


@pytest.mark.parametrize(
    "text",
    [
        'REM 7" single\nFILE x BINARY\nTRACK 01 AUDIO\nINDEX 01 00:00:00',
        'TITLE "wait\x85"\r\nFILE x BINARY\r\nTRACK 01 AUDIO\r\nINDEX 01 00:00:00\r\n',
        "FILE x BINARY\rTRACK 01 AUDIO\r\tINDEX 01 00:00:00\r",
    ],
)
def test_what_sheets_look_like_elsewhere(text: str) -> None:
    assert disc(text, 2352).blocks == 1


@pytest.mark.parametrize(
    ("text", "size", "message"),
    [
        ("", 0, "line 1: no TRACK; expected one at least"),
        ("FILE x BINARY", 0, "line 1: no TRACK; expected one at least"),
        ("TRACK 01 AUDIO", 0, "line 1: TRACK before any FILE"),
        ("FILE x", 0, 'line 1: expected FILE "name" type'),
        ("FILE x MP3", 0, "line 1: type 'MP3' of a file; expected one of BINARY, MOTOROLA, WAVE"),
        ('FILE "" BINARY', 0, "line 1: a file without a name"),
        ('FILE "x BINARY', 0, "line 1: a quotation mark without the one that ends it"),
        (
            "FILE x BINARY\n\nTRACK 01 CDG",
            0,
            "line 3: mode 'CDG' of a track; expected one of AUDIO, MODE1/2048",
        ),
        ("FILE x BINARY\nTRACK 0 AUDIO", 0, "line 2: track '0'; expected a number from 1 to 99"),
        ("FILE x BINARY\nTRACK ٣ AUDIO", 0, "line 2: track '٣'; expected a number from 1 to 99"),
        ("FILE x BINARY\nTRACK 1 AUDIO\nTRACK 2 AUDIO", 0, "line 2: TRACK 1 has no INDEX 01"),
        (
            "FILE x BINARY\nTRACK 1 AUDIO\nINDEX 1 0:0:0\nTRACK 3 AUDIO",
            0,
            "line 4: TRACK 3 after TRACK 1; expected 2",
        ),
        ("FILE x BINARY\nINDEX 01 00:00:00", 0, "line 2: INDEX before any TRACK"),
        ("FILE x BINARY\nTRACK 1 AUDIO\nINDEX 02 00:00:00", 0, "line 3: INDEX 02; expected 00 or 01"),
        ("FILE x BINARY\nTRACK 1 AUDIO\nINDEX 01 00:60:00", 0, "line 3: time '00:60:00'; expected minutes"),
        (
            "FILE x BINARY\nTRACK 1 AUDIO\nINDEX 00 0:0:9\nINDEX 01 0:0:3",
            0,
            "line 4: INDEX 01 at 0:0:3, before the one in line 3",
        ),
        (
            "FILE x BINARY\nTRACK 1 AUDIO\nINDEX 01 0:0:0\nPREGAP 0:2:0",
            0,
            "line 4: PREGAP after INDEX; expected it before",
        ),
        ("FILE x BINARY\nTRACK 1 AUDIO\nFLAGS ABC", 0, "line 3: flag 'ABC'; expected DCP, 4CH, PRE, SCMS"),
        ("FILE x BINARY\nTRACK 1 AUDIO\nISRC 12", 0, "line 3: ISRC '12'; expected 12 letters and digits"),
        ("CATALOG 12", 0, "line 1: CATALOG '12'; expected 13 digits"),
        (
            f"FILE x BINARY\nTRACK {'9' * 5000} AUDIO",
            0,
            f"line 2: track '{'9' * 57}...'; expected a number from 1 to 99",
        ),
        ("FROBNICATE", 0, "line 1: 'FROBNICATE' is no command; expected one of FILE, TRACK"),
        (
            "FILE x BINARY\nTRACK 1 AUDIO\nINDEX 01 0:0:0",
            2351,
            "line 3: INDEX 01 is beyond the end of 'x'",
        ),
        (
            "FILE x BINARY\nTRACK 1 AUDIO\nINDEX 01 0:0:0\nTRACK 2 AUDIO\nINDEX 01 0:0:9",
            2352 * 5,
            "line 3: the end of 'x' comes before the next INDEX",
        ),
        (
            "FILE x BINARY\nTRACK 1 AUDIO\nINDEX 01 0:0:0\nTRACK 2 AUDIO\nINDEX 01 0:0:0",
            2352 * 5,
            "line 2: TRACK 1 holds nothing",
        ),
        (
            "FILE x BINARY\nTRACK 1 AUDIO\nINDEX 01 0:0:0\nTRACK 2 AUDIO\nPREGAP 999:0:0\nINDEX 01 0:0:1",
            2352 * 5,
            "line 4: a disc of 4495505 blocks; expected at most 449850",
        ),
    ],
)
def test_a_bad_sheet_is_one_line_that_says_where(text: str, size: int, message: str) -> None:
    with pytest.raises(CueError) as raised:
        disc(text, *([size] * text.count("FILE")))
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


TIMES = st.sampled_from(["00:00:00", "00:00:01", "00:00:05", "00:02:00", "99:59:74", "1:2:3", "0:0:75", "x"])
LINES = st.one_of(
    st.sampled_from(["", "REM x", "FLAGS DCP", "TITLE a b", "ISRC ABCDE1234567", "CATALOG 1234567890123"]),
    st.builds(
        "FILE f{} {}".format, st.integers(0, 2), st.sampled_from(["BINARY", "MOTOROLA", "WAVE", "MP3"])
    ),
    st.builds(
        "TRACK {} {}".format,
        st.integers(0, 4),
        st.sampled_from(["AUDIO", "MODE1/2048", "MODE1/2352", "MODE2/2336", "MODE2/2352", "CDG"]),
    ),
    st.builds("INDEX {} {}".format, st.integers(0, 3), TIMES),
    st.builds("{} {}".format, st.sampled_from(["PREGAP", "POSTGAP"]), TIMES),
    st.text(max_size=20),
)


@given(lines=st.lists(LINES, max_size=14), sizes=st.lists(st.integers(0, 100_000), min_size=14, max_size=14))
def test_any_sheet_is_a_disc_or_one_line(lines: list[str], sizes: list[int]) -> None:
    base = 0
    message = ""
    try:
        sheet = parse("\n".join(lines))
        contents = []
        for size, _ in zip(sizes, sheet.files, strict=False):
            contents.append(Contents(size, base))
            base += size
        it = lay_out(sheet, contents)
    except CueError as error:
        message = str(error)
    if message:
        assert len(message.splitlines()) == 1
        return
    again = from_text(to_text(it))
    assert (again.tracks, again.extents, again.catalog) == (it.tracks, it.extents, it.catalog)
    at = 0
    for extent in it.extents:
        assert extent.start == at
        assert extent.blocks > 0
        assert extent.offset is None or extent.offset + extent.blocks * extent.stored <= base
        at = extent.end
    assert at == it.blocks
    for track in it.tracks:
        assert track.first <= track.start < track.end
        assert it.track_at(track.start) is track
        assert track.index_at(track.start) >= 1
    for lba in {0, it.blocks - 1, it.blocks // 2}:
        assert len(formatted_q(it, lba)) == 16
        assert len(raw_sub_channel(it, lba)) == 96


def test_the_q_sub_channel() -> None:
    it = disc(MIXED, 200 * 2352)
    assert q_channel(it, 0)[:10].hex(" ") == "41 01 01 00 00 00 00 00 02 00"
    assert q_channel(it, 86)[:10].hex(" ") == "31 02 02 00 00 11 00 00 03 11"
    assert position(it, 60).relative == 15
    assert formatted_q(it, 60)[1:6].hex(" ") == "02 00 00 00 15"
    assert [formatted_q(it, lba)[15] for lba in (60, 80)] == [0x80, 0]


def test_the_crc_of_q_is_that_of_discs() -> None:
    """The remainder of data and CRC together is that of the inverted bits, whatever the data."""
    it = disc(MIXED, 200 * 2352)
    for lba in (0, 99, 340):
        value = 0
        for byte in q_channel(it, lba):
            value ^= byte << 8
            for _ in range(8):
                value = value << 1 & 0xFFFF ^ (0x1021 if value & 0x8000 else 0)
        assert value == 0x1D0F


def test_raw_sub_channels_hold_q_bit_by_bit() -> None:
    it = disc(MIXED, 200 * 2352)
    raw = raw_sub_channel(it, 60)
    assert all(byte & 0x3F == 0 and byte & 0x80 for byte in raw)
    bits = "".join(str(byte >> 6 & 1) for byte in raw)
    assert int(bits, 2).to_bytes(12, "big") == q_channel(it, 60)
