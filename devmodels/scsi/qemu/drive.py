"""QEMU's CD drive: `scsi-cd`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar

from devmodels.scsi.asc import Asc
from devmodels.scsi.constants import DeviceType, SenseKey
from devmodels.scsi.mmc.medium import CD_BLOCKS
from devmodels.scsi.qemu import disc, pages
from devmodels.scsi.qemu.attention import MEDIUM_CHANGED, BusAttention
from devmodels.scsi.qemu.attention import NO_MEDIUM as GONE
from devmodels.scsi.qemu.front import INVALID_FIELD, NO_MEDIUM
from devmodels.scsi.qemu.own import HANDLERS, LOCKED, OwnFront, Page
from devmodels.scsi.sense import CheckCondition, Sense
from devmodels.scsi.table import Reply
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.scsi.mmc import CdDrive

CORE_AND_REMOVABLE = bytes((0, 1, 0x0B, 8, 0, 0, 0, 1, 1, 0, 0, 0)) + bytes((0, 3, 0x0B, 4, 0x39, 0, 0, 0))
"""Features of GET CONFIGURATION."""
_LOCKED_EMPTY = Sense(SenseKey.NOT_READY, Asc.MEDIUM_REMOVAL_PREVENTED)
_INCOMPATIBLE = Sense(SenseKey.ILLEGAL_REQUEST, Asc.INCOMPATIBLE_MEDIUM_INSTALLED)


class DriveFront(OwnFront, disc.MediaEvents):
    """A drive's.  `changed`: a medium has come, of which the unit tells after it has told that there is none."""

    drive = True
    KEPT = (*OwnFront.KEPT, "changed", "new_media", "eject_requested")
    kind = DeviceType.CD_DVD
    removable = True
    granularity = 4096
    PAGES: ClassVar[Mapping[int, Page]] = {
        0x01: pages.recovery,
        0x08: pages.caching,
        0x0E: pages.audio,
        0x2A: pages.capabilities,
    }

    def __init__(self, unit: CdDrive, bus: BusAttention) -> None:
        super().__init__(unit, bus, disc.BLOCK)
        self._drive = unit
        self.options = unit.options
        self.changed = False

    @property
    def available(self) -> bool:
        """In the closed tray."""
        return self._drive.tray.loaded

    @property
    def locked(self) -> bool:
        """Whether the tray stays closed."""
        return self._drive.tray.locked

    def limits(self) -> bytes:
        """There are none."""
        raise CheckCondition(INVALID_FIELD)

    # --- the tray

    def was_reset(self) -> None:
        """The tray is closed, and nobody keeps it so."""
        tray = self._drive.tray
        tray.allow_all()
        tray.move_in()
        super().was_reset()

    def tray_moved(self, *, opened: bool) -> None:
        """The user has done it."""
        self.changed = not opened
        self.attentions.put(self._drive.nexuses(), GONE)
        self.medium_moved()

    def asked_to_eject(self) -> None:
        """The user wishes it."""
        self.eject_requested = True

    def reported(self) -> None:
        """The medium's change comes after its absence."""
        if self.changed:
            self.changed = False
            self.attentions.put(self._drive.nexuses(), MEDIUM_CHANGED)

    def start_stop(self, _task: Task, cdb: bytes) -> None:
        """START STOP UNIT moves the tray."""
        if cdb[4] & 0xF0 or not cdb[4] & 2:
            return
        tray = self._drive.tray
        if cdb[4] & 1:
            tray.move_in()
        elif not tray.open:
            if tray.locked:
                raise CheckCondition(LOCKED if self.backend.inserted else _LOCKED_EMPTY)
            tray.move_out()

    def prevent_allow(self, task: Task, cdb: bytes) -> None:
        """PREVENT ALLOW MEDIUM REMOVAL."""
        tray = self._drive.tray
        tray.allow_all()
        if cdb[4] & 1:
            tray.prevented_by.add(task.nexus)
            self._drive.capabilities_changed()

    # --- what is in it

    @property
    def profile(self) -> int:
        """The current one."""
        if not self.available:
            return disc.NO_PROFILE
        return disc.CD_ROM if self.blocks <= CD_BLOCKS else disc.DVD_ROM

    def event_status(self, _task: Task, cdb: bytes) -> bytes:
        """GET EVENT STATUS NOTIFICATION, of media alone."""
        if not cdb[1] & 1:
            raise CheckCondition(INVALID_FIELD)
        return self.media_status(cdb[4], opened=self._drive.tray.open, inserted=self.backend.inserted)

    def configuration(self, _task: Task, _cdb: bytes) -> bytes:
        """GET CONFIGURATION: two profiles and two features more."""
        return disc.configuration(self.profile, CORE_AND_REMOVABLE)

    def mechanism_status(self, _task: Task, _cdb: bytes) -> bytes:
        """MECHANISM STATUS."""
        return disc.MECHANISM

    def disc_information(self, _task: Task, cdb: bytes) -> bytes:
        """READ DISC INFORMATION: a finished disc of one session with one track."""
        if cdb[1] & 7:
            raise CheckCondition(INVALID_FIELD)
        return disc.INFORMATION

    def disc_structure(self, _task: Task, cdb: bytes) -> bytes:
        """READ DISC STRUCTURE of a DVD; of a CD only which there are."""
        layer, form = cdb[6], cdb[7]
        if cdb[1]:
            raise CheckCondition(INVALID_FIELD)
        if form != disc.CAPABILITIES:
            if not self.available:
                raise CheckCondition(NO_MEDIUM)
            if self.profile == disc.CD_ROM:
                raise CheckCondition(_INCOMPATIBLE)
        data = disc.structure(form, layer, self.blocks)
        if data is None:
            raise CheckCondition(INVALID_FIELD)
        return data

    handlers: ClassVar[Mapping[int, Callable[..., Reply]]] = {
        **HANDLERS,
        0x1B: start_stop,
        0x1E: prevent_allow,
        0x46: configuration,
        0x4A: event_status,
        0x51: disc_information,
        0xAD: disc_structure,
        0xBD: mechanism_status,
    }
