"""The mode parameters of a disk: what can be set, and what follows from it (SBC-4 §6.5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial

from devmodels.blockbackend import Op, Request
from devmodels.iocontext import Future
from devmodels.scsi.asc import Asc
from devmodels.scsi.backed import BackedUnit
from devmodels.scsi.constants import SenseKey
from devmodels.scsi.disk.options import DiskOptions
from devmodels.scsi.disk.pages import disk_pages
from devmodels.scsi.disk.provisioning import Provisioning
from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import modes as layout
from devmodels.scsi.modes import ModePage, ModePages, PageControl
from devmodels.scsi.request import OwnRequest
from devmodels.scsi.reservable import ReservableUnit
from devmodels.scsi.sense import CheckCondition, Sense, invalid_parameter
from devmodels.scsi.task import Task

_SHORT = Layout(layout.SHORT_DESCRIPTOR)
_LONG = Layout(layout.LONG_DESCRIPTOR)

CACHING, CONTROL, EXCEPTIONS, PROVISIONING = (0x08, 0), (0x0A, 0), (0x1C, 0), (0x1C, 2)
WRITE_PROTECT = 0x80
DPOFUA = 0x10
ALL_BLOCKS = 0xFFFF_FFFF
MAX_LBA_24 = 0xFF_FFFF

_RESERVED = {"qerr": 0b10, "ua_intlck_ctrl": 0b01}
"""Values that mean nothing, SPC-4 §7.5.8."""
NO_REPORT, AS_ATTENTION, ON_REQUEST = 0x0, 0x2, 0x6
"""MRIE: how exceptions are told, as far as they are here (SPC-4 Table 395)."""


class ModeParameters(ReservableUnit, BackedUnit):
    """A unit with the mode pages of a disk."""

    block_size: int
    options: DiskOptions
    provisioning: Provisioning
    modes: ModePages

    @cached_property
    def control(self) -> Fields:
        """The values of the control mode page."""
        return self.modes[CONTROL].fields

    @property
    def blocks(self) -> int:
        """The capacity in logical blocks."""
        raise NotImplementedError

    def set_up_modes(self) -> None:
        """The pages as they are by default, or as they were saved."""
        pages = partial(disk_pages, self.backend.write_cache, thin=self.options.thin)
        self.modes = ModePages(pages, savable=self.state is not None)
        self._flushing: dict[Task, Future[Sense | None]] = {}
        if self.state is not None:
            with self.state.read() as saved:
                self.modes.restore(saved.modes)
            self.apply_modes()

    def reset_modes(self) -> None:
        """Back to the saved values."""
        if self.modes.made:
            self.modes.reset()
            self.apply_modes()

    def apply_modes(self) -> None:
        """Do as the pages say."""
        self.control = self.modes[CONTROL].fields
        write_cache = bool(self.modes[CACHING].fields["wce"])
        if write_cache != self.backend.write_cache:
            self.backend.write_cache = write_cache
        if PROVISIONING in self.modes.pages:
            self.provisioning.set_page(self.modes[PROVISIONING])

    async def modes_changed(self, task: Task, pages: Sequence[ModePage], *, save: bool) -> None:
        """Do as they say from now on, and keep what is to be kept."""
        was_cached = self.backend.write_cache
        self.apply_modes()
        if was_cached and not self.backend.write_cache and not self.backend.read_only:
            # What was written before is as stable as what is written from now on (SBC-4 §6.5.6).
            await self._flush_for(task)
        if any(page.key == EXCEPTIONS for page in pages) and self._method() == AS_ATTENTION:
            code = self.exception_code()
            if code:
                self.establish(Asc(code))
        if save and self.state is not None:
            await self.state.keep(modes=self.modes.save())

    async def _flush_for(self, task: Task) -> None:
        """A flush that is done even where `task` is aborted meanwhile: what that has changed remains."""
        over: Future[Sense | None] = Future(self.context)

        def flushed(request: Request) -> None:
            if self._flushing.pop(task, None) is not None:
                over.set_result(self.sense_of(request) if request.error else None)

        self._flushing[task] = over
        self.backend.submit(OwnRequest(Op.FLUSH, 0, 0, done=flushed))
        sense = await over
        if sense is not None:
            raise CheckCondition(sense)

    def cancel_requests(self, wanted: Callable[[Task], bool]) -> None:
        """As of any unit; who waits for a flush waits no more."""
        for task in [each for each in self._flushing if wanted(each)]:
            self._flushing.pop(task).set_result(Sense(SenseKey.ABORTED_COMMAND))
        super().cancel_requests(wanted)

    # --- what follows from them

    @property
    def descriptor_sense(self) -> bool:
        """D_SENSE of the control mode page."""
        return bool(self.control["d_sense"])

    @property
    def queue_error(self) -> int:
        """QERR of the control mode page."""
        return self.control["qerr"]

    @property
    def interlock(self) -> int:
        """UA_INTLCK_CTRL of the control mode page."""
        return self.control["ua_intlck_ctrl"]

    @property
    def write_protected(self) -> bool:
        """Whether nothing can be written: never, or as long as SWP is set."""
        return self.backend.read_only or bool(self.control["swp"])

    def _method(self) -> int:
        return self.modes[EXCEPTIONS].fields["mrie"]

    def exception_code(self) -> int:
        """The informational exception of the moment, its code and qualifier: the false one of TEST, or none."""
        values = self.modes[EXCEPTIONS].fields
        return int(Asc.FAILURE_PREDICTION_FALSE) if values["test"] and not values["dexcpt"] else 0

    def predicted_sense(self) -> Sense | None:
        """What REQUEST SENSE is to tell of an exception."""
        code = self.exception_code()
        return Sense(SenseKey.NO_SENSE, code) if code and self._method() == ON_REQUEST else None

    # --- for MODE SENSE and MODE SELECT

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
        return _SHORT.pack(number_of_blocks=min(self.blocks, ALL_BLOCKS), block_length=self.block_size)

    def check_block_descriptor(self, data: bytes, at: int) -> None:
        """The capacity and the block length are as they are; 0 or all ones leave the capacity alone."""
        long = len(data) == _LONG.size
        form = _LONG if long else _SHORT
        values = form.unpack(data)
        blocks, length = values["number_of_blocks"], values["block_length"]
        if not long:
            length &= MAX_LBA_24
        if blocks not in (0, self.blocks, ALL_BLOCKS, (1 << 64) - 1) and blocks != min(
            self.blocks, ALL_BLOCKS
        ):
            raise invalid_parameter(at)
        if length != self.block_size:
            raise invalid_parameter(at + form.places["block_length"].offset + (0 if long else 1))

    def check_mode(self, page: ModePage, image: bytes, at: int) -> None:
        """Reserved values, methods of reporting that there are not, and thresholds of what is not counted."""
        if page.key == CONTROL:
            values = page.layout.unpack(image)
            for name, reserved in _RESERVED.items():
                if values[name] == reserved:
                    place = page.layout.places[name]
                    raise invalid_parameter(at + place.offset, place.shift + place.width - 1)
        elif page.key == EXCEPTIONS:
            method = page.layout.unpack(image)["mrie"]
            if method not in (NO_REPORT, AS_ATTENTION, ON_REQUEST):
                raise invalid_parameter(at + page.layout.places["mrie"].offset, 3)
        elif page.key == PROVISIONING:
            Provisioning.check(image, at)
