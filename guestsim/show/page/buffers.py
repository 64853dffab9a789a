"""What the page says of one buffer: its chain, its bytes by field, what was wrong, which events belong to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from devmodels.virtio_blk.layout import SECTOR
from guestsim.forms import BLK, CONTROL, EVENTS, CommandForm
from guestsim.life import Life, Piece
from guestsim.show import names, scsi
from guestsim.show.decode import LAYOUTS, decode

MOST_PIECES = 256
"""Of a longer chain the first are shown."""
MOST_STRUCTURED = 4096
"""So many bytes of what has fields are decoded."""

_HEADER_SIZE = LAYOUTS["virtio_blk_req"].size


class Section(msgspec.Struct, omit_defaults=True):
    """A part of a buffer: what it is, how many bytes, the first of them in hexadecimal, and their fields.

    A field is name, offset, size, value, what that means.  `known` is False where the device has touched none of it.
    """

    title: str
    writable: bool
    length: int
    data: str
    layout: str = ""
    fields: list[tuple[str, int, int, str, str]] = []
    known: bool = True


class Buffer(msgspec.Struct, omit_defaults=True):
    """`pieces` are guest address (hexadecimal), length, whether device-writable; `count` is how many there are."""

    pieces: list[tuple[str, int, bool]]
    count: int
    sections: list[Section]
    table: tuple[str, int] | None = None
    """Address and length of an indirect table."""
    violations: list[tuple[str, str, str, str]] = []
    events: list[int] = []


def buffer_of(life: Life, payload: int, table: tuple[int, int] | None) -> Buffer:
    """What there is to say while the bytes are at hand; of its data the first `payload` bytes."""
    pieces = [(piece, writable) for writable in (False, True) for piece in _pieces(life, writable=writable)]
    return Buffer(
        [(hex(piece.address), piece.length, writable) for piece, writable in pieces[:MOST_PIECES]],
        len(pieces),
        [section for writable in (False, True) for section in _sections(life, payload, writable=writable)],
        None if table is None else (hex(table[0]), table[1]),
    )


def _pieces(life: Life, *, writable: bool) -> Sequence[Piece]:
    return life.writable if writable else life.readable


def _sections(life: Life, payload: int, *, writable: bool) -> Iterator[Section]:
    """The parts of a request on one side of its buffer."""
    pieces = _pieces(life, writable=writable)
    total = sum(piece.length for piece in pieces)
    for title, layout, at, end in life.form.parts(life.opening, total, writable=writable):
        shown = min(end - at, max(payload, MOST_STRUCTURED) if layout else payload)
        data, known = _cut(pieces, at, at + shown)
        fields = decode(layout, data) if layout and known else []
        yield Section(
            title,
            writable,
            end - at,
            data.hex(),
            layout,
            [
                (field.name, field.offset, field.size, field._replace(meaning="").text, field.meaning)
                for field in fields
            ],
            known,
        )


def _cut(pieces: Sequence[Piece], start: int, end: int) -> tuple[bytes, bool]:
    """The bytes from `start` to `end`, and whether the device has touched any of the pieces that they lie in."""
    data = b""
    known = start == end
    at = 0
    for piece in pieces:
        first, last = max(start - at, 0), min(end - at, piece.length)
        if first < last:
            data += piece.cut(first, last)
            known = known or bool(piece.known)
        at += piece.length
        if at >= end:
            break
    return data, known


def violations_of(life: Life) -> list[tuple[str, str, str, str]]:
    """Clause, place, what happened, the bytes concerned."""
    return [
        (clause, place, summary, data[:MOST_STRUCTURED].hex())
        for clause, place, summary, data in life.violations
    ]


def operation(life: Life) -> str:
    """What was asked for, in the block layer's words; a request's own type where it never got there."""
    if life.parts:
        return life.parts[0].op
    if life.form is not BLK:
        return _scsi_operation(life)
    header = life.header
    if header is None:
        return "not read"
    return {"IN": "READ", "OUT": "WRITE"}.get(word := names.blk_type(header[0]), word)


def _scsi_operation(life: Life) -> str:
    """What was asked for of a SCSI host, where that is no request of a disk."""
    if life.form is EVENTS:
        return "event"
    if life.form is CONTROL:
        return scsi.control_words(life.opening).partition(" of ")[0]
    assert isinstance(life.form, CommandForm)
    return scsi.operation(life.form, life.opening)


def range_of(life: Life) -> tuple[int, int]:
    """Where on the disk a request is, and how long, in bytes: as it was submitted, else as its buffer says."""
    if life.parts:
        return life.parts[0].offset, sum(part.length for part in life.parts)
    header = life.header
    op = operation(life)
    if header is None or op not in ("READ", "WRITE"):
        return 0, 0
    pieces, other = (life.readable, _HEADER_SIZE) if op == "WRITE" else (life.writable, 1)
    return header[2] * SECTOR, max(sum(piece.length for piece in pieces) - other, 0)
