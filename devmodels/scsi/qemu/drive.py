"""QEMU's CD drive: `scsi-cd`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar

from devmodels.scsi.asc import Asc
from devmodels.scsi.constants import DeviceType, SenseKey
from devmodels.scsi.mmc.medium import CD_BLOCKS
from devmodels.scsi.qemu import pages
from devmodels.scsi.qemu.attention import MEDIUM_CHANGED, BusAttention
from devmodels.scsi.qemu.attention import NO_MEDIUM as GONE
from devmodels.scsi.qemu.front import INVALID_FIELD, NO_MEDIUM
from devmodels.scsi.qemu.own import HANDLERS, LOCKED, OwnFront, Page
from devmodels.scsi.sense import CheckCondition, Sense
from devmodels.scsi.table import Reply
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.scsi.mmc import CdDrive

BLOCK = 2048
MEDIA = 4
"""The class of events."""
NO_CHANGE, EJECT_REQUESTED, NEW_MEDIA = 0, 1, 2
NO_PROFILE, CD_ROM, DVD_ROM = 0x0000, 0x0008, 0x0010
STRUCTURES = {0: 2052, 1: 8, 3: 192, 4: 2052}
"""Lengths of disc structures by their formats."""
CAPABILITIES = 0xFF
_LOCKED_EMPTY = Sense(SenseKey.NOT_READY, Asc.MEDIUM_REMOVAL_PREVENTED)
_INCOMPATIBLE = Sense(SenseKey.ILLEGAL_REQUEST, Asc.INCOMPATIBLE_MEDIUM_INSTALLED)


class DriveFront(OwnFront):
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
        super().__init__(unit, bus, BLOCK)
        self._drive = unit
        self.options = unit.options
        self.changed = False
        self.new_media = self.eject_requested = False

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
        self.new_media, self.eject_requested = True, False

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
            return NO_PROFILE
        return CD_ROM if self.blocks <= CD_BLOCKS else DVD_ROM

    def event_status(self, _task: Task, cdb: bytes) -> bytes:
        """GET EVENT STATUS NOTIFICATION, of media alone."""
        if not cdb[1] & 1:
            raise CheckCondition(INVALID_FIELD)
        if not cdb[4] & 1 << MEDIA:
            return bytes((0, 0, 0x80, 1 << MEDIA))
        tray = self._drive.tray
        status = 1 if tray.open else 2 * self.backend.inserted
        event = NO_CHANGE
        if not tray.open and self.new_media:
            event, self.new_media = NEW_MEDIA, False
        elif not tray.open and self.eject_requested:
            event, self.eject_requested = EJECT_REQUESTED, False
        return bytes((0, 4, MEDIA, 1 << MEDIA, event, status, 0, 0))

    def configuration(self, _task: Task, _cdb: bytes) -> bytes:
        """GET CONFIGURATION: two profiles and two features more."""
        now = self.profile
        head = (36).to_bytes(4, "big") + bytes(2) + now.to_bytes(2, "big")
        profiles = b"".join(each.to_bytes(2, "big") + bytes((each == now, 0)) for each in (DVD_ROM, CD_ROM))
        core = bytes((0, 1, 0x0B, 8, 0, 0, 0, 1, 1, 0, 0, 0))
        removable = bytes((0, 3, 0x0B, 4, 0x39, 0, 0, 0))
        return head + bytes((0, 0, 3, 8)) + profiles + core + removable

    def mechanism_status(self, _task: Task, _cdb: bytes) -> bytes:
        """MECHANISM STATUS."""
        return bytes((0, 0, 0, 0, 0, 1, 0, 0))

    def disc_information(self, _task: Task, cdb: bytes) -> bytes:
        """READ DISC INFORMATION: a finished disc of one session with one track."""
        if cdb[1] & 7:
            raise CheckCondition(INVALID_FIELD)
        return bytes((0, 32, 0x0E, 1, 1, 1, 1, 0x20)).ljust(34, b"\0")

    def disc_structure(self, _task: Task, cdb: bytes) -> bytes:
        """READ DISC STRUCTURE of a DVD; of a CD only which there are."""
        layer, form = cdb[6], cdb[7]
        if cdb[1]:
            raise CheckCondition(INVALID_FIELD)
        if form == CAPABILITIES:
            body = b"".join(
                bytes((each, 0x40)) + size.to_bytes(2, "big") for each, size in STRUCTURES.items()
            )
            return (len(body) + 2).to_bytes(2, "big") + bytes(2) + body
        if not self.available:
            raise CheckCondition(NO_MEDIUM)
        if self.profile == CD_ROM:
            raise CheckCondition(_INCOMPATIBLE)
        if form not in STRUCTURES or form == 3 or (form == 0 and layer):
            raise CheckCondition(INVALID_FIELD)
        size = STRUCTURES[form]
        last = (self.blocks - 1).to_bytes(4, "big")
        physical = bytes((1, 0xF, 1, 0, 0, 0, 0, 0)) + last * 2 if form == 0 else b""
        return ((size - 2).to_bytes(2, "big") + bytes(2) + physical).ljust(size, b"\0")

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
