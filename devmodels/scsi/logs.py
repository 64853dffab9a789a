"""LOG SENSE: log pages as lists of parameters (SPC-4 §6.8, §7.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from devmodels.iocontext import Coro
from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import cdb, parameters
from devmodels.scsi.sense import invalid_field
from devmodels.scsi.table import Access, Command, Data
from devmodels.scsi.task import Task
from devmodels.scsi.unit import LogicalUnit

CDB = Layout(cdb.LOG_SENSE)
_HEADER = Layout(parameters.LOG_HEADER)
_PARAMETER = Layout(parameters.LOG_PARAMETER)

SUPPORTED, ALL_SUBPAGES = 0x00, 0xFF
COUNTER, BINARY_LIST = 0b00, 0b11
"""FORMAT AND LINKING: a bounded counter, a list in binary format."""
CUMULATIVE, DEFAULT_CUMULATIVE = 0b01, 0b11
"""PAGE CONTROL; the others are thresholds."""


class Parameter(NamedTuple):
    """One log parameter."""

    code: int
    data: bytes
    format_and_linking: int = BINARY_LIST

    def image(self, control: int = CUMULATIVE) -> bytes:
        """Its bytes; of a counter, the values that `control` asks for.

        No counter has a threshold: that is the greatest value.  They all begin with 0.
        """
        data = self.data
        if self.format_and_linking == COUNTER and control != CUMULATIVE:
            data = (b"\0" if control == DEFAULT_CUMULATIVE else b"\xff") * len(data)
        head = _PARAMETER.pack(code=self.code, format_and_linking=self.format_and_linking, length=len(data))
        return head + data


def counter(code: int, value: int) -> Parameter:
    """A counter of eight bytes."""
    return Parameter(code, min(value, (1 << 64) - 1).to_bytes(8, "big"), COUNTER)


LogPage = Callable[[Task], Coro[list[Parameter]]]


class HasLogs(LogicalUnit):
    """A unit with log pages, by page code and subpage code, beside those that list the others."""

    logs: Mapping[tuple[int, int], LogPage]


def _supported(unit: HasLogs, subpages: bool) -> bytes:
    """Which pages there are, with `subpages` which subpages, too."""
    keys = sorted({(SUPPORTED, 0), (SUPPORTED, ALL_SUBPAGES), *unit.logs})
    if subpages:
        return b"".join(bytes(key) for key in keys)
    return bytes(sorted({code for code, _ in keys}))


async def log_sense(unit: HasLogs, task: Task, fields: Fields) -> bytes:
    """A page, from a parameter on."""
    code, subpage = fields["page_code"], fields["subpage_code"]
    pointer = fields["parameter_pointer"]
    if code == SUPPORTED:
        if subpage not in (0, ALL_SUBPAGES):
            raise invalid_field(CDB, "subpage_code")
        if pointer:
            raise invalid_field(CDB, "parameter_pointer")
        body = _supported(unit, bool(subpage))
    else:
        page = unit.logs.get((code, subpage))
        if page is None:
            raise invalid_field(CDB, "subpage_code" if (code, 0) in unit.logs else "page_code")
        wanted = [each for each in await page(task) if each.code >= pointer]
        if not wanted and pointer:
            raise invalid_field(CDB, "parameter_pointer")
        body = b"".join(each.image(fields["page_control"]) for each in wanted)
    head = _HEADER.pack(ds=1, spf=bool(subpage), page_code=code, subpage_code=subpage, length=len(body))
    return head + body


COMMAND: Command[HasLogs] = Command(
    0x4D,
    "LOG SENSE",
    CDB,
    log_sense,
    "SPC-4 §6.8",
    data=Data.IN,
    length="allocation_length",
    refused=("ppc", "sp"),
    access=Access.ALWAYS,
    ready=False,
)
