"""READ (10), READ (12), SEEK (10), READ CD and READ CD MSF (MMC-6).

Blocks that the image holds as they are wanted go straight into the carrier's memory; others are made of what the image
holds, some at a time.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, NoReturn

from devmodels.blockbackend import Op
from devmodels.blockbackend.vectors import scatter, window
from devmodels.disc import Extent, Mode
from devmodels.disc.disc import BLOCK
from devmodels.disc.sector import RAW, Kind, kind_of, sectors, user_data
from devmodels.disc.subchannel import formatted_q, raw_sub_channel
from devmodels.iocontext import Coro
from devmodels.scsi.asc import Asc
from devmodels.scsi.constants import SenseKey
from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import mmc_cdb
from devmodels.scsi.mmc.audio import msf_range
from devmodels.scsi.mmc.medium import Medium
from devmodels.scsi.sense import CheckCondition, Sense, invalid_field
from devmodels.scsi.table import Access, Command, Data, Pending
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.scsi.mmc.drive import CdDrive

READ_10 = Layout(mmc_cdb.READ_10)
READ_12 = Layout(mmc_cdb.READ_12)
SEEK_10 = Layout(mmc_cdb.SEEK_10)
READ_CD = Layout(mmc_cdb.READ_CD)
READ_CD_MSF = Layout(mmc_cdb.READ_CD_MSF)

MAX_BLOCKS = 0xFFFF
"""The most blocks that one command moves: all that READ (10) can ask for."""
PIECE = 16
"""So many blocks are made in one turn: about 5 ms' work."""
ANY_TYPE = 0
C2_BYTES = {0: 0, 1: 294, 2: 296}
"""C2 ERROR INFORMATION to bytes of it: a bit for each byte of a sector, none of which is ever wrong."""
NO_SUB_CHANNEL, RAW_SUB_CHANNEL, FORMATTED_Q, R_TO_W = 0, 1, 2, 4
SUB_CHANNEL_BYTES = {NO_SUB_CHANNEL: 0, RAW_SUB_CHANNEL: 96, FORMATTED_Q: 16, R_TO_W: 96}
LARGEST = RAW + max(C2_BYTES.values()) + max(SUB_CHANNEL_BYTES.values())
"""Bytes that READ CD returns of a sector at most."""
EVERYTHING = 0b11111
"""All main channel fields."""

Work = Pending | None | Coro[None]


def _wrong_mode(lba: int) -> CheckCondition:
    """Block `lba` is the first that is not what was asked for."""
    return CheckCondition(Sense(SenseKey.ILLEGAL_REQUEST, Asc.ILLEGAL_MODE_FOR_THIS_TRACK, information=lba))


def _report(drive: CdDrive, lba: int, blocks: int) -> None:
    place = f"{drive.name} LUN {drive.lun}"
    summary = f"{blocks} blocks at {lba} of {drive.medium.blocks}"
    drive.violations.report("MMC-6 §4.1.9", summary, place, lba.to_bytes(4, "big"))


def _out_of_range(drive: CdDrive, lba: int, blocks: int) -> NoReturn:
    _report(drive, lba, blocks)
    information = max(lba, drive.medium.blocks)
    raise CheckCondition(Sense(SenseKey.ILLEGAL_REQUEST, Asc.LBA_OUT_OF_RANGE, information=information))


def _check(drive: CdDrive, lba: int, blocks: int, layout: Layout, name: str) -> None:
    """CheckCondition where the blocks are not all there, or too many; the pick-up goes to them."""
    there = drive.medium.blocks
    if lba + blocks > there:
        _out_of_range(drive, lba, blocks)
    if blocks > MAX_BLOCKS:
        raise invalid_field(layout, name)
    drive.player.stop()
    drive.head = min(lba + blocks, there - 1)


class _Room:
    """The carrier's memory for a command's data, filled from its beginning on; more than it holds is only counted, as
    wanted."""

    __slots__ = ("_room", "_task")

    def __init__(self, task: Task) -> None:
        self._task = task
        self._room = sum(map(len, task.data_in))

    @property
    def full(self) -> bool:
        """Whether nothing more goes in."""
        return self._task.sent >= self._room

    def put(self, data: bytes) -> None:
        """Append `data`."""
        task = self._task
        part = data[: self._room - task.sent]
        if part:
            scatter(window(task.data_in, task.sent, len(part)), part)
            task.sent += len(part)
        self.ask(len(data))

    def ask(self, length: int) -> None:
        """So many bytes more would have gone in."""
        self._task.wanted += length


# --- READ


def read_10(drive: CdDrive, task: Task, fields: Fields) -> Work:
    """User data."""
    return _read(drive, task, fields, READ_10)


def read_12(drive: CdDrive, task: Task, fields: Fields) -> Work:
    """As READ (10), longer."""
    return _read(drive, task, fields, READ_12)


def _read(drive: CdDrive, task: Task, fields: Fields, layout: Layout) -> Work:
    lba, blocks = fields["lba"], fields["transfer_length"]
    _check(drive, lba, blocks, layout, "transfer_length")
    disc = drive.medium.disc
    if disc.plain:
        return drive.read_blocks(task, lba * BLOCK, blocks * BLOCK)
    pieces = list(disc.pieces(lba, blocks))
    if len(pieces) == 1 and pieces[0][0].offset is not None and pieces[0][0].stored == BLOCK:
        # Audio is never stored so.
        extent = pieces[0][0]
        return drive.read_blocks(task, _offset(extent, lba), blocks * BLOCK)
    return _read_user_data(drive, task, pieces, blocks) if pieces else None


async def _read_user_data(
    drive: CdDrive, task: Task, pieces: Iterable[tuple[Extent, int, int]], blocks: int
) -> None:
    """User data out of whole sectors, up to the first that has none."""
    medium = drive.medium
    room = _Room(task)
    for number, (extent, lba, count) in enumerate(_some_at_a_time(pieces)):
        if room.full:
            break
        if number:
            await drive.turns.pause()
        if not extent.track.data:
            raise _wrong_mode(lba)
        stored = await _load(drive, task, medium, extent, lba, count)
        for block, sector in enumerate(sectors(extent, lba, count, stored), lba):
            data = user_data(kind_of(extent.track.mode, sector), sector)
            if len(data) != BLOCK:
                raise _wrong_mode(block)
            room.put(data)
    task.wanted = blocks * BLOCK


def _offset(extent: Extent, lba: int) -> int:
    """Where a block of an extent is in the image."""
    assert extent.offset is not None
    return extent.offset + (lba - extent.start) * extent.stored


def _some_at_a_time(pieces: Iterable[tuple[Extent, int, int]]) -> Iterable[tuple[Extent, int, int]]:
    for extent, first, blocks in pieces:
        for lba in range(first, first + blocks, PIECE):
            yield extent, lba, min(PIECE, first + blocks - lba)


async def _load(drive: CdDrive, task: Task, medium: Medium, extent: Extent, lba: int, blocks: int) -> bytes:
    """What the image has of these blocks; CheckCondition where it cannot be read, or nobody wants it any more."""
    drive.check_ready()
    if task.aborted or drive.tray.medium is not medium:
        raise CheckCondition(Sense(SenseKey.ABORTED_COMMAND))
    if extent.offset is None:
        return b""
    buffer = bytearray(blocks * extent.stored)
    offset = _offset(extent, lba)
    await drive.perform(task, Op.READ, offset, len(buffer), (memoryview(buffer),))
    return bytes(buffer)


def seek(drive: CdDrive, _task: Task, fields: Fields) -> None:
    """The pick-up goes there."""
    lba = fields["lba"]
    if lba >= drive.medium.blocks:
        _out_of_range(drive, lba, 1)
    drive.player.stop()
    drive.head = lba


# --- READ CD


NUMBERS = {
    Mode.AUDIO: (Kind.CDDA.number,),
    Mode.MODE1: (Kind.MODE1.number,),
    Mode.MODE2: (Kind.FORMLESS.number, Kind.FORM1.number, Kind.FORM2.number),
}
"""Which sector types a track's blocks can be of."""


class Selection:
    """What of each sector is asked for: `expected` is a sector type, or any; `main` has a bit for each field of the
    main channel, from sync (the highest) to EDC and ECC."""

    __slots__ = ("c2", "expected", "main", "sub_channel")

    def __init__(self, fields: Fields, layout: Layout) -> None:
        self.expected = fields["sector_type"]
        self.c2 = fields["c2_errors"]
        self.sub_channel = fields["sub_channel_selection"]
        self.main = (
            fields["sync"] << 4
            | fields["header"] << 3
            | fields["subheader"] << 2
            | fields["user_data"] << 1
            | fields["edc_ecc"]
        )
        if self.expected > Kind.FORM2.number:
            raise invalid_field(layout, "sector_type")
        if self.c2 not in C2_BYTES:
            raise invalid_field(layout, "c2_errors")
        if self.sub_channel not in SUB_CHANNEL_BYTES:
            raise invalid_field(layout, "sub_channel_selection")

    @property
    def beside(self) -> int:
        """Bytes of a sector that are not of the main channel."""
        return C2_BYTES[self.c2] + SUB_CHANNEL_BYTES[self.sub_channel]

    def excludes(self, mode: Mode) -> bool:
        """Whether no sector of such a track is what is expected."""
        return self.expected not in (ANY_TYPE, *NUMBERS[mode])

    def span(self, kind: Kind, layout: Layout, lba: int) -> tuple[int, int]:
        """Which bytes of the whole sector of block `lba`; CheckCondition where it is no such sector, or they are not
        together."""
        if self.expected not in (ANY_TYPE, kind.number):
            raise _wrong_mode(lba)
        found = span(kind, self.main)
        if found is None:
            raise invalid_field(layout, "sync")
        return found


@cache
def span(kind: Kind, main: int) -> tuple[int, int] | None:
    """The bytes of a sector that the fields `main` are; None where there is a gap between them (MMC-6 Table 355).

    What a sector does not have is not missed; audio is one field, whichever is asked for.
    """
    if not main:
        return 0, 0
    if kind is Kind.CDDA:
        return 0, RAW
    spans = kind.spans
    edges = (0, spans.header, spans.subheader, spans.user, spans.edc, spans.end)
    found: tuple[int, int] | None = None
    for number in range(5):
        start, end = edges[number], edges[number + 1]
        if start == end or not main >> 4 - number & 1:
            continue
        if found is not None and found[1] != start:
            return None
        found = (start if found is None else found[0], end)
    return found or (0, 0)


def read_cd(drive: CdDrive, task: Task, fields: Fields) -> Work:
    """Sectors, or parts of them."""
    blocks = fields["blocks_23_16"] << 16 | fields["blocks_15_0"]
    return _read_cd(drive, task, fields, fields["lba"], blocks, READ_CD)


def read_cd_msf(drive: CdDrive, task: Task, fields: Fields) -> Work:
    """From one address to before another."""
    start, end = msf_range(drive, fields, READ_CD_MSF)
    return _read_cd(drive, task, fields, start, end - start, READ_CD_MSF)


def _read_cd(drive: CdDrive, task: Task, fields: Fields, lba: int, blocks: int, layout: Layout) -> Work:
    selection = Selection(fields, layout)
    medium = drive.medium
    if not medium.is_cd:
        raise CheckCondition(Sense(SenseKey.ILLEGAL_REQUEST, Asc.INCOMPATIBLE_FORMAT))
    length_field = "blocks_23_16" if layout is READ_CD else "end_minute"
    _check(drive, lba, blocks, layout, length_field)
    pieces = list(medium.disc.pieces(lba, blocks))
    if pieces and selection.excludes(pieces[0][0].track.mode):
        raise _wrong_mode(lba)
    sizes = {
        _size(extent, selection, layout)
        for extent, _, _ in pieces
        if not selection.excludes(extent.track.mode)
    }
    if len(pieces) == 1 and _is_as_stored(pieces[0][0], selection):
        return drive.read_blocks(task, _offset(pieces[0][0], lba), blocks * pieces[0][0].stored)
    excluded = any(selection.excludes(extent.track.mode) for extent, _, _ in pieces)
    if not pieces or (sizes == {0} and not excluded):
        return None
    return _read_sectors(drive, task, pieces, selection, layout)


def _size(extent: Extent, selection: Selection, layout: Layout) -> int | None:
    """How many bytes of a sector of such an extent; None where its kind has to be seen.  CheckCondition."""
    mode = extent.track.mode
    if mode is Mode.MODE2:
        return selection.beside if not selection.main and selection.expected == ANY_TYPE else None
    start, end = selection.span(Kind.CDDA if mode is Mode.AUDIO else Kind.MODE1, layout, extent.start)
    return end - start + selection.beside


def _is_as_stored(extent: Extent, selection: Selection) -> bool:
    """Whether what is asked for is what the image has."""
    if extent.offset is None or extent.swapped or selection.beside:
        return False
    mode = extent.track.mode
    if mode is Mode.MODE2:
        return selection.main == EVERYTHING and selection.expected == ANY_TYPE and extent.stored == RAW
    found = span(Kind.CDDA if mode is Mode.AUDIO else Kind.MODE1, selection.main)
    return found == ((0, RAW) if extent.stored == RAW else (16, 16 + BLOCK))


async def _read_sectors(
    drive: CdDrive,
    task: Task,
    pieces: Iterable[tuple[Extent, int, int]],
    selection: Selection,
    layout: Layout,
) -> None:
    """Parts of whole sectors, with what goes beside them."""
    medium = drive.medium
    room = _Room(task)
    c2 = bytes(C2_BYTES[selection.c2])
    for number, (extent, first, count) in enumerate(_some_at_a_time(pieces)):
        if selection.excludes(extent.track.mode):
            raise _wrong_mode(first)
        size = _size(extent, selection, layout)
        if room.full and size is not None:
            room.ask(size * count)
            continue
        if number:
            await drive.turns.pause()
        stored = await _load(drive, task, medium, extent, first, count)
        for lba, sector in enumerate(sectors(extent, first, count, stored), first):
            start, end = selection.span(kind_of(extent.track.mode, sector), layout, lba)
            room.put(sector[start:end] + c2)
            if selection.sub_channel == FORMATTED_Q:
                room.put(formatted_q(medium.disc, lba))
            elif selection.sub_channel == RAW_SUB_CHANNEL:
                room.put(raw_sub_channel(medium.disc, lba))
            elif selection.sub_channel == R_TO_W:
                # Nothing is in it, corrected and de-interleaved or not.
                room.put(bytes(SUB_CHANNEL_BYTES[R_TO_W]))


COMMANDS: tuple[Command[CdDrive], ...] = (
    Command(
        0x28,
        "READ (10)",
        READ_10,
        read_10,
        "MMC-6",
        data=Data.IN,
        ignored=("dpo", "fua"),
        access=Access.READ,
    ),
    Command(
        0xA8,
        "READ (12)",
        READ_12,
        read_12,
        "MMC-6",
        data=Data.IN,
        ignored=("dpo", "fua", "streaming"),
        access=Access.READ,
    ),
    Command(0x2B, "SEEK (10)", SEEK_10, seek, "MMC-6", access=Access.READ),
    Command(0xBE, "READ CD", READ_CD, read_cd, "MMC-6", data=Data.IN, ignored=("dap",), access=Access.READ),
    Command(
        0xB9,
        "READ CD MSF",
        READ_CD_MSF,
        read_cd_msf,
        "MMC-6",
        data=Data.IN,
        ignored=("dap",),
        access=Access.READ,
    ),
)
