"""READ TOC/PMA/ATIP of a disc with one track, of data, whatever there is (MMC-6 §6.25)."""

from __future__ import annotations

from devmodels.scsi.qemu import disc

LEAD_OUT = 0xAA
TRACK, LEADING_OUT = 0x14, 0x16
"""ADR and CONTROL of the track, and of the lead-out."""


def read(blocks: int, cdb: bytes) -> bytes | None:
    """The answer to a CDB; None where it asks for what there is not."""
    msf = bool(cdb[1] & 2)
    match cdb[2] & 0xF:
        case 0:
            return _tracks(blocks, cdb[6], msf=msf)
        case 1:
            return bytes((0, 10, 1, 1)) + bytes(8)
        case 2:
            return _lead_in(blocks, msf=msf)
    return None


def _address(lba: int, *, msf: bool) -> bytes:
    return b"\0" + disc.address(lba) if msf else lba.to_bytes(4, "big")


def _whole(body: bytes) -> bytes:
    return (len(body) + 2).to_bytes(2, "big") + bytes((1, 1)) + body


def _tracks(blocks: int, start: int, *, msf: bool) -> bytes | None:
    if 1 < start != LEAD_OUT:
        return None
    track = bytes((0, TRACK, 1, 0)) + _address(0, msf=msf) if start <= 1 else b""
    return _whole(track + bytes((0, LEADING_OUT, LEAD_OUT, 0)) + _address(blocks, msf=msf))


def _lead_in(blocks: int, *, msf: bool) -> bytes:
    points = (
        (0xA0, bytes((0, 1, 0, 0))),
        (0xA1, bytes((0, 1, 0, 0))),
        (0xA2, _address(blocks, msf=msf)),
        (0x01, _address(0, msf=msf) if msf else bytes(4)),
    )
    return _whole(b"".join(bytes((1, TRACK, 0, point, 0, 0, 0)) + at for point, at in points))
