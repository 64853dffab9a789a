"""READ DEFECT DATA (10) and (12): there are none (SBC-4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import block_cdb as cdb
from devmodels.scsi.layout import parameters
from devmodels.scsi.table import Access, Command, Data
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.scsi.disk.disk import Disk

READ_10 = Layout(cdb.READ_DEFECT_DATA_10)
READ_12 = Layout(cdb.READ_DEFECT_DATA_12)
_DATA_10 = Layout(parameters.DEFECTS_10)
_DATA_12 = Layout(parameters.DEFECTS_12)


def _answer(layout: Layout, fields: Fields) -> bytes:
    """An empty list in the format that was asked for."""
    return layout.pack(
        plistv=fields["req_plist"],
        glistv=fields["req_glist"],
        defect_list_format=fields["defect_list_format"],
    )


def read_defect_data_10(_disk: Disk, _task: Task, fields: Fields) -> bytes:
    """No defects."""
    return _answer(_DATA_10, fields)


def read_defect_data_12(_disk: Disk, _task: Task, fields: Fields) -> bytes:
    """No defects."""
    return _answer(_DATA_12, fields)


COMMANDS: tuple[Command[Disk], ...] = (
    Command(
        0x37,
        "READ DEFECT DATA (10)",
        READ_10,
        read_defect_data_10,
        "SBC-4",
        data=Data.IN,
        length="allocation_length",
        access=Access.READ,
    ),
    Command(
        0xB7,
        "READ DEFECT DATA (12)",
        READ_12,
        read_defect_data_12,
        "SBC-4",
        data=Data.IN,
        length="allocation_length",
        ignored=("address_descriptor_index",),
        access=Access.READ,
    ),
)
