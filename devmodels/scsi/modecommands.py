"""MODE SENSE and MODE SELECT (6) and (10), for units with mode pages (SPC-4 §6.11 to §6.14)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from devmodels.scsi.asc import Asc
from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import cdb, modes
from devmodels.scsi.modes import ALL_SUBPAGES, ModePage, ModePages, PageControl
from devmodels.scsi.sense import illegal, invalid_field, invalid_parameter
from devmodels.scsi.table import Command, Data
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.scsi.nexus import Nexus

MODE_SENSE_6 = Layout(cdb.MODE_SENSE_6)
MODE_SENSE_10 = Layout(cdb.MODE_SENSE_10)
MODE_SELECT_6 = Layout(cdb.MODE_SELECT_6)
MODE_SELECT_10 = Layout(cdb.MODE_SELECT_10)
_HEADER_6 = Layout(modes.HEADER_6)
_HEADER_10 = Layout(modes.HEADER_10)
_PAGE = Layout(modes.PAGE_HEADER)
_SUBPAGE = Layout(modes.SUBPAGE_HEADER)

_PAGE_CODE_BIT = 5
"""The highest bit of PAGE CODE in its byte."""


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

    def check_block_descriptor(self, data: bytes, at: int) -> None:
        """CheckCondition where a block descriptor, at `at` in the parameter list, asks for what cannot be."""
        ...

    def check_mode(self, page: ModePage, image: bytes, at: int) -> None:
        """CheckCondition where values of a page, at `at` in the parameter list, are none that it can have."""
        ...

    async def modes_changed(self, task: Task, pages: Sequence[ModePage], *, save: bool) -> None:
        """`task` has changed current values of `pages`: do what follows, and with `save` keep them."""
        ...

    def parameters(self, task: Task, length: int) -> bytes:
        """The parameter list."""
        ...

    def establish(self, code: Asc, *, but: Nexus | None = None) -> None:
        """A unit attention condition for every nexus but one."""
        ...


# --- MODE SENSE


def _pages(unit: HasModes, fields: Fields, layout: Layout) -> bytes:
    """The pages that are asked for."""
    control = fields["page_control"]
    if control == PageControl.SAVED and not unit.modes.savable:
        raise illegal(Asc.SAVING_PARAMETERS_NOT_SUPPORTED)
    code, subpage = fields["page_code"], fields["subpage_code"]
    pages = unit.modes.select(code, subpage)
    if not pages:
        known = unit.modes.select(code, ALL_SUBPAGES)
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


# --- MODE SELECT


async def _select(unit: HasModes, task: Task, fields: Fields, *, layout: Layout, header: Layout) -> None:
    """Judge all pages first and set them then."""
    if not fields["pf"]:
        raise invalid_field(layout, "pf")
    save = bool(fields["sp"])
    if save and not unit.modes.savable:
        raise invalid_field(layout, "sp")
    length = fields["parameter_list_length"]
    data = unit.parameters(task, length)
    if not data:
        return
    if length < header.size:
        raise illegal(Asc.PARAMETER_LIST_LENGTH_ERROR)
    values = header.unpack(data)
    at = header.size + values["block_descriptor_length"]
    if at > length:
        raise illegal(Asc.PARAMETER_LIST_LENGTH_ERROR)
    descriptor = data[header.size : at]
    if descriptor:
        if len(descriptor) != (16 if values.get("longlba") else 8):
            place = header.places["block_descriptor_length"]
            raise invalid_parameter(place.offset)
        unit.check_block_descriptor(descriptor, header.size)
    images = _parse_pages(unit, data, at)
    changed = [page for page, image in images if image != page.current]
    before = [(page, page.current, page.saved) for page, _ in images]
    for page, image in images:
        page.current = image
        if save:
            page.saved = image
    if changed:
        unit.establish(Asc.MODE_PARAMETERS_CHANGED, but=task.nexus)
    if not changed and not save:
        return
    try:
        await unit.modes_changed(task, changed, save=save)
    except OSError:
        for page, current, saved in before:
            page.current, page.saved = current, saved
        await unit.modes_changed(task, changed, save=False)
        raise


def _parse_pages(unit: HasModes, data: bytes, at: int) -> list[tuple[ModePage, bytes]]:
    """The pages in a parameter list, from `at` on, each with its new value."""
    images = []
    while at < len(data):
        if len(data) - at < _PAGE.size:
            raise illegal(Asc.PARAMETER_LIST_LENGTH_ERROR)
        head = _PAGE.unpack(data, at)
        length_at = at + 1
        if head["spf"]:
            if len(data) - at < _SUBPAGE.size:
                raise illegal(Asc.PARAMETER_LIST_LENGTH_ERROR)
            head = _SUBPAGE.unpack(data, at)
            length_at = at + 2
        page = unit.modes.pages.get((head["page_code"], head.get("subpage_code", 0)))
        if page is None or bool(page.subpage) != bool(head["spf"]):
            raise invalid_parameter(at, _PAGE_CODE_BIT)
        size = page.header_size + head["page_length"]
        if size != len(page.current):
            raise invalid_parameter(length_at)
        if at + size > len(data):
            raise illegal(Asc.PARAMETER_LIST_LENGTH_ERROR)
        image = page.current[: page.header_size] + data[at + page.header_size : at + size]
        _check_changeable(page, image, at)
        unit.check_mode(page, image, at)
        images.append((page, image))
        at += size
    return images


def _check_changeable(page: ModePage, image: bytes, at: int) -> None:
    """CheckCondition, pointing at the bit, where something is set that cannot be."""
    for index, (new, old, mask) in enumerate(page.differences(image), page.header_size):
        wrong = (new ^ old) & ~mask
        if wrong:
            raise invalid_parameter(at + index, wrong.bit_length() - 1)


mode_select_6: Callable[..., Any] = partial(_select, layout=MODE_SELECT_6, header=_HEADER_6)
mode_select_10: Callable[..., Any] = partial(_select, layout=MODE_SELECT_10, header=_HEADER_10)


COMMANDS: tuple[Command[Any], ...] = (
    Command(
        0x1A,
        "MODE SENSE (6)",
        MODE_SENSE_6,
        mode_sense_6,
        "SPC-4 §6.13",
        data=Data.IN,
        length="allocation_length",
        ready=False,
    ),
    Command(
        0x5A,
        "MODE SENSE (10)",
        MODE_SENSE_10,
        mode_sense_10,
        "SPC-4 §6.14",
        data=Data.IN,
        length="allocation_length",
        ready=False,
    ),
    Command(
        0x15,
        "MODE SELECT (6)",
        MODE_SELECT_6,
        mode_select_6,
        "SPC-4 §6.11",
        data=Data.OUT,
        length="parameter_list_length",
        ready=False,
    ),
    Command(
        0x55,
        "MODE SELECT (10)",
        MODE_SELECT_10,
        mode_select_10,
        "SPC-4 §6.12",
        data=Data.OUT,
        length="parameter_list_length",
        ready=False,
    ),
)
