"""Names and structures of the virtio SCSI host device, VIRTIO 1.4 §5.6.3 to §5.6.6."""

from __future__ import annotations

from enum import IntEnum, IntFlag

from construct import Bytes, Int8ul, Int16ul, Int32ul, Int64ul, Struct

CONTROL_QUEUE = 0
EVENT_QUEUE = 1
FIRST_REQUEST_QUEUE = 2
"""VIRTIO 1.4 §5.6.2."""

MAX_TARGET = 255
MAX_LUN = 16383
"""The highest numbers that a `lun` field can name, VIRTIO 1.4 §5.6.6.1."""


class ScsiFeature(IntEnum):
    """Feature bits (numbers), VIRTIO 1.4 §5.6.3."""

    VIRTIO_SCSI_F_INOUT = 0
    VIRTIO_SCSI_F_HOTPLUG = 1
    VIRTIO_SCSI_F_CHANGE = 2
    VIRTIO_SCSI_F_T10_PI = 3
    """Not offered: there is no protection information in the block layer."""


CONFIG = Struct(
    "num_queues" / Int32ul,
    "seg_max" / Int32ul,
    "max_sectors" / Int32ul,
    "cmd_per_lun" / Int32ul,
    "event_info_size" / Int32ul,
    "sense_size" / Int32ul,
    "cdb_size" / Int32ul,
    "max_channel" / Int16ul,
    "max_target" / Int16ul,
    "max_lun" / Int32ul,
)
"""struct virtio_scsi_config, VIRTIO 1.4 §5.6.4."""

DEFAULT_SENSE_SIZE = 96
DEFAULT_CDB_SIZE = 32
"""After reset, VIRTIO 1.4 §5.6.4.2."""


class ScsiResponse(IntEnum):
    """The response of a request, VIRTIO 1.4 §5.6.6.1 and §5.6.6.2."""

    VIRTIO_SCSI_S_OK = 0
    VIRTIO_SCSI_S_OVERRUN = 1
    VIRTIO_SCSI_S_ABORTED = 2
    VIRTIO_SCSI_S_BAD_TARGET = 3
    VIRTIO_SCSI_S_RESET = 4
    VIRTIO_SCSI_S_BUSY = 5
    VIRTIO_SCSI_S_TRANSPORT_FAILURE = 6
    VIRTIO_SCSI_S_TARGET_FAILURE = 7
    VIRTIO_SCSI_S_NEXUS_FAILURE = 8
    VIRTIO_SCSI_S_FAILURE = 9
    VIRTIO_SCSI_S_FUNCTION_SUCCEEDED = 10
    VIRTIO_SCSI_S_FUNCTION_REJECTED = 11
    VIRTIO_SCSI_S_INCORRECT_LUN = 12


COMMAND_FIXED = Struct(
    "lun" / Bytes(8),
    "id" / Int64ul,
    "task_attr" / Int8ul,
    "prio" / Int8ul,
    "crn" / Int8ul,
)
"""The device-readable head of struct virtio_scsi_req_cmd, which `cdb_size` bytes of CDB follow, VIRTIO 1.4 §5.6.6.1."""

RESPONSE_FIXED = Struct(
    "sense_len" / Int32ul,
    "residual" / Int32ul,
    "status_qualifier" / Int16ul,
    "status" / Int8ul,
    "response" / Int8ul,
)
"""The device-writable head of the same, which `sense_size` bytes of sense data follow."""


class ControlType(IntEnum):
    """Requests of the control queue, VIRTIO 1.4 §5.6.6.2."""

    VIRTIO_SCSI_T_TMF = 0
    VIRTIO_SCSI_T_AN_QUERY = 1
    VIRTIO_SCSI_T_AN_SUBSCRIBE = 2


class TmfType(IntEnum):
    """Task management functions, VIRTIO 1.4 §5.6.6.2."""

    VIRTIO_SCSI_T_TMF_ABORT_TASK = 0
    VIRTIO_SCSI_T_TMF_ABORT_TASK_SET = 1
    VIRTIO_SCSI_T_TMF_CLEAR_ACA = 2
    VIRTIO_SCSI_T_TMF_CLEAR_TASK_SET = 3
    VIRTIO_SCSI_T_TMF_I_T_NEXUS_RESET = 4
    VIRTIO_SCSI_T_TMF_LOGICAL_UNIT_RESET = 5
    VIRTIO_SCSI_T_TMF_QUERY_TASK = 6
    VIRTIO_SCSI_T_TMF_QUERY_TASK_SET = 7


CONTROL_TYPE = Struct("type" / Int32ul)

TMF = Struct("type" / Int32ul, "subtype" / Int32ul, "lun" / Bytes(8), "id" / Int64ul)
"""The device-readable part of struct virtio_scsi_ctrl_tmf; a response byte follows."""

ASYNC = Struct("type" / Int32ul, "lun" / Bytes(8), "event_requested" / Int32ul)
"""The device-readable part of struct virtio_scsi_ctrl_an."""

ASYNC_ANSWER = Struct("event_actual" / Int32ul, "response" / Int8ul)
"""The device-writable part of the same."""


class AsyncEvent(IntFlag):
    """Events of MMC devices, VIRTIO 1.4 §5.6.6.2."""

    OPERATIONAL_CHANGE = 2
    POWER_MGMT = 4
    EXTERNAL_REQUEST = 8
    MEDIA_CHANGE = 16
    MULTI_HOST = 32
    DEVICE_BUSY = 64


EVENT = Struct("event" / Int32ul, "lun" / Bytes(8), "reason" / Int32ul)
"""struct virtio_scsi_event, VIRTIO 1.4 §5.6.6.3."""

EVENTS_MISSED = 0x8000_0000


class EventType(IntEnum):
    """Events, VIRTIO 1.4 §5.6.6.3."""

    VIRTIO_SCSI_T_NO_EVENT = 0
    VIRTIO_SCSI_T_TRANSPORT_RESET = 1
    VIRTIO_SCSI_T_ASYNC_NOTIFY = 2
    VIRTIO_SCSI_T_PARAM_CHANGE = 3


class ResetReason(IntEnum):
    """Reasons of a transport reset, VIRTIO 1.4 §5.6.6.3."""

    VIRTIO_SCSI_EVT_RESET_HARD = 0
    VIRTIO_SCSI_EVT_RESET_RESCAN = 1
    VIRTIO_SCSI_EVT_RESET_REMOVED = 2
