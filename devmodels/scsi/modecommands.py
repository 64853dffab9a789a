"""MODE SENSE (6) and (10), for units with mode pages (SPC-4 §6.14, §6.15)."""

from __future__ import annotations

from typing import Any, Protocol

from devmodels.scsi.asc import Asc
from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import cdb, modes
from devmodels.scsi.modes import ModePages, PageControl
from devmodels.scsi.sense import illegal, invalid_field
from devmodels.scsi.table import Access, Command, Data
from devmodels.scsi.task import Task

MODE_SENSE_6 = Layout(cdb.MODE_SENSE_6)
MODE_SENSE_10 = Layout(cdb.MODE_SENSE_10)
_HEADER_6 = Layout(modes.HEADER_6)
_HEADER_10 = Layout(modes.HEADER_10)


class HasModes(Protocol):
    """What a unit with mode pages offers."""

    modes: ModePages

    def device_specific(self) -> int:
        """The DEVICE-SPECIFIC PARAMETER of the header."""
        ...

    def medium_type(self) -> int:
        """The MEDIUM TYPE of the header."""
        ...

    def block_descriptor(self, *, long: bool, control: int) -> bytes:
        """The block descriptor, if there is one."""
        ...


def _pages(unit: HasModes, fields: Fields, layout: Layout) -> bytes:
    """The pages that are asked for."""
    control = fields["page_control"]
    if control == PageControl.SAVED and not unit.modes.savable:
        raise illegal(Asc.SAVING_PARAMETERS_NOT_SUPPORTED)
    code, subpage = fields["page_code"], fields["subpage_code"]
    pages = unit.modes.select(code, subpage)
    if not pages:
        known = unit.modes.select(code, 0xFF)
        raise invalid_field(layout, "subpage_code" if known else "page_code")
    return b"".join(unit.modes.image(page, control) for page in pages)


def mode_sense_6(unit: HasModes, _task: Task, fields: Fields) -> bytes:
    """Header, block descriptor and pages; a length that does not fit is 255."""
    descriptor = b"" if fields["dbd"] else unit.block_descriptor(long=False, control=fields["page_control"])
    pages = _pages(unit, fields, MODE_SENSE_6)
    header = _HEADER_6.pack(
        mode_data_length=min(3 + len(descriptor) + len(pages), 255),
        medium_type=unit.medium_type(),
        device_specific=unit.device_specific(),
        block_descriptor_length=len(descriptor),
    )
    return header + descriptor + pages


def mode_sense_10(unit: HasModes, _task: Task, fields: Fields) -> bytes:
    """As MODE SENSE (6), with LLBAA for a block descriptor that holds 64 bits of LBA."""
    long = bool(fields["llbaa"])
    descriptor = b"" if fields["dbd"] else unit.block_descriptor(long=long, control=fields["page_control"])
    pages = _pages(unit, fields, MODE_SENSE_10)
    header = _HEADER_10.pack(
        mode_data_length=6 + len(descriptor) + len(pages),
        medium_type=unit.medium_type(),
        device_specific=unit.device_specific(),
        longlba=long and bool(descriptor),
        block_descriptor_length=len(descriptor),
    )
    return header + descriptor + pages


COMMANDS: tuple[Command[Any], ...] = (
    Command(
        0x1A,
        "MODE SENSE(6)",
        MODE_SENSE_6,
        mode_sense_6,
        "SPC-4 §6.14",
        data=Data.IN,
        length="allocation_length",
        access=Access.READ,
    ),
    Command(
        0x5A,
        "MODE SENSE(10)",
        MODE_SENSE_10,
        mode_sense_10,
        "SPC-4 §6.15",
        data=Data.IN,
        length="allocation_length",
        access=Access.READ,
    ),
)
