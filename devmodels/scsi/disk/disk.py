"""A disk: a logical unit over a BlockBackend (SBC-4)."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from devmodels.blockbackend import BlockBackend, Flags, Op
from devmodels.conformance import ViolationLog
from devmodels.iocontext import Future
from devmodels.scsi import basic, inventory, modecommands
from devmodels.scsi.asc import Asc
from devmodels.scsi.constants import DeviceType, SenseKey
from devmodels.scsi.disk import capacity, synchronize, transfer, vpd
from devmodels.scsi.disk.options import DiskOptions
from devmodels.scsi.disk.pages import disk_pages
from devmodels.scsi.disk.request import TaskRequest, wake
from devmodels.scsi.fields import Layout
from devmodels.scsi.layout import modes as mode_layout
from devmodels.scsi.modes import ModePages, PageControl
from devmodels.scsi.sense import CheckCondition, Sense, illegal
from devmodels.scsi.table import Command
from devmodels.scsi.task import Task
from devmodels.scsi.unit import LogicalUnit, sense_of_errno

_SHORT = Layout(mode_layout.SHORT_DESCRIPTOR)
_LONG = Layout(mode_layout.LONG_DESCRIPTOR)

VERSIONS = (0x00A0, 0x0460, 0x0600)
"""SAM-5, SPC-4 and SBC-4 (no version claimed)."""
LOCALLY_ASSIGNED = 0x3 << 60
"""The NAA format of names that somebody has made up."""
WRITE_PROTECT = 0x80
DPOFUA = 0x10


class Disk(LogicalUnit):
    """A direct access block device over `backend`."""

    commands: Sequence[Command[Any]] = (
        *basic.COMMANDS,
        inventory.COMMAND,
        *modecommands.COMMANDS,
        *capacity.COMMANDS,
        *transfer.COMMANDS,
        *synchronize.COMMANDS,
    )

    def __init__(
        self,
        backend: BlockBackend,
        options: DiskOptions | None = None,
        *,
        name: str = "",
        violations: ViolationLog | None = None,
    ) -> None:
        self.options = options = DiskOptions() if options is None else options
        self.backend = backend
        self.block_size = options.logical_block_size
        self.max_blocks = options.max_io_size // self.block_size
        super().__init__(
            backend.context,
            name=name or backend.name,
            violations=violations,
            queue_depth=options.queue_depth,
        )
        if options.write_cache != "auto":
            backend.write_cache = options.write_cache == "on"
        self.modes = ModePages(disk_pages(backend.write_cache))
        backend.add_resize_listener(self._resized)

    # --- what it is

    @property
    def blocks(self) -> int:
        """The capacity in logical blocks."""
        return self.backend.size // self.block_size

    @property
    def write_protected(self) -> bool:
        """Whether nothing can be written."""
        return self.backend.read_only

    @property
    def descriptor_sense(self) -> bool:
        """D_SENSE of the control mode page."""
        return bool(self.modes[0x0A, 0].fields["d_sense"])

    def inquiry_data(self) -> bytes:
        """Standard INQUIRY data."""
        options = self.options
        return basic.standard_inquiry(
            DeviceType.DISK,
            removable=options.removable,
            vendor=options.vendor,
            product=options.product,
            revision=options.ver,
            versions=VERSIONS,
        )

    def vital_product_data(self, page: int, task: Task) -> bytes | None:
        """A page of vital product data."""
        return vpd.page(self, page, task)

    def _resized(self, _size: int) -> None:
        self.establish(Asc.CAPACITY_DATA_CHANGED)

    @property
    def serial(self) -> str:
        """The unit serial number: as given, or made of what the unit is called."""
        return self.options.serial or f"{zlib.crc32(self.name.encode()):08x}"

    @property
    def naa(self) -> int:
        """The unit's NAA name: as given, or a locally assigned one made of its serial number (SPC-4 §7.8.6.6)."""
        return self.options.wwn or LOCALLY_ASSIGNED | zlib.crc32(self.serial.encode())

    # --- what a command may do

    def check_range(self, lba: int, blocks: int) -> None:
        """CheckCondition where `blocks` from `lba` on are not all there, or are more than one command may move."""
        if lba + blocks > self.blocks:
            self.range_error(lba, blocks)
        if blocks > self.max_blocks:
            # SBC-4 §5.16: a transfer longer than MAXIMUM TRANSFER LENGTH.
            raise illegal(Asc.INVALID_FIELD_IN_CDB)

    def range_error(self, lba: int, blocks: int) -> NoReturn:
        """The first address that is not there is the information."""
        sense = Sense(SenseKey.ILLEGAL_REQUEST, Asc.LBA_OUT_OF_RANGE, information=max(lba, self.blocks))
        self.violations.report(
            "SBC-4 §4.5", f"{blocks} blocks at {lba} of {self.blocks}", f"{self.name} LUN {self.lun}"
        )
        raise CheckCondition(sense)

    def check_writable(self) -> None:
        """CheckCondition where nothing can be written."""
        if self.write_protected:
            raise CheckCondition(Sense(SenseKey.DATA_PROTECT, Asc.WRITE_PROTECTED))

    # --- mode parameters

    def medium_type(self) -> int:
        """0, for a disk (SBC-4 §6.5.1)."""
        return 0

    def device_specific(self) -> int:
        """WP and DPOFUA (SBC-4 §6.5.1)."""
        return WRITE_PROTECT * self.write_protected | DPOFUA * self.options.dpofua

    def block_descriptor(self, *, long: bool, control: int) -> bytes:
        """One descriptor for the whole disk; nothing in it can be changed."""
        if control == PageControl.CHANGEABLE:
            return bytes(_LONG.size if long else _SHORT.size)
        if long:
            return _LONG.pack(number_of_blocks=self.blocks, block_length=self.block_size)
        return _SHORT.pack(number_of_blocks=min(self.blocks, 0xFFFF_FFFF), block_length=self.block_size)

    # --- block requests

    async def perform(
        self,
        task: Task,
        op: Op,
        offset: int = 0,
        length: int = 0,
        vectors: Sequence[memoryview] = (),
        flags: Flags = Flags.NONE,
    ) -> TaskRequest:
        """Do one block request for `task`, `offset` and `length` in bytes; CheckCondition where it fails."""
        request = TaskRequest(op, offset, length, vectors, flags, wake)
        request.task = task
        request.over = False
        request.future = None
        self.backend.submit(request)
        if not request.over:
            request.future = Future(self.context)
            await request.future
        if request.error:
            raise CheckCondition(sense_of_errno(request.error, write=op is not Op.READ))
        return request

    def cancel_requests(self, wanted: Callable[[Task], bool]) -> None:
        """Requests that have not started are dropped."""
        self.backend.cancel_held(lambda request: isinstance(request, TaskRequest) and wanted(request.task))

    def close(self) -> None:
        """Leave the backend, which stays open."""
        self.backend.remove_resize_listener(self._resized)
