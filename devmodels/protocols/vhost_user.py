"""Messages of the vhost-user protocol.

Follows "Vhost-user Protocol" of QEMU's interoperability documents (docs/interop/vhost-user.rst): a header of 12 bytes,
a payload, and file descriptors beside it.
"""

from __future__ import annotations

from enum import IntEnum

from construct import Int32ul, Int64ul, Struct

VERSION = 1
VERSION_MASK = 0x3
FLAG_REPLY = 0x4
FLAG_NEED_REPLY = 0x8

MAX_PAYLOAD = 4096
MAX_FDS = 8
MAX_REGIONS = 8
MAX_MEM_SLOTS = 32
MAX_CONFIG = 256

VRING_INDEX_MASK = 0xFF
VRING_NO_FD = 0x100

F_PROTOCOL_FEATURES = 1 << 30
"""VHOST_USER_F_PROTOCOL_FEATURES."""


class Message(IntEnum):
    """Requests of the front end that a storage back end can meet."""

    GET_FEATURES = 1
    SET_FEATURES = 2
    SET_OWNER = 3
    RESET_OWNER = 4
    SET_MEM_TABLE = 5
    SET_VRING_NUM = 8
    SET_VRING_ADDR = 9
    SET_VRING_BASE = 10
    GET_VRING_BASE = 11
    SET_VRING_KICK = 12
    SET_VRING_CALL = 13
    SET_VRING_ERR = 14
    GET_PROTOCOL_FEATURES = 15
    SET_PROTOCOL_FEATURES = 16
    GET_QUEUE_NUM = 17
    SET_VRING_ENABLE = 18
    GET_CONFIG = 24
    SET_CONFIG = 25
    RESET_DEVICE = 34
    GET_MAX_MEM_SLOTS = 36
    ADD_MEM_REG = 37
    REM_MEM_REG = 38
    SET_STATUS = 39
    GET_STATUS = 40


class ProtocolFeature(IntEnum):
    """Protocol feature bits (numbers) that this project speaks."""

    MQ = 0
    REPLY_ACK = 3
    CONFIG = 9
    RESET_DEVICE = 13
    CONFIGURE_MEM_SLOTS = 15
    STATUS = 16


HEADER = Struct("request" / Int32ul, "flags" / Int32ul, "size" / Int32ul)
U64 = Struct("value" / Int64ul)
VRING_STATE = Struct("index" / Int32ul, "num" / Int32ul)
VRING_ADDR = Struct(
    "index" / Int32ul,
    "flags" / Int32ul,
    "descriptor" / Int64ul,
    "used" / Int64ul,
    "available" / Int64ul,
    "log" / Int64ul,
)
REGION = Struct("guest" / Int64ul, "size" / Int64ul, "user" / Int64ul, "offset" / Int64ul)
MEM_TABLE = Struct("count" / Int32ul, "padding" / Int32ul)
"""Followed by `count` times REGION."""
SINGLE_REGION = Struct("padding" / Int64ul, "region" / REGION)
CONFIG = Struct("offset" / Int32ul, "size" / Int32ul, "flags" / Int32ul)
"""Followed by `size` bytes of configuration space."""
