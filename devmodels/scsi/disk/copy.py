"""EXTENDED COPY (LID1): copies between disks of one target, or within one (SPC-4 §5.16, §6.5).

Disks are named by identification descriptors (E4h); segments are from blocks to blocks, whole ones (02h) or by bytes
(0Ah).  What is wrong with the list is an illegal request; what goes wrong with a segment ends it with COPY ABORTED.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from devmodels.blockbackend import Op
from devmodels.scsi.asc import Asc
from devmodels.scsi.constants import DeviceType, SenseKey
from devmodels.scsi.disk.blocks import PIECE
from devmodels.scsi.disk.copylimits import (
    BLOCKS_TO_BLOCKS,
    BYTES_TO_BYTES,
    IDENTIFICATION,
    MAX_LIST,
    MAX_SEGMENT,
    MAX_SEGMENTS,
    MAX_TARGETS,
)
from devmodels.scsi.disk.copyresults import COMPLETED, FAILED, CopyResult
from devmodels.scsi.disk.visits import visiting
from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import cdb
from devmodels.scsi.layout import copy as layout
from devmodels.scsi.sense import CheckCondition, Conflict, Sense, illegal, invalid_parameter
from devmodels.scsi.table import Access, Command, Data
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.scsi.disk.disk import Disk

CDB = Layout(cdb.EXTENDED_COPY)
_HEADER = Layout(layout.HEADER)
_IDENTIFICATION = Layout(layout.IDENTIFICATION)
_SEGMENT = Layout(layout.SEGMENT_HEADER)
_BLOCKS = Layout(layout.BLOCKS_TO_BLOCKS)
_BYTES = Layout(layout.BYTES_TO_BYTES)

DISCARD, NO_LIST = 0b10, 0b11
"""LIST ID USAGE: results are not held; there is no identifier."""
_DESIGNATOR_AT = 8
_SEGMENT_LENGTH_AT = 2
_SEGMENT_TYPES = {BLOCKS_TO_BLOCKS: _BLOCKS, BYTES_TO_BYTES: _BYTES}


class Segment(NamedTuple):
    """What is copied: offsets and length in bytes; `source` and `destination` are indices of targets."""

    source: int
    destination: int
    values: Fields
    by_bytes: bool


class CopyList(NamedTuple):
    """A parsed parameter list."""

    list_id: int
    usage: int
    targets: list[Disk | None]
    segments: list[Segment]


def _parse(disk: Disk, data: bytes) -> CopyList:
    """Everything that is to be known before anything is copied."""
    if len(data) < _HEADER.size:
        raise illegal(Asc.PARAMETER_LIST_LENGTH_ERROR)
    head = _HEADER.unpack(data)
    targets_length, segments_length = head["targets_length"], head["segments_length"]
    if targets_length + segments_length > MAX_LIST:
        raise illegal(Asc.PARAMETER_LIST_LENGTH_ERROR)
    if head["inline_length"]:
        raise illegal(Asc.INLINE_DATA_LENGTH_EXCEEDED)
    if targets_length % _IDENTIFICATION.size:
        raise invalid_parameter(_HEADER.places["targets_length"].offset)
    if _HEADER.size + targets_length + segments_length > len(data):
        raise illegal(Asc.PARAMETER_LIST_LENGTH_ERROR)
    if targets_length // _IDENTIFICATION.size > MAX_TARGETS:
        raise illegal(Asc.TOO_MANY_TARGET_DESCRIPTORS)
    end = _HEADER.size + targets_length
    targets = [_target(disk, data, at) for at in range(_HEADER.size, end, _IDENTIFICATION.size)]
    segments = _segments(data, end, end + segments_length)
    return CopyList(head["list_identifier"], head["list_id_usage"], targets, segments)


def _target(disk: Disk, data: bytes, at: int) -> Disk | None:
    """The disk that a target descriptor names; None where there is none of that name."""
    values = _IDENTIFICATION.unpack(data, at)
    if values["type_code"] != IDENTIFICATION:
        raise illegal(Asc.UNSUPPORTED_TARGET_DESCRIPTOR)
    if values["peripheral_device_type"] != DeviceType.DISK:
        raise invalid_parameter(at + 1, 4)
    start = at + _DESIGNATOR_AT
    if values["designator_length"] > 20:
        raise invalid_parameter(at + 7)
    name = data[start : start + values["designator_length"]]
    return disk.find_disk(values["designator_type"], name)


def _segments(data: bytes, at: int, end: int) -> list[Segment]:
    segments: list[Segment] = []
    while at < end:
        if end - at < _SEGMENT.size:
            raise illegal(Asc.PARAMETER_LIST_LENGTH_ERROR)
        head = _SEGMENT.unpack(data, at)
        kind = _SEGMENT_TYPES.get(head["type_code"])
        if kind is None:
            raise illegal(Asc.UNSUPPORTED_SEGMENT_DESCRIPTOR)
        if head["descriptor_length"] != kind.size - 4:
            raise invalid_parameter(at + _SEGMENT_LENGTH_AT)
        if at + kind.size > end:
            raise illegal(Asc.PARAMETER_LIST_LENGTH_ERROR)
        if len(segments) == MAX_SEGMENTS:
            raise illegal(Asc.TOO_MANY_SEGMENT_DESCRIPTORS)
        values = kind.unpack(data, at)
        segments.append(Segment(values["source"], values["destination"], values, kind is _BYTES))
        at += kind.size
    return segments


def aborted(code: Asc, segment: int) -> CheckCondition:
    """COPY ABORTED, at a segment (SPC-4 §5.16.7.3)."""
    return CheckCondition(Sense(SenseKey.COPY_ABORTED, code, command_specific=segment))


async def extended_copy(disk: Disk, task: Task, fields: Fields) -> None:
    """Copy segment by segment, in order."""
    length = fields["parameter_list_length"]
    if not length:
        return
    if length > MAX_LIST + _HEADER.size:
        raise illegal(Asc.PARAMETER_LIST_LENGTH_ERROR)
    wanted = _parse(disk, disk.parameters(task, length))
    result = CopyResult()
    if wanted.usage != NO_LIST and not disk.copies.begin(task.nexus, wanted.list_id, result):
        raise illegal(Asc.OPERATION_IN_PROGRESS)
    try:
        for index, segment in enumerate(wanted.segments):
            await _copy_segment(disk, task, wanted, segment, index, result)
            result.segments += 1
        result.status = COMPLETED
    except CheckCondition as stop:
        result.status = FAILED
        result.sense = stop.sense.build(descriptors=disk.descriptor_sense)
        raise
    finally:
        if result.running:
            result.status = FAILED
        if wanted.usage == DISCARD and not result.sense:
            disk.copies.discard(task.nexus, wanted.list_id)


async def _copy_segment(
    disk: Disk, task: Task, wanted: CopyList, segment: Segment, index: int, result: CopyResult
) -> None:
    source, destination = ends = _ends(wanted, segment, index)
    start, end, length = _place(source, destination, segment)
    if length > MAX_SEGMENT and segment.by_bytes:
        raise aborted(Asc.NO_ADDITIONAL_SENSE, index)
    if start + length > source.backend.size or end + length > destination.backend.size:
        raise aborted(Asc.NO_ADDITIONAL_SENSE, index)
    if destination.write_protected:
        raise aborted(Asc.COPY_TARGET_DEVICE_NOT_REACHABLE, index)
    # Within one disk a copy that overlaps itself goes from its end, so that nothing is copied twice.
    backwards = source is destination and start < end < start + length
    places = range(0, length, PIECE)
    with visiting(disk, task, ends):
        _check_ends(task, source, destination, index)
        for at in reversed(places) if backwards else places:
            size = min(PIECE, length - at)
            buffer = memoryview(bytearray(size))
            try:
                await source.perform(task, Op.READ, start + at, size, [buffer])
                _check_ends(task, source, destination, index)
                await destination.perform(task, Op.WRITE, end + at, size, [buffer])
            except CheckCondition as stop:
                if stop.sense.key is SenseKey.COPY_ABORTED:
                    raise
                raise aborted(Asc.THIRD_PARTY_DEVICE_FAILURE, index) from None
            result.copied += size
            await source.pause(task)
            _check_ends(task, source, destination, index)


def _check_ends(task: Task, source: Disk, destination: Disk, index: int) -> None:
    """CheckCondition where one of them is reserved, not ready, or no longer there: it may come to that meanwhile."""
    try:
        source.check_reservation(task.nexus, Access.READ)
        destination.check_reservation(task.nexus, Access.WRITE)
        source.check_ready()
        destination.check_ready()
    except (Conflict, CheckCondition):
        raise aborted(Asc.COPY_TARGET_DEVICE_NOT_REACHABLE, index) from None
    if source.leaving or destination.leaving:
        raise aborted(Asc.COPY_TARGET_DEVICE_NOT_REACHABLE, index)


def _ends(wanted: CopyList, segment: Segment, index: int) -> tuple[Disk, Disk]:
    """Source and destination; CheckCondition where one is not there."""
    found = []
    for which in (segment.source, segment.destination):
        disk = wanted.targets[which] if which < len(wanted.targets) else None
        if disk is None:
            raise aborted(Asc.COPY_TARGET_DEVICE_NOT_REACHABLE, index)
        found.append(disk)
    return found[0], found[1]


def _place(source: Disk, destination: Disk, segment: Segment) -> tuple[int, int, int]:
    """Where it is read, where it is written, how long it is, in bytes."""
    values = segment.values
    start = values["source_lba"] * source.block_size
    end = values["destination_lba"] * destination.block_size
    if segment.by_bytes:
        return start + values["source_byte"], end + values["destination_byte"], values["number_of_bytes"]
    counted_by = destination if values["dc"] else source
    return start, end, values["number_of_blocks"] * counted_by.block_size


COMMAND: Command[Disk] = Command(
    0x83,
    "EXTENDED COPY (LID1)",
    CDB,
    extended_copy,
    "SPC-4 §6.5",
    action=0x00,
    data=Data.OUT,
    length="parameter_list_length",
    timeout=0,
)
