"""INQUIRY, REQUEST SENSE and TEST UNIT READY: the commands of every logical unit."""

from __future__ import annotations

from devmodels.scsi.constants import DeviceType
from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import cdb, data
from devmodels.scsi.sense import NO_SENSE, invalid_field
from devmodels.scsi.table import Access, Command, Data
from devmodels.scsi.task import Task
from devmodels.scsi.unit import LogicalUnit

REQUEST_SENSE = Layout(cdb.REQUEST_SENSE)
INQUIRY = Layout(cdb.INQUIRY)
TEST_UNIT_READY = Layout(cdb.TEST_UNIT_READY)
_STANDARD = Layout(data.INQUIRY)

SPC_4 = 0x06
"""The VERSION of a device that keeps to SPC-4."""


def standard_inquiry(
    device_type: DeviceType,
    *,
    qualifier: int = 0,
    removable: bool = False,
    vendor: str = "DEVMODEL",
    product: str = "",
    revision: str = "1.0",
    versions: tuple[int, ...] = (),
    third_party_copy: bool = False,
    queueing: bool = True,
) -> bytes:
    """Standard INQUIRY data (SPC-4 §6.6.2); `queueing`: whether its carrier takes several commands at a time."""
    return _STANDARD.pack(
        qualifier=qualifier,
        device_type=device_type,
        rmb=removable,
        version=SPC_4,
        hisup=1,
        response_data_format=2,
        additional_length=_STANDARD.size - 5,
        third_party_copy=third_party_copy,
        cmdque=queueing,
        vendor=vendor.encode().ljust(8),
        product=product.encode().ljust(16),
        revision=revision.encode().ljust(4),
        versions=b"".join(version.to_bytes(2, "big") for version in versions),
    )


def inquiry(unit: LogicalUnit, task: Task, fields: Fields) -> bytes:
    """Standard data, or a page of vital product data."""
    page = fields["page_code"]
    if not fields["evpd"]:
        if page:
            raise invalid_field(INQUIRY, "page_code")
        return unit.inquiry_data()
    answer = unit.vital_product_data(page, task)
    if answer is None:
        raise invalid_field(INQUIRY, "page_code")
    return answer


def request_sense(unit: LogicalUnit, task: Task, fields: Fields) -> bytes:
    """What a unit attention would say, which is told thereby; else what goes on in the unit (SPC-4 §6.39)."""
    sense = unit.attentions.take(task.nexus) or unit.progress_sense() or NO_SENSE
    return sense.build(descriptors=bool(fields["desc"]))


def unit_ready(unit: LogicalUnit, _task: Task, _fields: Fields) -> None:
    """GOOD where the unit is ready (SPC-4 §6.47)."""
    unit.check_ready()


TEST_UNIT_READY_COMMAND: Command[LogicalUnit] = Command(
    0x00,
    "TEST UNIT READY",
    TEST_UNIT_READY,
    unit_ready,
    "SPC-4 §6.47",
    access=Access.FREE,
    ready=False,
)
REQUEST_SENSE_COMMAND: Command[LogicalUnit] = Command(
    0x03,
    "REQUEST SENSE",
    REQUEST_SENSE,
    request_sense,
    "SPC-4 §6.39",
    data=Data.IN,
    length="allocation_length",
    attention=False,
    access=Access.ALWAYS,
    ready=False,
)
INQUIRY_COMMAND: Command[LogicalUnit] = Command(
    0x12,
    "INQUIRY",
    INQUIRY,
    inquiry,
    "SPC-4 §6.6",
    data=Data.IN,
    length="allocation_length",
    attention=False,
    access=Access.ALWAYS,
    ready=False,
)
COMMANDS = (TEST_UNIT_READY_COMMAND, REQUEST_SENSE_COMMAND, INQUIRY_COMMAND)
