"""The corpus that is kept: for each target one small compressed file of inputs that together reach the most."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

import zstandard

FOLDER = Path(__file__).parent / "corpus"
LENGTH = struct.Struct("<H")
MOST = 1 << 20
"""Bytes of a target's inputs."""


class CorpusError(Exception):
    """A file of the corpus that is damaged: which, and how."""


def pack(inputs: Sequence[bytes]) -> bytes:
    """Inputs (each shorter than 64 KiB), each behind its length, compressed."""
    plain = b"".join(LENGTH.pack(len(each)) + each for each in inputs)
    return zstandard.ZstdCompressor(level=9).compress(plain)


def unpack(packed: bytes, name: str) -> list[bytes]:
    """The inputs again; CorpusError."""
    try:
        plain = zstandard.ZstdDecompressor().decompress(packed, max_output_size=MOST)
    except zstandard.ZstdError as error:
        raise CorpusError(f"{name}: {error}") from None
    inputs, at = [], 0
    while at < len(plain):
        end = at + LENGTH.size
        if end > len(plain):
            raise CorpusError(f"{name}: ends within a length")
        end += LENGTH.unpack_from(plain, at)[0]
        if end > len(plain):
            raise CorpusError(f"{name}: ends within an input")
        inputs.append(plain[at + LENGTH.size : end])
        at = end
    return inputs


def kept(target: str) -> list[bytes]:
    """The inputs of a target; none where there is no file."""
    path = FOLDER / f"{target}.zst"
    return unpack(path.read_bytes(), path.name) if path.exists() else []


def keep(target: str, inputs: Sequence[bytes]) -> None:
    """Write its file."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{target}.zst").write_bytes(pack(inputs))


def spread(inputs: Iterable[bytes], folder: Path) -> None:
    """Each input a file of its own, as the engine wants them."""
    folder.mkdir(parents=True, exist_ok=True)
    for each in inputs:
        (folder / hashlib.sha1(each, usedforsecurity=False).hexdigest()).write_bytes(each)
