"""Block devices of the host: what Linux's ioctls tell of them and do with them (<linux/fs.h>, <scsi/sg.h>)."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
import struct

from devmodels.blockbackend.passthrough import Direction, ScsiCommand
from devmodels.blockbackend.vectors import gather, scatter

BLKSSZGET = 0x1268
BLKDISCARD = 0x1277
BLKPBSZGET = 0x127B
BLKZEROOUT = 0x127F
BLKGETSIZE64 = 0x80081272
SG_IO = 0x2285

ioctl = fcntl.ioctl
"""ioctl(2); a test may put its own in here."""

_UNSIGNED = struct.Struct("=I")
_SIZE = struct.Struct("=Q")
_RANGE = struct.Struct("=QQ")


def is_block_device(fd: int) -> bool:
    """Whether that is what has been opened."""
    return stat.S_ISBLK(os.fstat(fd).st_mode)


def is_empty_device(fd: int) -> bool:
    """Whether it is a character device like /dev/null, of which there is nothing to be found at any place."""
    try:
        return stat.S_ISCHR(os.fstat(fd).st_mode) and not os.lseek(fd, 0, os.SEEK_END)
    except OSError:
        return False


def _ask(fd: int, request: int, kind: struct.Struct) -> int:
    answer = bytearray(kind.size)
    ioctl(fd, request, answer, True)
    return int(kind.unpack(answer)[0])


def size(fd: int) -> int:
    """The device's size in bytes."""
    if is_empty_device(fd):
        return 0
    return _ask(fd, BLKGETSIZE64, _SIZE)


def logical_block_size(fd: int) -> int:
    """The smallest block, in bytes, that the device can be asked for."""
    return _ask(fd, BLKSSZGET, _UNSIGNED)


def physical_block_size(fd: int) -> int:
    """The smallest block, in bytes, that the device can write without reading."""
    return _ask(fd, BLKPBSZGET, _UNSIGNED)


def discard(fd: int, offset: int, length: int) -> None:
    """Tell the device that a range of whole blocks is no longer needed."""
    ioctl(fd, BLKDISCARD, _RANGE.pack(offset, length))


def zero_out(fd: int, offset: int, length: int) -> None:
    """Zero a range of whole blocks, without giving up its space; the kernel writes them out where it has to."""
    ioctl(fd, BLKZEROOUT, _RANGE.pack(offset, length))


class SgIoHdr(ctypes.Structure):
    """struct sg_io_hdr of <scsi/sg.h>."""

    _fields_ = (
        ("interface_id", ctypes.c_int),
        ("dxfer_direction", ctypes.c_int),
        ("cmd_len", ctypes.c_ubyte),
        ("mx_sb_len", ctypes.c_ubyte),
        ("iovec_count", ctypes.c_ushort),
        ("dxfer_len", ctypes.c_uint),
        ("dxferp", ctypes.c_void_p),
        ("cmdp", ctypes.c_void_p),
        ("sbp", ctypes.c_void_p),
        ("timeout", ctypes.c_uint),
        ("flags", ctypes.c_uint),
        ("pack_id", ctypes.c_int),
        ("usr_ptr", ctypes.c_void_p),
        ("status", ctypes.c_ubyte),
        ("masked_status", ctypes.c_ubyte),
        ("msg_status", ctypes.c_ubyte),
        ("sb_len_wr", ctypes.c_ubyte),
        ("host_status", ctypes.c_ushort),
        ("driver_status", ctypes.c_ushort),
        ("resid", ctypes.c_int),
        ("duration", ctypes.c_uint),
        ("info", ctypes.c_uint),
    )


INTERFACE_ID = ord("S")
SG_DXFER_NONE, SG_DXFER_TO_DEV, SG_DXFER_FROM_DEV = -1, -2, -3
_DIRECTIONS = {
    Direction.NONE: SG_DXFER_NONE,
    Direction.TO_DEVICE: SG_DXFER_TO_DEV,
    Direction.FROM_DEVICE: SG_DXFER_FROM_DEV,
}


def sg_io(fd: int, command: ScsiCommand) -> None:
    """Do a SCSI command and fill in what came of it; OSError where the host does not even try."""
    if not 0 < len(command.cdb) <= 255 or not 0 <= command.max_sense <= 255:
        raise OSError(errno.EINVAL, "a command has 1 to 255 bytes, and so many sense data at most")
    length = command.length
    cdb = ctypes.create_string_buffer(command.cdb, len(command.cdb))
    sense = ctypes.create_string_buffer(max(command.max_sense, 1))
    data = ctypes.create_string_buffer(max(length, 1))
    if command.direction is Direction.TO_DEVICE and length:
        ctypes.memmove(data, gather(command.vectors), length)
    header = SgIoHdr(
        interface_id=INTERFACE_ID,
        dxfer_direction=_DIRECTIONS[command.direction],
        cmd_len=len(command.cdb),
        mx_sb_len=command.max_sense,
        dxfer_len=length,
        dxferp=ctypes.addressof(data),
        cmdp=ctypes.addressof(cdb),
        sbp=ctypes.addressof(sense),
        timeout=command.timeout_ms,
    )
    ioctl(fd, SG_IO, header, True)
    if command.direction is Direction.FROM_DEVICE and length:
        scatter(command.vectors, data.raw[:length])
    command.status = header.status
    command.host_status = header.host_status
    command.driver_status = header.driver_status
    command.residual = header.resid
    command.sense = sense.raw[: header.sb_len_wr]
