"""Whole sectors: their codes are right, and what an image lacks of them is made."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.disc import Disc, Extent, Mode, Track
from devmodels.disc.address import HIGHEST, bcd, from_msf, to_msf
from devmodels.disc.parity import edc
from devmodels.disc.sector import RAW, SYNC, Kind, form1, gap, kind_of, mode1, sectors, user_data, whole

DATA = st.binary(min_size=2048, max_size=2048)
FIELD = 0x11D


def times_power(value: int, power: int) -> int:
    """`value` times the field's generator to the power given, step by step."""
    for _ in range(power):
        value = value << 1 ^ (FIELD if value & 0x80 else 0)
    return value


def syndromes(column: list[int]) -> tuple[int, int]:
    """The two sums that are 0 for a column without errors (ECMA-130 Annex A)."""
    plain = weighted = 0
    for place, value in enumerate(reversed(column)):
        plain ^= value
        weighted ^= times_power(value, place)
    return plain, weighted


def columns(covered: bytes, ecc: bytes) -> list[list[int]]:
    """P and Q columns as ECMA-130 Annex A numbers them: by 16-bit words, low and high bytes apart."""
    found = []
    words = covered + ecc
    for byte in (0, 1):
        found += [[words[2 * (43 * m_p + n_p) + byte] for m_p in range(26)] for n_p in range(43)]
        for n_q in range(26):
            places = [(44 * m_q + 43 * n_q) % 1118 for m_q in range(43)] + [43 * 26 + n_q, 44 * 26 + n_q]
            found.append([words[2 * place + byte] for place in places])
    return found


def crc(data: bytes) -> int:
    """EDC by its definition, bit by bit."""
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xD8018001 if value & 1 else 0)
    return value


def test_every_column_of_a_sector_adds_up() -> None:
    sector = mode1(1234, bytes(range(256)) * 8)
    assert len(sector) == RAW
    for column in columns(sector[12:2076], sector[2076:]):
        assert syndromes(column) == (0, 0)


def test_every_column_of_a_form_1_sector_adds_up_without_its_header() -> None:
    sector = form1(77, b"\xa5\x5a" * 1024)
    for column in columns(bytes(4) + sector[16:2076], sector[2076:]):
        assert syndromes(column) == (0, 0)


@given(data=st.binary(max_size=64))
def test_edc_is_the_crc(data: bytes) -> None:
    assert int.from_bytes(edc(data), "little") == crc(data)


def test_edc_covers_what_it_must() -> None:
    sector = mode1(0, bytes(2048))
    assert int.from_bytes(sector[2064:2068], "little") == crc(sector[:2064])
    sector = form1(0, b"x" * 2048)
    assert int.from_bytes(sector[2072:2076], "little") == crc(sector[16:2072])


@given(data=DATA, lba=st.integers(0, 449_849))
def test_a_sector_gives_its_user_data_back(data: bytes, lba: int) -> None:
    first = mode1(lba, data)
    assert first[:12] == SYNC
    assert user_data(Kind.MODE1, first) == data
    second = form1(lba, data)
    assert kind_of(Mode.MODE2, second) is Kind.FORM1
    assert user_data(Kind.FORM1, second) == data
    assert first[12:15] == second[12:15] == bytes(map(bcd, to_msf(lba)))


def _extent(mode: Mode, stored: int, *, offset: int | None = 0, swapped: bool = False) -> Extent:
    track = Track(1, mode, 0, 0, 10, (0,), 0 if mode is Mode.AUDIO else 4)
    return Extent(0, 10, track, offset, stored, swapped)


def test_what_an_image_lacks_is_made() -> None:
    user = b"u" * 2048
    assert whole(_extent(Mode.MODE1, 2048), 3, user) == mode1(3, user)
    assert whole(_extent(Mode.MODE2, 2048), 3, user) == form1(3, user)
    without = b"w" * 2336
    assert whole(_extent(Mode.MODE2, 2336), 3, without)[16:] == without
    everything = bytes(range(49)) * 48
    assert whole(_extent(Mode.MODE1, RAW), 3, everything) == everything
    swapped = whole(_extent(Mode.AUDIO, RAW, swapped=True), 3, everything)
    assert (swapped[0], swapped[1], swapped[-1]) == (everything[1], everything[0], everything[-2])


@pytest.mark.parametrize("mode", Mode)
def test_gaps_are_of_their_tracks_mode(mode: Mode) -> None:
    extent = _extent(mode, RAW, offset=None)
    first, second = sectors(extent, 4, 2, b"")
    assert first == gap(extent, 4)
    assert second == gap(extent, 5)
    assert len(first) == RAW
    if mode is not Mode.AUDIO:
        assert first[15] == (1 if mode is Mode.MODE1 else 2)
        assert first[12:15] != second[12:15]


@pytest.mark.parametrize(
    ("subheader", "kind"),
    [
        ("00000800 00000800", Kind.FORM1),
        ("01020800 01020800", Kind.FORM1),
        ("00002000 00002000", Kind.FORM2),
        ("00000800 00000801", Kind.FORMLESS),
        ("00000000 00000000", Kind.FORMLESS),
    ],
)
def test_what_a_mode_2_sector_is(subheader: str, kind: Kind) -> None:
    sector = bytes(16) + bytes.fromhex(subheader) + bytes(2328)
    assert kind_of(Mode.MODE2, sector) is kind
    assert len(user_data(kind, sector)) == {"FORM1": 2048, "FORM2": 2328, "FORMLESS": 2336}[kind.name]


@given(lba=st.integers(-150, 449_849))
def test_addresses_there_and_back(lba: int) -> None:
    minute, second, frame = to_msf(lba)
    assert from_msf(minute, second, frame) == lba
    assert minute < 100


def test_addresses_that_there_are_not() -> None:
    assert to_msf(10_000_000) == HIGHEST
    for minute, second, frame in ((0, 60, 0), (0, 0, 75)):
        with pytest.raises(ValueError, match="no address"):
            from_msf(minute, second, frame)


def test_a_disc_of_data() -> None:
    disc = Disc.of_data(100)
    assert disc.plain
    assert not disc.audio_only
    assert disc.track_at(99) is disc.tracks[0]
    assert disc.track(1) is disc.tracks[0]
    assert disc.track(0) is disc.track(2) is None
    assert list(disc.pieces(98, 2)) == [(disc.extents[0], 98, 2)]
