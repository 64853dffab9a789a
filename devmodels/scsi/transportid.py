"""TransportIDs in parameter lists (SPC-4 §7.6.4)."""

from __future__ import annotations

from devmodels.scsi.constants import Protocol

FIXED_SIZE = 24
_ISCSI_HEADER = 4


def transport_id_size(data: bytes) -> int:
    """How long the TransportID at the beginning of `data` is; ValueError where it is cut off or none."""
    if len(data) < _ISCSI_HEADER:
        raise ValueError("a TransportID is cut off")
    size = FIXED_SIZE
    if data[0] & 0x0F == Protocol.ISCSI:
        size = _ISCSI_HEADER + int.from_bytes(data[2:4], "big")
        if size < FIXED_SIZE or size % 4:
            raise ValueError(f"a TransportID of {size} bytes")
    if size > len(data):
        raise ValueError("a TransportID is cut off")
    return size


def split_transport_ids(data: bytes) -> list[bytes]:
    """The TransportIDs that `data` is made of; ValueError where it is made of something else."""
    out = []
    while data:
        size = transport_id_size(data)
        out.append(data[:size])
        data = data[size:]
    return out
