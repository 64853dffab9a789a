"""How fast: SET CD SPEED, SET STREAMING, GET PERFORMANCE, SET READ AHEAD (MMC-6).

A medium is as fast as its image; what is asked for is told back, and nothing waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.scsi.asc import Asc
from devmodels.scsi.constants import SenseKey
from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import mmc_cdb, mmc_data
from devmodels.scsi.sense import CheckCondition, Sense, illegal, invalid_field, invalid_parameter
from devmodels.scsi.table import Access, Command, Data
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.scsi.mmc.drive import CdDrive

SET_SPEED = Layout(mmc_cdb.SET_CD_SPEED)
GET_PERFORMANCE = Layout(mmc_cdb.GET_PERFORMANCE)
SET_STREAMING = Layout(mmc_cdb.SET_STREAMING)
SET_READ_AHEAD = Layout(mmc_cdb.SET_READ_AHEAD)
_HEADER = Layout(mmc_data.PERFORMANCE_HEADER)
_NOMINAL = Layout(mmc_data.NOMINAL_PERFORMANCE)
_STREAMING = Layout(mmc_data.STREAMING)

PERFORMANCE, WRITE_SPEEDS = 0x00, 0x03
"""TYPE of GET PERFORMANCE."""
SLOWEST = 176
_MS_PER_SECOND = 1000


def _set(drive: CdDrive, speed: int) -> None:
    drive.read_speed = max(SLOWEST, min(speed, drive.fastest))
    drive.capabilities_changed()


def set_cd_speed(drive: CdDrive, _task: Task, fields: Fields) -> None:
    """In kB/s; as fast as can be where that is less."""
    if fields["rotational_control"] > 1:
        raise invalid_field(SET_SPEED, "rotational_control")
    _set(drive, fields["read_speed"])


def set_streaming(drive: CdDrive, task: Task, fields: Fields) -> None:
    """So many kB in so many milliseconds."""
    if fields["performance_type"]:
        raise invalid_field(SET_STREAMING, "performance_type")
    data = drive.parameters(task, fields["parameter_list_length"])
    if len(data) != _STREAMING.size:
        raise illegal(Asc.PARAMETER_LIST_LENGTH_ERROR)
    values = _STREAMING.unpack(data)
    if values["rdd"]:
        _set(drive, drive.fastest)
        return
    for name, wrong in (
        ("end_lba", values["end_lba"] < values["start_lba"]),
        ("read_time", not values["read_time"]),
    ):
        if wrong:
            raise invalid_parameter(_STREAMING.places[name].offset)
    _set(drive, values["read_size"] * _MS_PER_SECOND // values["read_time"])


def get_performance(drive: CdDrive, _task: Task, fields: Fields) -> bytes:
    """The nominal performance: the same everywhere.  There are no exceptions, and nothing is written."""
    kind = fields["performance_type"]
    if kind not in (PERFORMANCE, WRITE_SPEEDS):
        raise invalid_field(GET_PERFORMANCE, "performance_type")
    if kind == PERFORMANCE and fields["write"]:
        raise invalid_field(GET_PERFORMANCE, "write")
    descriptors = b""
    last = drive.medium.blocks - 1
    if fields["starting_lba"] > last:
        raise CheckCondition(Sense(SenseKey.ILLEGAL_REQUEST, Asc.LBA_OUT_OF_RANGE))
    if kind == PERFORMANCE and not fields["exceptions"]:
        speed = drive.read_speed
        descriptors = _NOMINAL.pack(
            start_lba=fields["starting_lba"], start_performance=speed, end_lba=last, end_performance=speed
        )
    header = _HEADER.pack(
        length=_HEADER.size - 4 + len(descriptors), **{"except": bool(fields["exceptions"])}
    )
    return header + (descriptors if fields["maximum_descriptors"] else b"")


def set_read_ahead(drive: CdDrive, _task: Task, fields: Fields) -> None:
    """What is read ahead is the host's page cache's business."""
    blocks = drive.medium.blocks
    for name in ("trigger_lba", "lba"):
        if fields[name] >= blocks:
            raise CheckCondition(Sense(SenseKey.ILLEGAL_REQUEST, Asc.LBA_OUT_OF_RANGE, information=blocks))


COMMANDS: tuple[Command[CdDrive], ...] = (
    Command(0xBB, "SET CD SPEED", SET_SPEED, set_cd_speed, "MMC-6", ignored=("write_speed",), ready=False),
    Command(
        0xB6,
        "SET STREAMING",
        SET_STREAMING,
        set_streaming,
        "MMC-6",
        data=Data.OUT,
        length="parameter_list_length",
    ),
    Command(
        0xAC,
        "GET PERFORMANCE",
        GET_PERFORMANCE,
        get_performance,
        "MMC-6",
        data=Data.IN,
        ignored=("tolerance",),
        access=Access.FREE,
    ),
    Command(0xA7, "SET READ AHEAD", SET_READ_AHEAD, set_read_ahead, "MMC-6", access=Access.READ),
)
