"""RECEIVE COPY RESULTS: how copies went, and what they may be (SPC-4 §6.22, §6.23, §6.25, §7.8.17)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.scsi.disk import copylimits as limits
from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import cdb
from devmodels.scsi.layout import copy as layout
from devmodels.scsi.nexus import Nexus
from devmodels.scsi.sense import invalid_field
from devmodels.scsi.table import Command, Data, Handler
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.scsi.disk.disk import Disk

CDB = Layout(cdb.RECEIVE_COPY_RESULTS)
_STATUS = Layout(layout.STATUS)
_PARAMETERS = Layout(layout.OPERATING_PARAMETERS)
_FAILURE = Layout(layout.FAILURE)
_DESCRIPTOR = Layout(layout.THIRD_PARTY)
_COPY_PARAMETERS = Layout(layout.COPY_PARAMETERS)

RUNNING, COMPLETED, FAILED = 0, 1, 2
"""COPY STATUS: in progress, completed without errors, completed with errors."""
MAX_HELD = limits.MAX_HELD
UNITS = ((0, 1), (1, 1 << 10), (2, 1 << 20), (3, 1 << 30))
"""TRANSFER COUNT UNITS: bytes, KiB, MiB, GiB."""
COUNT_LIMIT = 1 << 32
CHECK_CONDITION = 0x02
EXTENDED_COPY, RECEIVE_COPY_RESULTS = 0x83, 0x84
SUPPORTED_COMMANDS, PARAMETER_DATA, SUPPORTED_DESCRIPTORS, GENERAL_OPERATIONS = 0x0001, 0x0004, 0x0008, 0x8001
"""Types of third-party copy descriptors."""


class CopyResult:
    """How one copy goes."""

    __slots__ = ("copied", "segments", "sense", "status")

    def __init__(self) -> None:
        self.status = RUNNING
        self.segments = 0
        self.copied = 0
        self.sense = b""

    @classmethod
    def ended(cls, status: int, segments: int, copied: int, sense: bytes) -> CopyResult:
        """One that is over."""
        result = cls()
        result.status, result.segments, result.copied, result.sense = status, segments, copied, sense
        return result

    @property
    def running(self) -> bool:
        """Whether it is not over."""
        return self.status == RUNNING


class Copies:
    """Results by nexus and list identifier, until they have been fetched or are too old."""

    __slots__ = ("_results",)

    def __init__(self) -> None:
        self._results: dict[tuple[Nexus, int], CopyResult] = {}

    def begin(self, nexus: Nexus, list_id: int, result: CopyResult) -> bool:
        """Hold `result`; False where a copy of that identifier runs."""
        before = self._results.pop((nexus, list_id), None)
        if before is not None and before.running:
            self._results[nexus, list_id] = before
            return False
        while len(self._results) >= MAX_HELD:
            oldest = next((key for key, each in self._results.items() if not each.running), None)
            if oldest is None:
                return False
            del self._results[oldest]
        self._results[nexus, list_id] = result
        return True

    def get(self, nexus: Nexus, list_id: int) -> CopyResult | None:
        """The result of that identifier."""
        return self._results.get((nexus, list_id))

    def of(self, nexus: Nexus) -> list[tuple[int, CopyResult]]:
        """The results that are held for `nexus`, those of copies that run left out."""
        return [
            (list_id, each)
            for (who, list_id), each in self._results.items()
            if who is nexus and not each.running
        ]

    def discard(self, nexus: Nexus, list_id: int) -> None:
        """It need not be held."""
        self._results.pop((nexus, list_id), None)

    def forget(self, nexus: Nexus) -> None:
        """`nexus` is gone."""
        self._results = {key: result for key, result in self._results.items() if key[0] is not nexus}


def copy_status(disk: Disk, task: Task, fields: Fields) -> bytes:
    """How a copy goes; one that is over is forgotten."""
    list_id = fields["list_identifier"]
    result = disk.copies.get(task.nexus, list_id)
    if result is None:
        raise invalid_field(CDB, "list_identifier")
    if not result.running and not result.sense:
        disk.copies.discard(task.nexus, list_id)
    units, size = next(unit for unit in UNITS if result.copied // unit[1] < COUNT_LIMIT)
    return _STATUS.pack(
        available_data=_STATUS.size - 4,
        copy_status=result.status,
        segments_processed=result.segments,
        transfer_count_units=units,
        transfer_count=result.copied // size,
    )


def failure_details(disk: Disk, task: Task, fields: Fields) -> bytes:
    """The sense data of a copy that failed, once."""
    list_id = fields["list_identifier"]
    result = disk.copies.get(task.nexus, list_id)
    if result is None or not result.sense:
        raise invalid_field(CDB, "list_identifier")
    disk.copies.discard(task.nexus, list_id)
    head = _FAILURE.pack(
        available_data=_FAILURE.size - 4 + len(result.sense),
        copy_command_status=CHECK_CONDITION,
        sense_length=len(result.sense),
    )
    return head + result.sense


def operating_parameters(_disk: Disk, _task: Task, _fields: Fields) -> bytes:
    """What a copy may be."""
    head = _PARAMETERS.pack(
        available_data=_PARAMETERS.size - 4 + len(limits.DESCRIPTOR_TYPES),
        snlid=1,
        maximum_targets=limits.MAX_TARGETS,
        maximum_segments=limits.MAX_SEGMENTS,
        maximum_list_length=limits.MAX_LIST,
        maximum_segment_length=limits.MAX_SEGMENT,
        total_concurrent_copies=MAX_HELD,
        maximum_concurrent_copies=MAX_HELD,
        descriptor_list_length=len(limits.DESCRIPTOR_TYPES),
    )
    return head + limits.DESCRIPTOR_TYPES


def third_party_page() -> bytes:
    """The body of VPD page 8Fh: the commands, what they may be, the descriptors they take (SPC-4 §7.8.17)."""
    actions = bytes(command.action or 0 for command in COMMANDS)
    commands = bytes((EXTENDED_COPY, 1, 0, RECEIVE_COPY_RESULTS, len(actions))) + actions
    parameters = _COPY_PARAMETERS.pack(
        maximum_targets=limits.MAX_TARGETS,
        maximum_segments=limits.MAX_SEGMENTS,
        maximum_list_length=limits.MAX_LIST,
    )
    types = limits.DESCRIPTOR_TYPES
    return b"".join(
        (
            _third_party(SUPPORTED_COMMANDS, bytes((len(commands),)) + commands),
            _third_party(PARAMETER_DATA, parameters),
            _third_party(SUPPORTED_DESCRIPTORS, bytes((len(types),)) + types),
            _third_party(GENERAL_OPERATIONS, _general()),
        )
    )


def _third_party(kind: int, body: bytes) -> bytes:
    """A descriptor, its length a multiple of four."""
    body = body.ljust(-(-len(body) // 4) * 4, b"\0")
    return _DESCRIPTOR.pack(descriptor_type=kind, descriptor_length=len(body)) + body


def _general() -> bytes:
    """General copy operations: how many at a time; their granularity is one byte (SPC-4 §7.8.17.13)."""
    return (
        MAX_HELD.to_bytes(4, "big")
        + MAX_HELD.to_bytes(4, "big")
        + limits.MAX_SEGMENT.to_bytes(4, "big")
        + bytes(20)
    )


def _command(action: int, name: str, handler: Handler[Disk], clause: str) -> Command[Disk]:
    return Command(
        RECEIVE_COPY_RESULTS,
        name,
        CDB,
        handler,
        clause,
        action=action,
        data=Data.IN,
        length="allocation_length",
        ignored=("list_identifier",) if handler is operating_parameters else (),
        ready=False,
    )


COMMANDS = (
    _command(0x00, "RECEIVE COPY STATUS (LID1)", copy_status, "SPC-4 §6.25"),
    _command(0x03, "RECEIVE COPY OPERATING PARAMETERS", operating_parameters, "SPC-4 §6.23"),
    _command(0x04, "RECEIVE COPY FAILURE DETAILS (LID1)", failure_details, "SPC-4 §6.22"),
)
