"""RIFF files: where the samples are, whatever else is in them."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.disc.riff import MAX_CHUNKS, Samples, find_samples

FORM = struct.pack("<HHIIHH", 1, 2, 44100, 176400, 4, 16)


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    parts = [name + len(data).to_bytes(4, "little") + data + bytes(len(data) % 2) for name, data in chunks]
    return b"RIFF\xff\xff\xff\xffWAVE" + b"".join(parts)


def test_samples_among_other_chunks() -> None:
    data = riff((b"LIST", b"odd"), (b"fmt ", FORM), (b"fact", b"1234"), (b"data", b"12345678"))
    assert find_samples(io.BytesIO(data)) == Samples(len(data) - 8, 8, 2, 16, 44100)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cut off"),
        (b"RIFX\0\0\0\0WAVE", "does not begin with RIFF and WAVE"),
        (riff(), "cut off"),
        (riff((b"data", b"1234")), "samples come before their format"),
        (riff((b"fmt ", FORM[:14]), (b"data", b"")), "format is cut off"),
        (riff((b"fmt ", b"\x03" + FORM[1:]), (b"data", b"")), "of format 0x0003; expected PCM"),
        (riff((b"fmt ", b"\xfe\xff" + FORM[2:]), (b"data", b"")), "of format 0xfffe; expected PCM"),
        (riff((b"fmt ", FORM), *[(b"junk", b"")] * MAX_CHUNKS, (b"data", b"")), "first 1000 chunks"),
    ],
)
def test_what_has_no_samples(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_samples(io.BytesIO(data))


CHUNK = st.one_of(
    st.binary(max_size=20),
    st.builds(
        lambda name, size, data: name + size.to_bytes(4, "little") + data,
        st.sampled_from([b"fmt ", b"data", b"LIST"]),
        st.sampled_from([0, 1, 16, 40, 0xFFFF_FFFF]),
        st.one_of(st.just(FORM), st.binary(max_size=40)),
    ),
)


@given(head=st.sampled_from([b"RIFF\0\0\0\0WAVE", b"RIFF", b""]), chunks=st.lists(CHUNK, max_size=5))
def test_any_bytes_have_samples_or_not(head: bytes, chunks: list[bytes]) -> None:
    data = head + b"".join(chunks)
    message, start = "", len(data)
    try:
        start = find_samples(io.BytesIO(data)).start
    except ValueError as error:
        message = str(error)
    assert len(message.splitlines()) <= 1
    assert start <= len(data)
