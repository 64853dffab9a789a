"""CDBs that the driver sends (SPC-4 §6, SBC-4), from the declarations that the SCSI target has too."""

from __future__ import annotations

from collections.abc import Iterable

from devmodels.scsi.fields import Layout
from devmodels.scsi.layout import block_cdb, cdb, parameters

TEST_UNIT_READY = bytes(6)
MAX_10 = 0xFFFF
"""Blocks in a transfer of ten bytes' CDBs."""
MAX_BLOCKS = 0xFFFFFFFF
"""Blocks that a field of 32 bits can say."""

_INQUIRY = Layout(cdb.INQUIRY)
_MODE_SENSE_6 = Layout(cdb.MODE_SENSE_6)
_REPORT_OPCODES = Layout(cdb.REPORT_OPCODES)
_READ_CAPACITY_16 = Layout(block_cdb.READ_CAPACITY_16)
_GET_LBA_STATUS = Layout(block_cdb.GET_LBA_STATUS)
_WRITE_SAME_10 = Layout(block_cdb.WRITE_SAME_10)
_WRITE_SAME_16 = Layout(block_cdb.WRITE_SAME_16)
_UNMAP = Layout(block_cdb.UNMAP)
_UNMAP_HEADER = Layout(parameters.UNMAP_HEADER)
_UNMAP_DESCRIPTOR = Layout(parameters.UNMAP_DESCRIPTOR)

# Most of what is sent: straight by the codec.
_pack_10 = Layout(block_cdb.READ_10).codec.pack
_pack_16 = Layout(block_cdb.READ_16).codec.pack
_FUA = Layout(block_cdb.WRITE_10).places["fua"].mask
NDOB = _WRITE_SAME_16.places["ndob"].mask
"""The bit in the second byte."""

READ_10, WRITE_10, READ_16, WRITE_16 = 0x28, 0x2A, 0x88, 0x8A
SYNCHRONIZE_CACHE_10 = 0x35
WRITE_SAME_10, WRITE_SAME_16, UNMAP = 0x41, 0x93, 0x42
SERVICE_ACTION_IN, READ_CAPACITY_16_ACTION, LBA_STATUS_ACTION = 0x9E, 0x10, 0x12
LBA_STATUS = SERVICE_ACTION_IN << 8 | LBA_STATUS_ACTION
MAINTENANCE_IN, REPORT_OPCODES_ACTION = 0xA3, 0x0C

READ_CAPACITY_10 = bytes((0x25,)) + bytes(9)


def read(lba: int, count: int) -> bytes:
    """READ of `count` blocks, in ten bytes where they suffice."""
    if count <= MAX_10 and lba + count <= 1 << 32:
        return _pack_10(READ_10, 0, lba, 0, count, 0)
    return _pack_16(READ_16, 0, lba, count, 0, 0)


def write(lba: int, count: int, *, fua: bool) -> bytes:
    """WRITE of `count` blocks; with `fua` they are stable when it is done."""
    flags = _FUA if fua else 0
    if count <= MAX_10 and lba + count <= 1 << 32:
        return _pack_10(WRITE_10, flags, lba, 0, count, 0)
    return _pack_16(WRITE_16, flags, lba, count, 0, 0)


def synchronize_cache() -> bytes:
    """SYNCHRONIZE CACHE (10) of all blocks."""
    return bytes((SYNCHRONIZE_CACHE_10,)) + bytes(9)


def write_same_16(lba: int, count: int, *, unmap: bool, no_data: bool) -> bytes:
    """WRITE SAME (16); with `no_data` (NDOB) of zeroes that are not sent."""
    return _WRITE_SAME_16.pack(
        opcode=WRITE_SAME_16, unmap=unmap, ndob=no_data, lba=lba, number_of_blocks=count
    )


def write_same_10(lba: int, count: int, *, unmap: bool) -> bytes:
    """WRITE SAME (10)."""
    return _WRITE_SAME_10.pack(opcode=WRITE_SAME_10, unmap=unmap, lba=lba, number_of_blocks=count)


def unmap(ranges: Iterable[tuple[int, int]]) -> tuple[bytes, bytes]:
    """UNMAP of (lba, count), and its parameter list."""
    body = b"".join(_UNMAP_DESCRIPTOR.pack(lba=lba, number_of_blocks=count) for lba, count in ranges)
    header = _UNMAP_HEADER.pack(data_length=_UNMAP_HEADER.size - 2 + len(body), descriptors_length=len(body))
    data = header + body
    return _UNMAP.pack(opcode=UNMAP, parameter_list_length=len(data)), data


def inquiry(length: int, page: int | None = None) -> bytes:
    """INQUIRY, or a page of vital product data."""
    evpd = page is not None
    return _INQUIRY.pack(opcode=0x12, evpd=evpd, page_code=page or 0, allocation_length=length)


def mode_sense_6(page: int, length: int) -> bytes:
    """MODE SENSE (6) of a page's current values, without block descriptors."""
    return _MODE_SENSE_6.pack(opcode=0x1A, dbd=1, page_code=page, allocation_length=length)


def read_capacity_16(length: int) -> bytes:
    """READ CAPACITY (16)."""
    return _READ_CAPACITY_16.pack(
        opcode=SERVICE_ACTION_IN, service_action=READ_CAPACITY_16_ACTION, allocation_length=length
    )


def get_lba_status(lba: int, length: int) -> bytes:
    """GET LBA STATUS."""
    return _GET_LBA_STATUS.pack(
        opcode=SERVICE_ACTION_IN, service_action=LBA_STATUS_ACTION, lba=lba, allocation_length=length
    )


def report_opcode(opcode: int, length: int) -> bytes:
    """REPORT SUPPORTED OPERATION CODES: one without service actions."""
    return _REPORT_OPCODES.pack(
        opcode=MAINTENANCE_IN,
        service_action=REPORT_OPCODES_ACTION,
        reporting_options=1,
        requested_operation_code=opcode,
        allocation_length=length,
    )
