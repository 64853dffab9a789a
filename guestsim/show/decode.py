"""Bytes by field: the structures that driver and device exchange, from their construct declarations.

    for field in decode("virtio_blk_req", header):
        print(field.name, field.text)

`LAYOUTS` has the names.  Bytes that begin or end within a structure are decoded as far as they reach.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from construct import Bytes, Int8ul, Int16ul, Int32ul, Struct

from devmodels.ahci import fis
from devmodels.ahci import layout as ahci_layout
from devmodels.ide_cdrom.busmaster import REGION
from devmodels.virtio.layout import PVIRTQ_DESC, PVIRTQ_EVENT_SUPPRESS, VIRTQ_DESC
from devmodels.virtio_blk.layout import CONFIG, ID_BYTES, LIFETIME, RANGE_SEGMENT, REQUEST_HEADER
from devmodels.virtio_scsi import layout as scsi_layout
from devmodels.wire import Codec
from guestsim.show import ata, names, scsi

if TYPE_CHECKING:
    from construct import Construct

    from guestsim.forms import Part
    from guestsim.life import Life, Piece


class Field(NamedTuple):
    """A field of a structure: where it lies in the bytes, its value, what that means in words ("" where obvious).

    `value` is a number, or bytes where it is text or only part of the field is there; `hex` says how to write a number.
    """

    name: str
    offset: int
    size: int
    value: int | bytes
    meaning: str
    hex: bool = False

    @property
    def text(self) -> str:
        """Value and meaning: `5 NEXT|INDIRECT`, `0x1000`, `61 62 of 4 bytes`."""
        value = self.value
        if isinstance(value, bytes):
            shown = value.hex(" ")
        else:
            shown = f"{value:#x}" if self.hex else str(value)
        return f"{shown} {self.meaning}" if self.meaning else shown


@dataclass(frozen=True, slots=True)
class Layout:
    """A structure: its codec, the words for its fields, and those that are guest addresses."""

    codec: Codec[int] | Codec[int | bytes]
    words: dict[str, names.Words]
    addresses: frozenset[str]

    @property
    def size(self) -> int:
        """In bytes."""
        return self.codec.size


def _layout(
    declaration: Construct | Codec[int] | Codec[int | bytes],
    addresses: Sequence[str] = (),
    **words: names.Words,
) -> Layout:
    codec = declaration if isinstance(declaration, Codec) else Codec.of(declaration)
    return Layout(codec, words, frozenset(addresses))


_FIS = ["type", "flags", "command", "status", "error", "e_status", "lba_device", "sactive", "control"]
"""Fields of FISes that are written as hexadecimal numbers."""

LAYOUTS = {
    "virtq_desc": _layout(VIRTQ_DESC, ["addr"], flags=names.desc_flags),
    "pvirtq_desc": _layout(PVIRTQ_DESC, ["addr"], flags=names.packed_flags),
    "pvirtq_event_suppress": _layout(PVIRTQ_EVENT_SUPPRESS, desc=names.position, flags=names.event_flags),
    "virtq_used_elem": _layout(Struct("id" / Int32ul, "len" / Int32ul)),
    "index": _layout(Struct("value" / Int16ul)),
    "virtio_blk_req": _layout(REQUEST_HEADER, type=names.blk_type),
    "virtio_blk_discard_write_zeroes": _layout(
        RANGE_SEGMENT, num_sectors=names.sectors, flags=names.range_flags
    ),
    "virtio_blk_lifetime": _layout(LIFETIME),
    "virtio_blk_id": _layout(Struct("id" / Bytes(ID_BYTES))),
    "virtio_blk_config": _layout(
        CONFIG,
        capacity=names.sectors,
        writeback=names.on_off,
        max_discard_sectors=names.sectors,
        max_write_zeroes_sectors=names.sectors,
        max_secure_erase_sectors=names.sectors,
        write_zeroes_may_unmap=names.on_off,
    ),
    "status": _layout(Struct("status" / Int8ul), status=names.blk_status),
    "virtio_scsi_config": _layout(scsi_layout.CONFIG, max_sectors=names.sectors),
    "virtio_scsi_req_cmd": _layout(
        scsi_layout.COMMAND_FIXED, ["lun"], lun=scsi.lun_number_words, task_attr=scsi.attribute_words
    ),
    "virtio_scsi_resp_cmd": _layout(
        scsi_layout.RESPONSE_FIXED, status=scsi.scsi_status, response=scsi.response
    ),
    "virtio_scsi_ctrl_tmf": _layout(
        scsi_layout.TMF, ["lun"], subtype=scsi.function_name, lun=scsi.lun_number_words
    ),
    "virtio_scsi_ctrl_tmf_resp": _layout(Struct("response" / Int8ul), response=scsi.response),
    "virtio_scsi_ctrl_an": _layout(scsi_layout.ASYNC, ["lun"], lun=scsi.lun_number_words),
    "virtio_scsi_ctrl_an_resp": _layout(scsi_layout.ASYNC_ANSWER, response=scsi.response),
    "virtio_scsi_event": _layout(
        scsi_layout.EVENT, ["lun", "reason"], event=scsi.event_name, lun=scsi.lun_number_words
    ),
    "ahci_command_header": _layout(
        ahci_layout.COMMAND_HEADER, ["flags", "ctba", "ctbau"], flags=ata.header_flags
    ),
    "ahci_prd": _layout(ahci_layout.PRD, ["dba", "dbau", "dbc"]),
    "fis_register_h2d": _layout(fis.REGISTER_H2D, _FIS, type=ata.fis_type),
    "fis_register_d2h": _layout(
        fis.REGISTER_D2H, _FIS, type=ata.fis_type, status=ata.status, error=ata.error
    ),
    "fis_pio_setup": _layout(
        fis.PIO_SETUP, _FIS, type=ata.fis_type, status=ata.status, error=ata.error, e_status=ata.status
    ),
    "fis_dma_setup": _layout(fis.DMA_SETUP, _FIS, type=ata.fis_type),
    "fis_set_device_bits": _layout(
        fis.SET_DEVICE_BITS, _FIS, type=ata.fis_type, status=ata.status, error=ata.error, sactive=ata.slots
    ),
    "ide_region": _layout(REGION, ["address", "flags"]),
}
"""The structures by the specifications' names: VIRTIO 1.4 §2.7, §2.8, §5.2.4, §5.2.6, §5.6.4 and §5.6.6, AHCI 1.3.1
§4.2, SATA 3.x §10.5, SFF-8038i §1.2.

`cdb`, `mmc cdb` and `sense` are none of them: what they look like follows from their bytes.
"""
_BY_BYTES: dict[str, Callable[[bytes], list[tuple[str, int, int, int, str]]]] = {
    "cdb": scsi.cdb_fields,
    "mmc cdb": partial(scsi.cdb_fields, drive=True),
    "sense": scsi.sense_fields,
}


def decode(layout: str, data: bytes, *, start: int = 0) -> list[Field]:
    """The fields of `data`, which begins at byte `start` of the structure; offsets count from the first of `data`.

    Where there are several structures (descriptors of a table), each field has its structure's number before its name:
    `[2].addr`.  A field that is there in part has bytes for its value.
    """
    if layout in _BY_BYTES:
        return [] if start else [Field(*each) for each in _BY_BYTES[layout](data)]
    found = LAYOUTS[layout]
    size = found.size
    end = start + len(data)
    fields: list[Field] = []
    for number in range(start // size, -(-end // size)):
        prefix = f"[{number}]." if end > size else ""
        fields += _fields(found, data, number * size - start, prefix)
    return fields


def _fields(found: Layout, data: bytes, base: int, prefix: str) -> Iterator[Field]:
    """The fields of the structure that begins at `base` of `data`, which may be before it."""
    codec = found.codec
    for name in codec.names:
        offset, size = base + codec.offsets[name], codec.sizes[name]
        first = max(offset, 0)
        piece = data[first : max(offset + size, 0)]
        if not piece:
            continue
        if len(piece) < size:
            yield Field(f"{prefix}{name}", first, len(piece), piece, f"of {size} bytes")
        elif size > 8:
            yield Field(f"{prefix}{name}", first, size, piece, repr(piece.rstrip(b"\0").decode("latin-1")))
        else:
            value = int.from_bytes(piece, "little")
            words = found.words.get(name)
            meaning = "" if words is None else words(value)
            yield Field(f"{prefix}{name}", first, size, value, meaning, name in found.addresses)


def as_text(fields: Sequence[Field]) -> str:
    """Fields in one line."""
    return ", ".join(f"{field.name} {field.text}" for field in fields)


SHOWN_BYTES = 16


def some_bytes(data: bytes, most: int = SHOWN_BYTES) -> str:
    """The first bytes, and how many there are; a run of one value is told as such."""
    if len(data) > most and data.count(data[:1]) == len(data):
        return f"{names.size(len(data))} of {data[0]:#04x}"
    if len(data) <= most:
        return data.hex(" ")
    return f"{data[:most].hex(' ')} … {names.size(len(data))}"


class Section(NamedTuple):
    """A part of a request as its buffer has it: what it is, where in guest memory, its bytes and their fields.

    `layout` is a name in `LAYOUTS`, or "" for data, which has no fields.  `known` is False where the device has not
    touched it.
    """

    title: str
    layout: str
    address: int
    data: bytes
    fields: list[Field]
    known: bool


def sections(life: Life) -> Iterator[Section]:
    """A request's buffer, part by part in the order of its descriptors."""
    head = life.opening
    for pieces, writable in ((life.readable, False), (life.writable, True)):
        parts = life.form.parts(head, sum(piece.length for piece in pieces), writable=writable)
        offset = 0
        for piece in pieces:
            yield from _piece(piece, offset, parts)
            offset += piece.length


def _piece(piece: Piece, offset: int, parts: Sequence[Part]) -> Iterator[Section]:
    """A piece of a buffer, which begins at `offset`, cut where another part of the request begins."""
    known = bool(piece.known)
    for title, layout, start, end in parts:
        first, last = max(start, offset), min(end, offset + piece.length)
        if first < last:
            data = piece.cut(first - offset, last - offset)
            fields = decode(layout, data, start=first - start) if layout and known else []
            yield Section(title, layout, piece.address + first - offset, data, fields, known)
