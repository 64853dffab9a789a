"""FORMAT UNIT and SANITIZE (SBC-4)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from devmodels.blockbackend import Flags, Op
from devmodels.scsi.asc import Asc
from devmodels.scsi.disk.blocks import PIECE, check_writable
from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import block_cdb as cdb
from devmodels.scsi.layout import parameters
from devmodels.scsi.sense import illegal, invalid_field, invalid_parameter
from devmodels.scsi.table import Command, Data
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.iocontext import Coro
    from devmodels.scsi.disk.disk import Disk

FORMAT_UNIT = Layout(cdb.FORMAT_UNIT)
SANITIZE = Layout(cdb.SANITIZE)
_OVERWRITE = Layout(parameters.OVERWRITE)
_SHORT = Layout(parameters.FORMAT_HEADER_SHORT)
_LONG = Layout(parameters.FORMAT_HEADER_LONG)
_PATTERN = Layout(parameters.INITIALIZATION_PATTERN)

STEP = 64 << 20
"""How many bytes are zeroed, or erased, at a time: so often progress is made."""
_OPTIONS_AT = 1
_FOV_BIT, _DPRY_BIT = 7, 6
DEFAULT_PATTERN, REPEATED_PATTERN = 0, 1


async def _pass(disk: Disk, op: Op, flags: Flags = Flags.NONE) -> None:
    """Do `op` to everything."""
    size = disk.backend.size
    for at in range(0, size, STEP):
        length = min(STEP, size - at)
        await disk.perform(None, op, at, length, (), flags)
        disk.operation.done += length
        await disk.turns.pause()
        disk.operation.go_on(disk)


async def _overwrite(disk: Disk, block: bytes) -> None:
    """Write `block` to every block."""
    size = disk.backend.size
    count = max(1, PIECE // len(block))
    data = memoryview(block * count)
    for at in range(0, size, len(data)):
        length = min(len(data), size - at)
        await disk.perform(None, Op.WRITE, at, length, [data[:length]])
        disk.operation.done += length
        await disk.pause(None)
        disk.operation.go_on(disk)


# --- FORMAT UNIT


async def format_unit(disk: Disk, task: Task, fields: Fields) -> None:
    """Fill the medium with zeroes or a pattern; there are no defects, and the block size stays as it is."""
    check_writable(disk)
    immed, block = False, b""
    if fields["fmtdata"]:
        immed, block = _format_parameters(disk, task, fields)
    elif fields["longlist"] or fields["cmplst"]:
        raise invalid_field(FORMAT_UNIT, "longlist" if fields["longlist"] else "cmplst")

    async def work() -> None:
        if block:
            await _overwrite(disk, block)
        else:
            await _pass(disk, Op.WRITE_ZEROES, Flags.MAY_UNMAP)
        await disk.perform(None, Op.FLUSH)

    await disk.operation.start(disk, task, Asc.FORMAT_IN_PROGRESS, disk.backend.size, work)
    if not immed:
        await disk.operation.wait(disk, task)


def _format_parameters(disk: Disk, task: Task, fields: Fields) -> tuple[bool, bytes]:
    """IMMED, and the block to be written (empty: zeroes) of a parameter list."""
    layout = _LONG if fields["longlist"] else _SHORT
    # The CDB does not say how long the list is: its own header does.
    given = sum(map(len, task.data_out))
    data = disk.parameters(task, layout.size)
    values = layout.unpack(data)
    if values["protection_field_usage"]:
        raise invalid_parameter(0, 2)
    if not values["fov"] and (values["dpry"] or values["dcrt"] or values["stpf"] or values["ip"]):
        raise invalid_parameter(_OPTIONS_AT, _FOV_BIT)
    if values["defect_list_length"]:
        raise invalid_parameter(layout.places["defect_list_length"].offset)
    if not values["ip"]:
        return bool(values["immed"]), b""
    size = layout.size + _PATTERN.size
    if given < size:
        raise illegal(Asc.PARAMETER_LIST_LENGTH_ERROR)
    data = disk.parameters(task, size)
    pattern = _PATTERN.unpack(data, layout.size)
    length = pattern["pattern_length"]
    if pattern["pattern_type"] == DEFAULT_PATTERN and not length:
        return bool(values["immed"]), b""
    if pattern["pattern_type"] != REPEATED_PATTERN:
        raise invalid_parameter(layout.size + _PATTERN.places["pattern_type"].offset)
    if not 0 < length <= disk.block_size:
        raise invalid_parameter(layout.size + _PATTERN.places["pattern_length"].offset)
    data = disk.parameters(task, size + length)
    return bool(values["immed"]), repeated(data[size:], disk.block_size)


def repeated(pattern: bytes, size: int) -> bytes:
    """A block of `size` bytes of `pattern` over and over, cut off at its end."""
    return (pattern * (size // len(pattern) + 1))[:size]


# --- SANITIZE


async def _sanitize(
    disk: Disk, task: Task, fields: Fields, work: Callable[[], Coro[None]], length: int
) -> None:
    """Begin it and, unless IMMED is set, wait for its end.

    What is left of one that may not be left by EXIT FAILURE MODE is not made such that it may (AUSE).
    """
    operation, unrestricted = disk.operation, bool(fields["ause"])
    if unrestricted and operation.failure == "sanitize" and not operation.unrestricted:
        raise invalid_field(SANITIZE, "ause")
    await operation.start(disk, task, Asc.SANITIZE_IN_PROGRESS, length, work, unrestricted=unrestricted)
    if not fields["immed"]:
        await disk.operation.wait(disk, task)


def _no_parameters(fields: Fields) -> None:
    if fields["parameter_list_length"]:
        raise invalid_field(SANITIZE, "parameter_list_length")


async def overwrite(disk: Disk, task: Task, fields: Fields) -> None:
    """As often as is asked for; with INVERT, each pass the complement of the one before."""
    check_writable(disk)
    length = fields["parameter_list_length"]
    if not _OVERWRITE.size < length <= _OVERWRITE.size + disk.block_size:
        raise invalid_field(SANITIZE, "parameter_list_length")
    data = disk.parameters(task, length)
    values = _OVERWRITE.unpack(data)
    count, size = values["overwrite_count"], values["pattern_length"]
    if not count or values["test"] or size != length - _OVERWRITE.size:
        raise illegal(Asc.INVALID_FIELD_IN_CDB)
    block = repeated(data[_OVERWRITE.size :], disk.block_size)
    inverse = bytes(byte ^ 0xFF for byte in block)

    async def work() -> None:
        for index in range(count):
            # The last pass leaves the pattern as it was given.
            inverted = values["invert"] and (count - 1 - index) % 2
            await _overwrite(disk, inverse if inverted else block)
        await disk.perform(None, Op.FLUSH)

    await _sanitize(disk, task, fields, work, count * disk.backend.size)


async def _erase(disk: Disk, task: Task, fields: Fields) -> None:
    """BLOCK ERASE and CRYPTOGRAPHIC ERASE: overwrite in place, and give the space back."""
    _no_parameters(fields)
    check_writable(disk)

    async def work() -> None:
        await _pass(disk, Op.SECURE_ERASE)
        await _pass(disk, Op.WRITE_ZEROES, Flags.MAY_UNMAP)
        await disk.perform(None, Op.FLUSH)

    await _sanitize(disk, task, fields, work, 2 * disk.backend.size)


async def exit_failure_mode(disk: Disk, _task: Task, fields: Fields) -> None:
    """Leave a failure behind, if AUSE allowed that."""
    _no_parameters(fields)
    if disk.operation.failure == "sanitize":
        if not disk.operation.unrestricted:
            raise invalid_field(SANITIZE, "service_action")
        await disk.operation.keep(disk, "")
        disk.operation.failure = ""
        disk.guard()


_sanitize_command = partial(
    Command,
    0x48,
    layout=SANITIZE,
    clause="SBC-4",
    data=Data.OUT,
    length="parameter_list_length",
    refused=("znr",),
    exact=True,
    timeout=0,
)

COMMANDS: tuple[Command[Disk], ...] = (
    Command(
        0x04,
        "FORMAT UNIT",
        FORMAT_UNIT,
        format_unit,
        "SBC-4",
        data=Data.OUT,
        refused=("fmtpinfo",),
        ignored=("vendor", "ffmt", "defect_list_format"),
        timeout=0,
    ),
    _sanitize_command(name="SANITIZE, OVERWRITE", handler=overwrite, action=0x01),
    _sanitize_command(name="SANITIZE, BLOCK ERASE", handler=_erase, action=0x02),
    _sanitize_command(name="SANITIZE, CRYPTOGRAPHIC ERASE", handler=_erase, action=0x03),
    _sanitize_command(
        name="SANITIZE, EXIT FAILURE MODE", handler=exit_failure_mode, action=0x1F, ready=False
    ),
)
