"""RIFF files of audio: where their samples are, and what these are (Multimedia Programming Interface 1.0, chapter 3).

Files come from anywhere: at most `MAX_CHUNKS` chunks are looked at, of which only headers and the format are read.
"""

from __future__ import annotations

import struct
from typing import BinaryIO, NamedTuple

MAX_CHUNKS = 1000
PCM, EXTENSIBLE = 0x0001, 0xFFFE
"""Format tags; the second has the first in its extension."""
_RIFF = struct.Struct("<4sI4s")
_CHUNK = struct.Struct("<4sI")
_FORMAT = struct.Struct("<HHIIHH")
_EXTENSION = struct.Struct("<HHIH")
"""Its size, valid bits, speakers, format tag."""


class Samples(NamedTuple):
    """`size` bytes of samples from byte `start` of the file on, as the file has it."""

    start: int
    size: int
    channels: int
    bits: int
    rate: int


def find_samples(stream: BinaryIO) -> Samples:
    """The samples of a RIFF file, read from its beginning; ValueError where there are none, or not of PCM."""
    name, _, form = _RIFF.unpack(_exactly(stream, _RIFF.size))
    if (name, form) != (b"RIFF", b"WAVE"):
        raise ValueError("it does not begin with RIFF and WAVE")
    found: tuple[int, int, int] | None = None
    at = _RIFF.size
    for _ in range(MAX_CHUNKS):
        stream.seek(at)
        name, size = _CHUNK.unpack(_exactly(stream, _CHUNK.size))
        at += _CHUNK.size
        if name == b"fmt ":
            found = _form(stream, size)
        elif name == b"data":
            if found is None:
                raise ValueError("its samples come before their format")
            return Samples(at, size, *found)
        at += size + size % 2
    raise ValueError(f"no samples in its first {MAX_CHUNKS} chunks")


def _form(stream: BinaryIO, size: int) -> tuple[int, int, int]:
    """Channels, bits and rate."""
    if size < _FORMAT.size:
        raise ValueError("its format is cut off")
    tag, channels, rate, _, _, bits = _FORMAT.unpack(_exactly(stream, _FORMAT.size))
    if tag == EXTENSIBLE and size >= _FORMAT.size + _EXTENSION.size:
        *_, tag = _EXTENSION.unpack(_exactly(stream, _EXTENSION.size))
    if tag != PCM:
        raise ValueError(f"its samples are of format {tag:#06x}; expected PCM")
    return channels, bits, rate


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise ValueError("it is cut off")
    return data
