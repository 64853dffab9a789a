"""The vhost-user protocol's messages as a front end sends and receives them.

Written down from "Vhost-user Protocol" among QEMU's interoperability documents (docs/interop/vhost-user.rst), apart
from any back end's declarations on purpose.  Numbers are little-endian here: the protocol has the host's own order.
"""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag

VERSION = 1
VERSION_MASK = 0x3
FLAG_REPLY = 0x4
FLAG_NEED_REPLY = 0x8
"""Bits of a header's flags ("Header")."""

VRING_NO_FD = 0x100
"""In place of a descriptor with SET_VRING_KICK, _CALL and _ERR: there is none."""

PROTOCOL_FEATURES = 30
"""VHOST_USER_F_PROTOCOL_FEATURES, a feature bit that no driver sees."""

LOG_ALL = 26
"""VHOST_F_LOG_ALL, likewise: live migration."""

MAX_PAYLOAD = 1 << 16
"""Far more than any reply has: a longer one is no vhost-user message."""

MAX_FDS = 8


class Request(IntEnum):
    """Requests of a front end ("Front-end message types")."""

    GET_FEATURES = 1
    SET_FEATURES = 2
    SET_OWNER = 3
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
    SET_BACKEND_REQ_FD = 21
    GET_CONFIG = 24
    SET_CONFIG = 25
    GET_INFLIGHT_FD = 31
    SET_INFLIGHT_FD = 32
    RESET_DEVICE = 34
    GET_MAX_MEM_SLOTS = 36
    ADD_MEM_REG = 37
    REM_MEM_REG = 38
    SET_STATUS = 39
    GET_STATUS = 40


class BackendRequest(IntEnum):
    """Requests of a back end that a front end for block devices may meet ("Back-end message types")."""

    CONFIG_CHANGE_MSG = 2


class Protocol(IntFlag):
    """Protocol features ("Protocol features")."""

    MQ = 1 << 0
    LOG_SHMFD = 1 << 1
    REPLY_ACK = 1 << 3
    BACKEND_REQ = 1 << 5
    CONFIG = 1 << 9
    BACKEND_SEND_FD = 1 << 10
    HOST_NOTIFIER = 1 << 11
    INFLIGHT_SHMFD = 1 << 12
    RESET_DEVICE = 1 << 13
    INBAND_NOTIFICATIONS = 1 << 14
    CONFIGURE_MEM_SLOTS = 1 << 15
    STATUS = 1 << 16


HEADER = struct.Struct("<III")
"""Request, flags, size of the payload."""

U64 = struct.Struct("<Q")

VRING_STATE = struct.Struct("<II")
"""Index and number."""

VRING_ADDR = struct.Struct("<IIQQQQ")
"""Index, flags, addresses of descriptor table, used ring and available ring, and the log's."""

MEM_TABLE = struct.Struct("<II")
"""Number of regions, padding; the regions follow."""

REGION = struct.Struct("<QQQQ")
"""Guest address, size, user address, offset in the file."""

CONFIG = struct.Struct("<III")
"""Offset, size, flags; the contents follow."""

INFLIGHT = struct.Struct("<QQHH")
"""Size and offset of the area, number of queues, their size."""

INFLIGHT_PADDED = INFLIGHT.size + 4
"""As C compilers lay the structure out: libvhost-user sends that, too."""

PACKED_BASE = 0x8000_8000
"""Where a packed ring begins: next available and next used descriptor 0, both wrap counters (bits 15 and 31) 1."""


def header(request: int, size: int, *, need_reply: bool = False, reply: bool = False) -> bytes:
    """A message's header."""
    flags = VERSION | (FLAG_NEED_REPLY if need_reply else 0) | (FLAG_REPLY if reply else 0)
    return HEADER.pack(request, flags, size)


def name(request: int) -> str:
    """A request's name, for people."""
    return Request(request).name if request in set(Request) else f"request {request}"


def names(features: int) -> str:
    """Protocol features by name, for people."""
    known = [feature.name or "" for feature in Protocol if features & feature]
    rest = features & ~sum(Protocol)
    return " ".join([*known, *([f"{rest:#x}"] if rest else [])]) or "none"
