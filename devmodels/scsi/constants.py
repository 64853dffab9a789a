"""Numbers that SAM-5 and SPC-4 give their names to."""

from __future__ import annotations

from enum import Enum, IntEnum


class Status(IntEnum):
    """How a command ended, SAM-5 §5.3."""

    GOOD = 0x00
    CHECK_CONDITION = 0x02
    CONDITION_MET = 0x04
    BUSY = 0x08
    RESERVATION_CONFLICT = 0x18
    TASK_SET_FULL = 0x28
    ACA_ACTIVE = 0x30
    TASK_ABORTED = 0x40


class SenseKey(IntEnum):
    """What kind of thing happened, SPC-4 §4.5.6."""

    NO_SENSE = 0x0
    RECOVERED_ERROR = 0x1
    NOT_READY = 0x2
    MEDIUM_ERROR = 0x3
    HARDWARE_ERROR = 0x4
    ILLEGAL_REQUEST = 0x5
    UNIT_ATTENTION = 0x6
    DATA_PROTECT = 0x7
    BLANK_CHECK = 0x8
    COPY_ABORTED = 0xA
    ABORTED_COMMAND = 0xB
    VOLUME_OVERFLOW = 0xD
    MISCOMPARE = 0xE
    COMPLETED = 0xF


class TaskAttribute(IntEnum):
    """How a task stands among the others of its set, SAM-5 §8.6."""

    SIMPLE = 0
    ORDERED = 1
    HEAD_OF_QUEUE = 2
    ACA = 3


class Outcome(Enum):
    """What the carrier is told of a task besides its status (the service response, SAM-5 §5.1)."""

    COMPLETE = "complete"
    """`status` says how it ended."""
    ABORTED = "aborted"
    """A task management function ended it: the initiator is sent no status (SAM-5 §5.6)."""
    RESET = "reset"
    """As `ABORTED`, by a reset of the logical unit, of the nexus, or of the carrier."""


class Failure(Enum):
    """What is wrong with the way to the medium, and not with the command, where a carrier can say so.

    Others send the sense data that goes with it.
    """

    TRANSPORT = "transport"
    """The connection to the medium is cut."""
    TARGET = "target"
    """The medium fails, on whichever path."""
    NEXUS = "nexus"
    """Another path may do better."""
    BUSY = "busy"
    """The same may be done a little later."""


class Function(Enum):
    """Task management, SAM-5 §7."""

    ABORT_TASK = "ABORT TASK"
    ABORT_TASK_SET = "ABORT TASK SET"
    CLEAR_ACA = "CLEAR ACA"
    CLEAR_TASK_SET = "CLEAR TASK SET"
    I_T_NEXUS_RESET = "I_T NEXUS RESET"
    LOGICAL_UNIT_RESET = "LOGICAL UNIT RESET"
    QUERY_TASK = "QUERY TASK"
    QUERY_TASK_SET = "QUERY TASK SET"
    QUERY_ASYNC_EVENT = "QUERY ASYNCHRONOUS EVENT"
    TARGET_RESET = "TARGET RESET"
    """Of SAM-2; iSCSI still has it, as warm and cold reset (RFC 7143 §11.5.1)."""


class Response(Enum):
    """The answer to task management, SAM-5 §7.1."""

    COMPLETE = "FUNCTION COMPLETE"
    SUCCEEDED = "FUNCTION SUCCEEDED"
    REJECTED = "FUNCTION REJECTED"
    INCORRECT_LUN = "INCORRECT LOGICAL UNIT NUMBER"


class DeviceType(IntEnum):
    """Peripheral device types, SPC-4 §6.6.2."""

    DISK = 0x00
    CD_DVD = 0x05
    WELL_KNOWN = 0x1E
    NONE = 0x1F


class Protocol(IntEnum):
    """Transport protocols, SPC-4 §7.6.1."""

    FCP = 0x0
    SRP = 0x4
    ISCSI = 0x5
    SAS = 0x6
    ATA = 0x8
    NONE = 0xF
