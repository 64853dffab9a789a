"""PDUs of iSCSI: opcodes, the basic header segment of each, and flags.

Follows RFC 7143 §11 (and RFC 7144 for the newer task management functions).  Numbers are big-endian.  Every basic
header segment (BHS) is 48 bytes long; additional header segments, a digest, data and another digest may follow.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple, TypeAlias, cast

from construct import Bytes, Construct, Int8ub, Int16ub, Int32ub, Int64ub, Padding, Struct

from devmodels.wire import Codec, Readable

BHS_SIZE = 48
DIGEST_SIZE = 4
MAX_AHS = 255 * 4
MAX_DATA_SEGMENT = (1 << 24) - 1

PORT = 3260
"""Where targets listen, §13.8."""

RESERVED_TAG = 0xFFFFFFFF
"""No task: `itt` of what answers nothing, `ttt` of what is unsolicited."""

OPCODE_MASK = 0x3F
IMMEDIATE = 0x40
"""Bit of the first byte: to be done at once, whatever CmdSN is next (§11.2.1.1)."""

FINAL = 0x80
"""Bit of the second byte, in every PDU that has it."""

LENGTH_MASK = (1 << 24) - 1
"""`lengths` is TotalAHSLength, in words of four bytes, above 24 bits of DataSegmentLength (§11.2.1.5, §11.2.1.6)."""


class Opcode(IntEnum):
    """The lower six bits of the first byte, §11.2.1.2."""

    NOP_OUT = 0x00
    SCSI_COMMAND = 0x01
    TASK_MANAGEMENT_REQUEST = 0x02
    LOGIN_REQUEST = 0x03
    TEXT_REQUEST = 0x04
    DATA_OUT = 0x05
    LOGOUT_REQUEST = 0x06
    SNACK_REQUEST = 0x10
    NOP_IN = 0x20
    SCSI_RESPONSE = 0x21
    TASK_MANAGEMENT_RESPONSE = 0x22
    LOGIN_RESPONSE = 0x23
    TEXT_RESPONSE = 0x24
    DATA_IN = 0x25
    LOGOUT_RESPONSE = 0x26
    R2T = 0x31
    ASYNC_MESSAGE = 0x32
    REJECT = 0x3F


# --- the structures

_START = "opcode" / Int8ub, "flags" / Int8ub
_SERIALS_IN = "cmd_sn" / Int32ub, "exp_stat_sn" / Int32ub
"""What the initiator's PDUs are numbered with."""
_SERIALS_OUT = "stat_sn" / Int32ub, "exp_cmd_sn" / Int32ub, "max_cmd_sn" / Int32ub
"""What the target's PDUs are numbered with."""


def _bhs(*fields: Construct) -> Construct:
    layout = Struct(*fields)
    assert layout.sizeof() == BHS_SIZE
    return layout


SCSI_COMMAND = Codec.of(
    _bhs(
        *_START,
        Padding(2),
        "lengths" / Int32ub,
        "lun" / Int64ub,
        "itt" / Int32ub,
        "expected" / Int32ub,
        *_SERIALS_IN,
        "cdb" / Bytes(16),
    )
)
"""§11.3."""

SCSI_RESPONSE = Codec.ints(
    _bhs(
        *_START,
        "response" / Int8ub,
        "status" / Int8ub,
        "lengths" / Int32ub,
        Padding(8),
        "itt" / Int32ub,
        "snack_tag" / Int32ub,
        *_SERIALS_OUT,
        "exp_data_sn" / Int32ub,
        "bidirectional_residual" / Int32ub,
        "residual" / Int32ub,
    )
)
"""§11.4."""

TASK_MANAGEMENT_REQUEST = Codec.ints(
    _bhs(
        *_START,
        Padding(2),
        "lengths" / Int32ub,
        "lun" / Int64ub,
        "itt" / Int32ub,
        "referenced_tag" / Int32ub,
        *_SERIALS_IN,
        "ref_cmd_sn" / Int32ub,
        "exp_data_sn" / Int32ub,
        Padding(8),
    )
)
"""§11.5; the lower seven bits of `flags` are the function."""

TASK_MANAGEMENT_RESPONSE = Codec.ints(
    _bhs(
        *_START,
        "response" / Int8ub,
        Padding(1),
        "lengths" / Int32ub,
        Padding(8),
        "itt" / Int32ub,
        Padding(4),
        *_SERIALS_OUT,
        Padding(12),
    )
)
"""§11.6."""

DATA_OUT = Codec.ints(
    _bhs(
        *_START,
        Padding(2),
        "lengths" / Int32ub,
        "lun" / Int64ub,
        "itt" / Int32ub,
        "ttt" / Int32ub,
        Padding(4),
        "exp_stat_sn" / Int32ub,
        Padding(4),
        "data_sn" / Int32ub,
        "offset" / Int32ub,
        Padding(4),
    )
)
"""§11.7."""

DATA_IN = Codec.ints(
    _bhs(
        *_START,
        Padding(1),
        "status" / Int8ub,
        "lengths" / Int32ub,
        "lun" / Int64ub,
        "itt" / Int32ub,
        "ttt" / Int32ub,
        *_SERIALS_OUT,
        "data_sn" / Int32ub,
        "offset" / Int32ub,
        "residual" / Int32ub,
    )
)
"""§11.7."""

R2T = Codec.ints(
    _bhs(
        *_START,
        Padding(2),
        "lengths" / Int32ub,
        "lun" / Int64ub,
        "itt" / Int32ub,
        "ttt" / Int32ub,
        *_SERIALS_OUT,
        "r2t_sn" / Int32ub,
        "offset" / Int32ub,
        "desired" / Int32ub,
    )
)
"""§11.8."""

ASYNC_MESSAGE = Codec.ints(
    _bhs(
        *_START,
        Padding(2),
        "lengths" / Int32ub,
        "lun" / Int64ub,
        "tag" / Int32ub,
        Padding(4),
        *_SERIALS_OUT,
        "event" / Int8ub,
        "vendor_code" / Int8ub,
        "parameters" / Int16ub[3],
        Padding(4),
    )
)
"""§11.9."""

TEXT_REQUEST = Codec.ints(
    _bhs(
        *_START,
        Padding(2),
        "lengths" / Int32ub,
        "lun" / Int64ub,
        "itt" / Int32ub,
        "ttt" / Int32ub,
        *_SERIALS_IN,
        Padding(16),
    )
)
"""§11.10."""

TEXT_RESPONSE = Codec.ints(
    _bhs(
        *_START,
        Padding(2),
        "lengths" / Int32ub,
        "lun" / Int64ub,
        "itt" / Int32ub,
        "ttt" / Int32ub,
        *_SERIALS_OUT,
        Padding(12),
    )
)
"""§11.11."""

LOGIN_REQUEST = Codec.of(
    _bhs(
        *_START,
        "version_max" / Int8ub,
        "version_min" / Int8ub,
        "lengths" / Int32ub,
        "isid" / Bytes(6),
        "tsih" / Int16ub,
        "itt" / Int32ub,
        "cid" / Int16ub,
        Padding(2),
        *_SERIALS_IN,
        Padding(16),
    )
)
"""§11.12."""

LOGIN_RESPONSE = Codec.of(
    _bhs(
        *_START,
        "version_max" / Int8ub,
        "version_active" / Int8ub,
        "lengths" / Int32ub,
        "isid" / Bytes(6),
        "tsih" / Int16ub,
        "itt" / Int32ub,
        Padding(4),
        *_SERIALS_OUT,
        "status" / Int16ub,
        Padding(10),
    )
)
"""§11.13; `status` is Status-Class and Status-Detail."""

LOGOUT_REQUEST = Codec.ints(
    _bhs(
        *_START,
        Padding(2),
        "lengths" / Int32ub,
        Padding(8),
        "itt" / Int32ub,
        "cid" / Int16ub,
        Padding(2),
        *_SERIALS_IN,
        Padding(16),
    )
)
"""§11.14; the lower seven bits of `flags` are the reason."""

LOGOUT_RESPONSE = Codec.ints(
    _bhs(
        *_START,
        "response" / Int8ub,
        Padding(1),
        "lengths" / Int32ub,
        Padding(8),
        "itt" / Int32ub,
        Padding(4),
        *_SERIALS_OUT,
        Padding(4),
        "time_to_wait" / Int16ub,
        "time_to_retain" / Int16ub,
        Padding(4),
    )
)
"""§11.15."""

SNACK_REQUEST = Codec.ints(
    _bhs(
        *_START,
        Padding(2),
        "lengths" / Int32ub,
        "lun" / Int64ub,
        "itt" / Int32ub,
        "ttt" / Int32ub,
        Padding(4),
        "exp_stat_sn" / Int32ub,
        Padding(8),
        "begin" / Int32ub,
        "run" / Int32ub,
    )
)
"""§11.16; the lower four bits of `flags` are the type."""

REJECT = Codec.ints(
    _bhs(
        *_START,
        "reason" / Int8ub,
        Padding(1),
        "lengths" / Int32ub,
        Padding(8),
        "tag" / Int32ub,
        Padding(4),
        *_SERIALS_OUT,
        "data_sn" / Int32ub,
        Padding(8),
    )
)
"""§11.17; the header of what is rejected follows as data."""

NOP_OUT = Codec.ints(
    _bhs(
        *_START,
        Padding(2),
        "lengths" / Int32ub,
        "lun" / Int64ub,
        "itt" / Int32ub,
        "ttt" / Int32ub,
        *_SERIALS_IN,
        Padding(16),
    )
)
"""§11.18."""

NOP_IN = Codec.ints(
    _bhs(
        *_START,
        Padding(2),
        "lengths" / Int32ub,
        "lun" / Int64ub,
        "itt" / Int32ub,
        "ttt" / Int32ub,
        *_SERIALS_OUT,
        Padding(12),
    )
)
"""§11.19."""

LAYOUTS: dict[Opcode, Codec[int] | Codec[int | bytes]] = {
    Opcode.NOP_OUT: NOP_OUT,
    Opcode.SCSI_COMMAND: SCSI_COMMAND,
    Opcode.TASK_MANAGEMENT_REQUEST: TASK_MANAGEMENT_REQUEST,
    Opcode.LOGIN_REQUEST: LOGIN_REQUEST,
    Opcode.TEXT_REQUEST: TEXT_REQUEST,
    Opcode.DATA_OUT: DATA_OUT,
    Opcode.LOGOUT_REQUEST: LOGOUT_REQUEST,
    Opcode.SNACK_REQUEST: SNACK_REQUEST,
    Opcode.NOP_IN: NOP_IN,
    Opcode.SCSI_RESPONSE: SCSI_RESPONSE,
    Opcode.TASK_MANAGEMENT_RESPONSE: TASK_MANAGEMENT_RESPONSE,
    Opcode.LOGIN_RESPONSE: LOGIN_RESPONSE,
    Opcode.TEXT_RESPONSE: TEXT_RESPONSE,
    Opcode.DATA_IN: DATA_IN,
    Opcode.LOGOUT_RESPONSE: LOGOUT_RESPONSE,
    Opcode.R2T: R2T,
    Opcode.ASYNC_MESSAGE: ASYNC_MESSAGE,
    Opcode.REJECT: REJECT,
}

NUMBERED = frozenset(
    {
        Opcode.NOP_OUT,
        Opcode.SCSI_COMMAND,
        Opcode.TASK_MANAGEMENT_REQUEST,
        Opcode.TEXT_REQUEST,
        Opcode.LOGOUT_REQUEST,
    }
)
"""What has a CmdSN in full feature phase, §4.2.2.1."""

CommandFields: TypeAlias = tuple[int, int, int, int, int, int, int, int, bytes]
unpack_command = cast("Callable[[Readable, int], CommandFields]", SCSI_COMMAND.unpack_from)
"""`SCSI_COMMAND.unpack_from` with the types of its values."""

LoginRequestFields: TypeAlias = tuple[int, int, int, int, int, bytes, int, int, int, int, int]
unpack_login_request = cast("Callable[[Readable, int], LoginRequestFields]", LOGIN_REQUEST.unpack_from)

LoginResponseFields: TypeAlias = tuple[int, int, int, int, int, bytes, int, int, int, int, int, int]
unpack_login_response = cast("Callable[[Readable, int], LoginResponseFields]", LOGIN_RESPONSE.unpack_from)

LENGTHS_OFFSET = SCSI_COMMAND.offsets["lengths"]
CMD_SN_OFFSET = SCSI_COMMAND.offsets["cmd_sn"]
"""The same in everything that has one."""


# --- SCSI Command

READ = 0x40
WRITE = 0x20
ATTRIBUTE_MASK = 0x07
"""Flags of a SCSI Command, §11.3.1."""


class AhsType(IntEnum):
    """Kinds of additional header segments, §11.2.2.2."""

    EXTENDED_CDB = 1
    BIDIRECTIONAL_LENGTH = 2


AHS = Codec.ints(Struct("length" / Int16ub, "type" / Int8ub, "specific" / Int8ub))
"""§11.2.2; `length` counts what follows `type`: `specific` (reserved in both kinds) and the rest."""


class Ahs(NamedTuple):
    """What a SCSI Command's additional header segments say."""

    cdb_rest: bytes = b""
    """What follows the first sixteen bytes of the CDB."""
    read_length: int | None = None
    """The expected length of a bidirectional command's read."""


def parse_ahs(data: bytes) -> Ahs:
    """Additional header segments of a SCSI Command, §11.2.2; ValueError where they are malformed.

    Kinds that are not known are passed over.
    """
    found = Ahs()
    at = 0
    while at < len(data):
        length, kind, _ = AHS.unpack_from(data, at) if len(data) - at >= AHS.size else (0, 0, 0)
        body = data[at + AHS.size : at + AHS.size - 1 + length]
        if length < 1 or len(body) != length - 1:
            raise ValueError("an additional header segment is cut off")
        if kind == AhsType.EXTENDED_CDB:
            found = found._replace(cdb_rest=body)
        elif kind == AhsType.BIDIRECTIONAL_LENGTH:
            if len(body) != 4:
                raise ValueError("a bidirectional read length is no number of four bytes")
            found = found._replace(read_length=int.from_bytes(body, "big"))
        at += -(-(AHS.size - 1 + length) // 4) * 4
    return found


# --- answers to SCSI commands

STATUS_PRESENT = 0x01
"""S of a Data-In, §11.7.3."""
UNDERFLOW = 0x02
OVERFLOW = 0x04
"""U and O of a SCSI Response and a Data-In, §11.4.1."""
BIDIRECTIONAL_UNDERFLOW = 0x08
BIDIRECTIONAL_OVERFLOW = 0x10
"""u and o of a SCSI Response: the read of a bidirectional command."""
ACKNOWLEDGE = 0x40
"""A of a Data-In: only above error recovery level 0."""

COMPLETED_AT_TARGET = 0x00
TARGET_FAILURE = 0x01
"""Responses, §11.4.3."""

SENSE_LENGTH = Codec.ints(Struct("length" / Int16ub))
"""In front of the sense data, §11.4.7."""


# --- login

TRANSIT = 0x80
CONTINUE = 0x40
"""T and C of Login and, with `FINAL` for T, Text PDUs, §11.12.1, §11.10.2."""
CURRENT_SHIFT = 2
STAGE_MASK = 3


# --- serial numbers


def serial_after(first: int, second: int) -> bool:
    """Whether `first` comes after `second`, RFC 1982 with 32 bits (§4.2.2)."""
    return first != second and (first - second) & 0xFFFFFFFF < 0x80000000


def next_serial(number: int) -> int:
    """The number after `number`."""
    return (number + 1) & 0xFFFFFFFF
