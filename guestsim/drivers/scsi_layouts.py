"""Structures of the virtio SCSI host device as the guest knows them (VIRTIO 1.4 §5.6), apart from the device's own."""

from __future__ import annotations

import struct
from enum import IntEnum

from guestsim.drivers.layouts import Layout

CONTROL_QUEUE = 0
EVENT_QUEUE = 1
FIRST_REQUEST_QUEUE = 2


class ScsiFeature(IntEnum):
    """Feature bits of the SCSI host device (§5.6.3)."""

    INOUT = 0
    HOTPLUG = 1
    CHANGE = 2
    T10_PI = 3


SCSI_CONFIG = Layout(
    "virtio_scsi_config",
    num_queues="I",
    seg_max="I",
    max_sectors="I",
    cmd_per_lun="I",
    event_info_size="I",
    sense_size="I",
    cdb_size="I",
    max_channel="H",
    max_target="H",
    max_lun="I",
)
"""§5.6.4."""

SENSE_SIZE = 96
CDB_SIZE = 32
"""What these are after a reset (§5.6.4.2)."""

COMMAND = struct.Struct("<8sQBBB")
"""virtio_scsi_req_cmd up to its CDB: LUN, tag, attribute, priority, CRN (§5.6.6.1)."""
RESPONSE = struct.Struct("<IIHBB")
"""virtio_scsi_resp_cmd up to its sense data: length of that, residual, qualifier, status, response."""


class ScsiResponse(IntEnum):
    """The response of a request (§5.6.6.1, §5.6.6.2)."""

    OK = 0
    OVERRUN = 1
    ABORTED = 2
    BAD_TARGET = 3
    RESET = 4
    BUSY = 5
    TRANSPORT_FAILURE = 6
    TARGET_FAILURE = 7
    NEXUS_FAILURE = 8
    FAILURE = 9
    FUNCTION_SUCCEEDED = 10
    FUNCTION_REJECTED = 11
    INCORRECT_LUN = 12


class TaskAttribute(IntEnum):
    """How a command stands among others (§5.6.6.1)."""

    SIMPLE = 0
    ORDERED = 1
    HEAD = 2
    ACA = 3


class ControlType(IntEnum):
    """Requests of the control queue (§5.6.6.2)."""

    TMF = 0
    AN_QUERY = 1
    AN_SUBSCRIBE = 2


class Tmf(IntEnum):
    """Task management functions (§5.6.6.2)."""

    ABORT_TASK = 0
    ABORT_TASK_SET = 1
    CLEAR_ACA = 2
    CLEAR_TASK_SET = 3
    I_T_NEXUS_RESET = 4
    LOGICAL_UNIT_RESET = 5
    QUERY_TASK = 6
    QUERY_TASK_SET = 7


TMF = struct.Struct("<II8sQ")
"""virtio_scsi_ctrl_tmf_req: type, function, LUN, tag; one byte of response follows."""
ASYNC = struct.Struct("<I8sI")
"""virtio_scsi_ctrl_an_req: type, LUN, events."""
ASYNC_ANSWER = struct.Struct("<IB")
"""virtio_scsi_ctrl_an_resp: events, response."""

EVENT = struct.Struct("<I8sI")
"""virtio_scsi_event: event, LUN, reason (§5.6.6.3)."""
EVENTS_MISSED = 1 << 31


class EventType(IntEnum):
    """Events (§5.6.6.3)."""

    NO_EVENT = 0
    TRANSPORT_RESET = 1
    ASYNC_NOTIFY = 2
    PARAM_CHANGE = 3


class ResetReason(IntEnum):
    """Reasons of a transport reset (§5.6.6.3)."""

    HARD = 0
    RESCAN = 1
    REMOVED = 2


def lun_bytes(target: int, lun: int) -> bytes:
    """The `lun` field that names a logical unit, with flat addressing (§5.6.6.1)."""
    return struct.pack(">BBH4x", 1, target, 0x4000 | lun)


def read_lun(field: bytes) -> tuple[int, int]:
    """Target and LUN that a `lun` field names, with either addressing method."""
    _, target, lun = struct.unpack(">BBH4x", field)
    return target, lun & 0x3FFF
