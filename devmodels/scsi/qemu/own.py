"""The commands that disks and CD drives of QEMU's have in common, and whose differences are in what they say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar

from devmodels.blockbackend import Flags, Op
from devmodels.scsi.asc import Asc
from devmodels.scsi.constants import DeviceType, SenseKey
from devmodels.scsi.qemu import cdb as layout
from devmodels.scsi.qemu import pages
from devmodels.scsi.qemu.front import (
    INVALID_FIELD,
    OUT_OF_RANGE,
    PROTECTED,
    Front,
    sense_data,
)
from devmodels.scsi.sense import CheckCondition, Sense
from devmodels.scsi.table import Reply
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.iocontext import Coro
    from devmodels.scsi.disk import DiskOptions
    from devmodels.scsi.mmc import CdOptions

Page = Callable[..., bytes]

NO_BLOCKS = Sense(SenseKey.NOT_READY, Asc.MANUAL_INTERVENTION_REQUIRED)
LOCKED = Sense(SenseKey.ILLEGAL_REQUEST, Asc.MEDIUM_REMOVAL_PREVENTED)
TOO_SHORT = Sense(SenseKey.ILLEGAL_REQUEST, Asc.PARAMETER_LIST_LENGTH_ERROR)
READ_CAPACITY_16 = 0x10
CLIPPED = 0xFFFF_FFFF
STEP = 256 << 20
"""How much is zeroed by one block request, in bytes."""
FILLED = 512 << 10
"""How much is written by one of WRITE SAME's."""


class OwnFront(Front):
    """A front whose unit has `options`."""

    options: DiskOptions | CdOptions
    kind: ClassVar[DeviceType]
    removable: bool
    rotation = 0
    PAGES: ClassVar[Mapping[int, Page]] = {}

    @property
    def locked(self) -> bool:
        """Whether the medium cannot be taken out."""
        raise NotImplementedError

    def limits(self) -> bytes:
        """The block limits page."""
        raise NotImplementedError

    def geometry(self) -> tuple[int, int, int]:
        """Cylinders, heads and sectors."""
        raise NotImplementedError

    @property
    def granularity(self) -> int:
        """Of UNMAP, in bytes; 0: it has no place to give back."""
        raise NotImplementedError

    @property
    def device_specific(self) -> int:
        """Of the header of mode parameters."""
        return 0

    # --- what it says

    def inquiry(self, task: Task, cdb: bytes) -> bytes:
        """INQUIRY."""
        return pages.inquiry(self, cdb, task.wanted)

    def mode_sense(self, _task: Task, cdb: bytes) -> bytes:
        """MODE SENSE (6) and (10)."""
        return pages.mode_sense(self, cdb)

    def request_sense(self, _task: Task, cdb: bytes) -> bytes:
        """Nothing is to be told."""
        return sense_data(b"", fixed=not cdb[1] & 1)

    def nothing(self, _task: Task, _cdb: bytes) -> None:
        """That goes well."""

    def refused(self, _task: Task, _cdb: bytes) -> None:
        """It is known, and has no field that is right."""
        raise CheckCondition(INVALID_FIELD)

    def reserve(self, _task: Task, cdb: bytes) -> None:
        """RESERVE and RELEASE of the whole unit, by one nexus, which there is: nothing to do."""
        if cdb[1] & (3 if cdb[0] & 0x40 else 1):
            raise CheckCondition(INVALID_FIELD)

    def _last(self, cdb: bytes, *, partial: bool) -> int:
        """The last address, by which READs and WRITEs are measured from now on."""
        if not self.backend.size:
            raise CheckCondition(NO_BLOCKS)
        if not partial and layout.address(cdb):
            raise CheckCondition(INVALID_FIELD)
        self.max_lba = self.blocks - 1
        return self.max_lba

    def read_capacity(self, _task: Task, cdb: bytes) -> bytes:
        """READ CAPACITY (10)."""
        last = min(self._last(cdb, partial=bool(cdb[8] & 1)), CLIPPED)
        return last.to_bytes(4, "big") + bytes((0, 0, self.block_size >> 8, 0))

    def service_action_in(self, _task: Task, cdb: bytes) -> bytes:
        """READ CAPACITY (16)."""
        if cdb[1] & 0x1F != READ_CAPACITY_16:
            raise CheckCondition(INVALID_FIELD)
        last = self._last(cdb, partial=bool(cdb[14] & 1))
        size = bytes((0, 0, self.block_size >> 8, 0))
        return last.to_bytes(8, "big") + size + bytes((0, self.exponent, 0x80 * bool(self.granularity)))

    @property
    def exponent(self) -> int:
        """Logical blocks in a physical one, as a power of two."""
        return 0

    def seek(self, _task: Task, cdb: bytes) -> None:
        """SEEK (10)."""
        if layout.address(cdb) > self.max_lba:
            raise CheckCondition(OUT_OF_RANGE)

    def verify(self, _task: Task, cdb: bytes) -> None:
        """VERIFY: nothing is looked at, and nothing can be compared."""
        if cdb[1] & 6:
            raise CheckCondition(INVALID_FIELD)

    def read_toc(self, _task: Task, cdb: bytes) -> bytes:
        """READ TOC/PMA/ATIP, also of what has no tracks."""
        from devmodels.scsi.qemu import toc  # disks are seldom asked for it

        data = toc.read(self.blocks, cdb)
        if data is None:
            raise CheckCondition(INVALID_FIELD)
        return data

    # --- what it does

    async def synchronize_cache(self, task: Task, _cdb: bytes) -> None:
        """All of it, wherever."""
        await self.do(task, Op.FLUSH)

    def format_unit(self, _task: Task, _cdb: bytes, _data: bytes) -> None:
        """FORMAT UNIT changes nothing."""

    async def _select(self, task: Task, cdb: bytes, data: bytes) -> None:
        if cdb[1] & 0x11 != 0x10:
            raise CheckCondition(INVALID_FIELD)
        head = 4 if cdb[0] == 0x15 else 8
        if len(data) < head:
            raise CheckCondition(TOO_SHORT)
        described = data[3] if head == 4 else int.from_bytes(data[6:8], "big")
        body = data[head:]
        try:
            if described > len(body):
                raise pages.Refused(short=True)
            if described not in (0, 8):
                raise pages.Refused(short=False)
            self._resize_blocks(body[:described])
            cache = pages.selected(self, body[described:])
        except pages.Refused as refused:
            raise CheckCondition(refused.sense) from None
        if cache is not None:
            self.backend.write_cache = bool(cache & pages.WCE)
        if not self.backend.write_cache:
            await self.do(task, Op.FLUSH)

    def mode_select(self, task: Task, cdb: bytes, data: bytes) -> Coro[None]:
        """MODE SELECT (6) and (10)."""
        return self._select(task, cdb, data)

    def _resize_blocks(self, descriptor: bytes) -> None:
        size = int.from_bytes(descriptor[5:8], "big")
        if size and not size & ~layout.LARGEST_BLOCK:
            self.block_size = size

    async def unmap(self, task: Task, cdb: bytes, data: bytes) -> None:
        """UNMAP: range after range, until one is not there."""
        if cdb[1] & 1:
            raise CheckCondition(INVALID_FIELD)
        described = int.from_bytes(data[2:4], "big")
        too_short = len(data) < 8 or len(data) < int.from_bytes(data[:2], "big") + 2
        if too_short or len(data) < described + 8 or described & 15:
            raise CheckCondition(TOO_SHORT)
        if self.read_only:
            raise CheckCondition(PROTECTED)
        for at in range(8, 8 + described, 16):
            lba, blocks = (
                int.from_bytes(data[at : at + 8], "big"),
                int.from_bytes(data[at + 8 : at + 12], "big"),
            )
            if lba + blocks > self.max_lba + 1:
                raise CheckCondition(OUT_OF_RANGE)
            if blocks and self.frees:
                await self._zero(task, lba * self.block_size, blocks * self.block_size, Flags.MAY_UNMAP)
            else:
                await self._unit.turns.pause()

    @property
    def frees(self) -> bool:
        """Whether blocks lose their places."""
        return False

    async def write_same(self, task: Task, cdb: bytes, data: bytes) -> None:
        """WRITE SAME (10) and (16); without a block nothing is done, and this not called."""
        lba, blocks = layout.address(cdb), layout.blocks(cdb)
        if not blocks or cdb[1] & 0x16:
            raise CheckCondition(INVALID_FIELD)
        if self.read_only:
            raise CheckCondition(PROTECTED)
        if lba + blocks > self.max_lba + 1:
            raise CheckCondition(OUT_OF_RANGE)
        offset, length = lba * self.block_size, blocks * self.block_size
        if not any(data):
            await self._zero(task, offset, length, Flags.MAY_UNMAP if cdb[1] & 8 else Flags.NONE)
            return
        size = max(FILLED - FILLED % len(data), len(data))
        filled = memoryview(data * (min(size, length) // len(data)))
        for at in range(0, length, size):
            part = min(size, length - at)
            await self.do(task, Op.WRITE, offset + at, part, [filled[:part]])
            await self._unit.turns.pause()

    async def _zero(self, task: Task, offset: int, length: int, flags: Flags) -> None:
        for at in range(0, length, STEP):
            await self.do(task, Op.WRITE_ZEROES, offset + at, min(STEP, length - at), (), flags)


Handler = Callable[..., Reply]

HANDLERS: dict[int, Handler] = {
    0x00: OwnFront.nothing,
    0x03: OwnFront.request_sense,
    0x04: OwnFront.format_unit,
    0x12: OwnFront.inquiry,
    0x15: OwnFront.mode_select,
    0x55: OwnFront.mode_select,
    0x1A: OwnFront.mode_sense,
    0x5A: OwnFront.mode_sense,
    **dict.fromkeys((0x16, 0x17, 0x56, 0x57), OwnFront.reserve),
    0x25: OwnFront.read_capacity,
    0x9E: OwnFront.service_action_in,
    0x2B: OwnFront.seek,
    **dict.fromkeys(layout.VERIFIES, OwnFront.verify),
    0x35: OwnFront.synchronize_cache,
    0x41: OwnFront.write_same,
    0x93: OwnFront.write_same,
    0x42: OwnFront.unmap,
    0x43: OwnFront.read_toc,
    # Those of a drive, which a disk knows and refuses.
    **dict.fromkeys((0x46, 0x4A, 0x51, 0xAD, 0xBD), OwnFront.refused),
}
