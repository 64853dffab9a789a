"""COMPARE AND WRITE, ORWRITE (16) and WRITE ATOMIC (16): nobody sees, or makes, half of it (SBC-4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.blockbackend import Flags, Op
from devmodels.scsi.asc import Asc
from devmodels.scsi.constants import SenseKey
from devmodels.scsi.disk.blocks import check_transfer, check_writable, given, take_exactly
from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import block_cdb as cdb
from devmodels.scsi.sense import CheckCondition, Sense, invalid_field
from devmodels.scsi.table import Command, Data
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.scsi.disk.disk import Disk

COMPARE_AND_WRITE = Layout(cdb.COMPARE_AND_WRITE)
ORWRITE = Layout(cdb.ORWRITE_16)
WRITE_ATOMIC = Layout(cdb.WRITE_ATOMIC_16)

MAX_COMPARE_BLOCKS = 255
"""MAXIMUM COMPARE AND WRITE LENGTH, as much as fits in the CDB; at most 1 MiB with blocks of 4096 bytes."""
MAX_ATOMIC = 1 << 20
"""MAXIMUM ATOMIC TRANSFER LENGTH, in bytes."""


def _flags(fields: Fields) -> Flags:
    return Flags.FUA if fields["fua"] else Flags.NONE


def first_difference(a: bytes | bytearray, b: bytes | bytearray) -> int:
    """Where two sequences of one length, which differ, begin to do so."""
    return next(index for index, (x, y) in enumerate(zip(a, b, strict=True)) if x != y)


async def compare_and_write(disk: Disk, task: Task, fields: Fields) -> None:
    """Write the second half of the data where the medium holds the first.

    Where it does not, the information is the offset of the first byte that differs.
    """
    lba, blocks = fields["lba"], fields["number_of_blocks"]
    check_writable(disk)
    check_transfer(disk, lba, blocks, COMPARE_AND_WRITE, "number_of_blocks")
    length = blocks * disk.block_size
    wrong = invalid_field(COMPARE_AND_WRITE, "number_of_blocks")
    data = take_exactly(task, 2 * length, wrong)
    if not blocks:
        return
    expected, new = data[:length], data[length:]
    differs = -1

    def change(_at: int, old: bytearray) -> bytes | None:
        nonlocal differs
        if old == expected:
            return new
        differs = first_difference(old, expected)
        return None

    await disk.update(task, lba * disk.block_size, length, change, _flags(fields))
    if differs >= 0:
        code = Asc.MISCOMPARE_DURING_VERIFY
        raise CheckCondition(Sense(SenseKey.MISCOMPARE, code, information=differs))


async def orwrite(disk: Disk, task: Task, fields: Fields) -> None:
    """Set bits: what is there OR what was given."""
    lba, blocks = fields["lba"], fields["transfer_length"]
    check_writable(disk)
    check_transfer(disk, lba, blocks, ORWRITE)
    task.wanted = blocks * disk.block_size
    vectors, length = given(disk, task, task.wanted)
    task.received = length
    if not length:
        return
    data = vectors[0] if len(vectors) == 1 else memoryview(b"".join(vectors))

    def change(at: int, old: bytearray) -> bytes:
        size = len(old)
        given = int.from_bytes(data[at : at + size], "little")
        return (int.from_bytes(old, "little") | given).to_bytes(size, "little")

    await disk.update(task, lba * disk.block_size, length, change, _flags(fields))


async def write_atomic(disk: Disk, task: Task, fields: Fields) -> None:
    """Write as one: a reader finds all of it or nothing.

    That holds for whoever asks this disk.  Should the host lose its power, it holds as far as the host's own disk does.
    """
    lba, blocks = fields["lba"], fields["transfer_length"]
    check_writable(disk)
    check_transfer(disk, lba, blocks, WRITE_ATOMIC)
    if fields["atomic_boundary"]:
        raise invalid_field(WRITE_ATOMIC, "atomic_boundary")
    length = blocks * disk.block_size
    if length > MAX_ATOMIC:
        raise invalid_field(WRITE_ATOMIC, "transfer_length")
    if not length:
        return
    data = take_exactly(task, length, invalid_field(WRITE_ATOMIC, "transfer_length"))
    disk.backend.serialise()
    flags = _flags(fields) | Flags.SERIALISING
    await disk.perform(task, Op.WRITE, lba * disk.block_size, length, [memoryview(data)], flags)


_IGNORED = ("group_number",)

COMMANDS: tuple[Command[Disk], ...] = (
    Command(
        0x89,
        "COMPARE AND WRITE",
        COMPARE_AND_WRITE,
        compare_and_write,
        "SBC-4",
        data=Data.OUT,
        length="number_of_blocks",
        refused=("protect",),
        ignored=_IGNORED,
    ),
    Command(
        0x8B,
        "ORWRITE (16)",
        ORWRITE,
        orwrite,
        "SBC-4",
        data=Data.OUT,
        length="transfer_length",
        refused=("protect",),
        ignored=_IGNORED,
    ),
    Command(
        0x9C,
        "WRITE ATOMIC (16)",
        WRITE_ATOMIC,
        write_atomic,
        "SBC-4",
        data=Data.OUT,
        length="transfer_length",
        refused=("protect",),
        ignored=_IGNORED,
    ),
)
