"""Names and structures of the virtio SCSI host device, VIRTIO 1.4 §5.6.3 to §5.6.6."""

from __future__ import annotations

from enum import IntEnum, IntFlag

from devmodels.wire import Codec

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


CONFIG = Codec.ints(
    lambda c: c.Struct(
        "num_queues" / c.Int32ul,
        "seg_max" / c.Int32ul,
        "max_sectors" / c.Int32ul,
        "cmd_per_lun" / c.Int32ul,
        "event_info_size" / c.Int32ul,
        "sense_size" / c.Int32ul,
        "cdb_size" / c.Int32ul,
        "max_channel" / c.Int16ul,
        "max_target" / c.Int16ul,
        "max_lun" / c.Int32ul,
    )
)
"""struct virtio_scsi_config, VIRTIO 1.4 §5.6.4."""
SENSE_SIZE_AT, CDB_SIZE_AT = 20, 24
"""The fields that a driver may write, VIRTIO 1.4 §5.6.4.1; they are neighbours."""

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


COMMAND_FIXED = Codec.of(
    lambda c: c.Struct(
        "lun" / c.Bytes(8),
        "id" / c.Int64ul,
        "task_attr" / c.Int8ul,
        "prio" / c.Int8ul,
        "crn" / c.Int8ul,
    )
)
"""The device-readable head of struct virtio_scsi_req_cmd, which `cdb_size` bytes of CDB follow, VIRTIO 1.4 §5.6.6.1."""
COMMAND_SIZE = 19

RESPONSE_FIXED = Codec.ints(
    lambda c: c.Struct(
        "sense_len" / c.Int32ul,
        "residual" / c.Int32ul,
        "status_qualifier" / c.Int16ul,
        "status" / c.Int8ul,
        "response" / c.Int8ul,
    )
)
"""The device-writable head of the same, which `sense_size` bytes of sense data follow."""
RESPONSE_SIZE = 12


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


CONTROL_TYPE = Codec.ints(lambda c: c.Struct("type" / c.Int32ul))

TMF = Codec.of(
    lambda c: c.Struct("type" / c.Int32ul, "subtype" / c.Int32ul, "lun" / c.Bytes(8), "id" / c.Int64ul)
)
"""The device-readable part of struct virtio_scsi_ctrl_tmf; a response byte follows."""

ASYNC = Codec.of(lambda c: c.Struct("type" / c.Int32ul, "lun" / c.Bytes(8), "event_requested" / c.Int32ul))
"""The device-readable part of struct virtio_scsi_ctrl_an."""

ASYNC_ANSWER = Codec.ints(lambda c: c.Struct("event_actual" / c.Int32ul, "response" / c.Int8ul))
"""The device-writable part of the same."""


class AsyncEvent(IntFlag):
    """Events of MMC devices, VIRTIO 1.4 §5.6.6.2."""

    OPERATIONAL_CHANGE = 2
    POWER_MGMT = 4
    EXTERNAL_REQUEST = 8
    MEDIA_CHANGE = 16
    MULTI_HOST = 32
    DEVICE_BUSY = 64


EVENT = Codec.of(lambda c: c.Struct("event" / c.Int32ul, "lun" / c.Bytes(8), "reason" / c.Int32ul))
"""struct virtio_scsi_event, VIRTIO 1.4 §5.6.6.3."""
EVENT_SIZE = 16

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
