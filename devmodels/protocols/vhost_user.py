"""Messages of the vhost-user protocol.

Follows "Vhost-user Protocol" of QEMU's interoperability documents (docs/interop/vhost-user.rst): a header of 12 bytes,
a payload, and file descriptors beside it.  Numbers are little-endian here, as on every host that this runs on.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from construct import Int16ul, Int32ul, Int64ul, Struct

from devmodels.wire import Codec

VERSION = 1
VERSION_MASK = 0x3
FLAG_REPLY = 0x4
FLAG_NEED_REPLY = 0x8

MAX_PAYLOAD = 4096
"""More than any request here can have."""

MAX_FDS = 8
MAX_REGIONS = 8
MAX_MEM_SLOTS = 32
MAX_CONFIG = 256

MAX_QUEUES = 256
"""SET_VRING_KICK and its like have eight bits for a vring's index."""

VRING_INDEX_MASK = 0xFF
VRING_NO_FD = 0x100

F_PROTOCOL_FEATURES = 1 << 30
"""VHOST_USER_F_PROTOCOL_FEATURES."""

F_LOG_ALL = 1 << 26
"""VHOST_F_LOG_ALL: writes to guest memory are logged."""

VRING_F_LOG = 1
"""Flag of SET_VRING_ADDR, VHOST_VRING_F_LOG: the used ring's writes are logged at the address given."""

CONFIG_WRITABLE = 0
"""Flags of SET_CONFIG: the driver writes (1 would be live migration)."""


class Message(IntEnum):
    """Requests of the front end that a storage back end can meet."""

    GET_FEATURES = 1
    SET_FEATURES = 2
    SET_OWNER = 3
    RESET_OWNER = 4
    SET_MEM_TABLE = 5
    SET_LOG_BASE = 6
    SET_LOG_FD = 7
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
    SET_DEVICE_STATE_FD = 42
    CHECK_DEVICE_STATE = 43


class BackendMessage(IntEnum):
    """Requests to the front end."""

    CONFIG_CHANGE = 2


class ProtocolFeature(IntEnum):
    """Protocol feature bits (numbers) that this project speaks."""

    MQ = 0
    LOG_SHMFD = 1
    REPLY_ACK = 3
    BACKEND_REQ = 5
    CONFIG = 9
    INFLIGHT_SHMFD = 12
    RESET_DEVICE = 13
    CONFIGURE_MEM_SLOTS = 15
    STATUS = 16
    DEVICE_STATE = 19


HEADER = Codec.ints(Struct("request" / Int32ul, "flags" / Int32ul, "size" / Int32ul))
U64 = Codec.ints(Struct("value" / Int64ul))
VRING_STATE = Codec.ints(Struct("index" / Int32ul, "num" / Int32ul))
VRING_ADDR = Codec.ints(
    Struct(
        "index" / Int32ul,
        "flags" / Int32ul,
        "descriptor" / Int64ul,
        "used" / Int64ul,
        "available" / Int64ul,
        "log" / Int64ul,
    )
)
_REGION = Struct("guest" / Int64ul, "size" / Int64ul, "user" / Int64ul, "offset" / Int64ul)
REGION = Codec.ints(_REGION)
MEM_TABLE = Codec.ints(Struct("count" / Int32ul, "padding" / Int32ul))
"""Followed by `count` times REGION."""
SINGLE_REGION = Codec.ints(Struct("padding" / Int64ul, "region" / _REGION))
CONFIG = Codec.ints(Struct("offset" / Int32ul, "size" / Int32ul, "flags" / Int32ul))
"""Followed by `size` bytes of configuration space."""
DEVICE_STATE = Codec.ints(Struct("direction" / Int32ul, "phase" / Int32ul))
DEVICE_STATE_NO_FD = 0x100
"""In the answer to SET_DEVICE_STATE_FD: the front end's own descriptor is used; bits 0 to 7 say what went wrong."""
LOG = Codec.ints(Struct("size" / Int64ul, "offset" / Int64ul))
INFLIGHT = Codec.ints(
    Struct("size" / Int64ul, "offset" / Int64ul, "num_queues" / Int16ul, "queue_size" / Int16ul)
)
"""Front ends in C send the structure with four bytes of padding behind it, and want it back so."""
INFLIGHT_PADDED = INFLIGHT.size + 4


class Shape(NamedTuple):
    """What a request looks like.

    `payload` is its length in bytes (None: its content says); it comes with `fewest` to `most` file descriptors;
    `answered` says whether it has an answer of its own, so that the flag need_reply asks for nothing more.
    """

    payload: int | None
    fewest: int = 0
    most: int = 0
    answered: bool = False


SHAPES: dict[int, Shape] = {
    Message.GET_FEATURES: Shape(0, answered=True),
    Message.SET_FEATURES: Shape(U64.size),
    Message.SET_OWNER: Shape(0),
    Message.RESET_OWNER: Shape(0),
    Message.SET_MEM_TABLE: Shape(None, 1, MAX_REGIONS),
    Message.SET_LOG_BASE: Shape(LOG.size, 1, 1, answered=True),
    Message.SET_LOG_FD: Shape(0, 1, 1),
    Message.SET_VRING_NUM: Shape(VRING_STATE.size),
    Message.SET_VRING_ADDR: Shape(VRING_ADDR.size),
    Message.SET_VRING_BASE: Shape(VRING_STATE.size),
    Message.GET_VRING_BASE: Shape(VRING_STATE.size, answered=True),
    Message.SET_VRING_KICK: Shape(U64.size, 0, 1),
    Message.SET_VRING_CALL: Shape(U64.size, 0, 1),
    Message.SET_VRING_ERR: Shape(U64.size, 0, 1),
    Message.GET_PROTOCOL_FEATURES: Shape(0, answered=True),
    Message.SET_PROTOCOL_FEATURES: Shape(U64.size),
    Message.GET_QUEUE_NUM: Shape(0, answered=True),
    Message.SET_VRING_ENABLE: Shape(VRING_STATE.size),
    Message.SET_BACKEND_REQ_FD: Shape(0, 1, 1),
    Message.GET_CONFIG: Shape(None, answered=True),
    Message.SET_CONFIG: Shape(None),
    Message.GET_INFLIGHT_FD: Shape(None, answered=True),
    Message.SET_INFLIGHT_FD: Shape(None, 1, 1),
    Message.RESET_DEVICE: Shape(0),
    Message.GET_MAX_MEM_SLOTS: Shape(0, answered=True),
    Message.ADD_MEM_REG: Shape(SINGLE_REGION.size, 1, 1),
    # A descriptor with REM_MEM_REG is closed unused: some front ends send one.
    Message.REM_MEM_REG: Shape(SINGLE_REGION.size, 0, 1),
    Message.SET_STATUS: Shape(U64.size),
    Message.GET_STATUS: Shape(0, answered=True),
    Message.SET_DEVICE_STATE_FD: Shape(DEVICE_STATE.size, 1, 1, answered=True),
    Message.CHECK_DEVICE_STATE: Shape(0, answered=True),
}


def message_name(number: int) -> str:
    """A request's name, for people."""
    return Message(number).name if number in SHAPES else f"request {number}"
