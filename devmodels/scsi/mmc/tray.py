"""The tray: what is in it, who keeps it closed, and what hosts are told when it moves (MMC-6 §4.1.7, PREVENT ALLOW
MEDIUM REMOVAL, START STOP UNIT).

    open → loading → ready → open           a medium is the node of the backend, and can be read in a closed tray
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.iocontext import Timer
from devmodels.scsi.asc import Asc
from devmodels.scsi.mmc.events import EventClass, MediaEvent, OperationalEvent
from devmodels.scsi.mmc.medium import Medium, medium_of
from devmodels.scsi.nexus import Nexus
from devmodels.scsi.sense import not_ready
from devmodels.trace import EventKind

if TYPE_CHECKING:
    from devmodels.scsi.mmc.drive import CdDrive

_MS = 1_000_000
_CLOSES, _OPENS, _ASKS, _INSISTS = range(4)
"""What a user does with a tray, in a trace."""


class Tray:
    """What `devmodels.blockbackend.removable.Tray` asks of a drive, and the drive of it.

    `medium`: the disc that can be read, now; None while there is none.  `prevented_by` and `persistent`: the nexuses
    that prevent its removal, in the one way (no host opens the tray) and in the other (hosts do, at the user's wish,
    which they are told).
    """

    __slots__ = ("_drive", "_loading", "medium", "open", "persistent", "prevented_by")

    def __init__(self, drive: CdDrive) -> None:
        self._drive = drive
        self.open = False
        self.medium: Medium | None = None
        self.prevented_by: set[Nexus] = set()
        self.persistent: set[Nexus] = set()
        self._loading: Timer | None = None
        if drive.backend.inserted:
            self.medium = medium_of(drive.backend, drive.options)

    # --- how things are

    @property
    def loaded(self) -> bool:
        """Whether a medium is in the closed tray."""
        return not self.open and self._drive.backend.inserted

    @property
    def locked(self) -> bool:
        """Whether the user's button opens nothing."""
        return bool(self.prevented_by or self.persistent)

    @property
    def persistently_prevented(self) -> bool:
        """Whether the user's wishes are told instead."""
        return bool(self.persistent)

    def check(self) -> Medium:
        """The medium; CheckCondition where it is not ready."""
        if self.medium is not None:
            return self.medium
        if self.open:
            raise not_ready(Asc.MEDIUM_NOT_PRESENT_TRAY_OPEN)
        if not self._drive.backend.inserted:
            raise not_ready(Asc.MEDIUM_NOT_PRESENT_TRAY_CLOSED)
        raise not_ready(Asc.INCOMPATIBLE_MEDIUM_INSTALLED if self._loading is None else Asc.BECOMING_READY)

    # --- it moves

    def move_out(self) -> None:
        """Open it."""
        if self.open:
            return
        was_loaded = self.loaded
        self.open = True
        self._take_away()
        self._drive.backend.tray_moved(opened=True)
        if was_loaded:
            self._drive.tell(EventClass.MEDIA, MediaEvent.MEDIA_REMOVAL)

    def move_in(self) -> None:
        """Close it; what is in it becomes ready."""
        if not self.open:
            return
        self.open = False
        self._drive.backend.tray_moved(opened=False)
        self._load()

    def _take_away(self) -> None:
        """The medium can no longer be read."""
        if self._loading is not None:
            self._loading.cancel()
            self._loading = None
        if self.medium is not None:
            self.medium = None
            self._drive.medium_gone()
            self._drive.tell(EventClass.OPERATIONAL, OperationalEvent.CHANGED)

    def _load(self) -> None:
        drive = self._drive
        if not drive.backend.inserted:
            drive.guard()
            return
        if drive.options.load_time:
            when = drive.turns.now_ns() + drive.options.load_time * _MS
            self._loading = drive.turns.call_at(when, self._loaded)
            drive.guard()
        else:
            self._loaded()

    def _loaded(self) -> None:
        drive = self._drive
        self._loading = None
        self.medium = medium_of(drive.backend, drive.options)
        drive.medium_come()
        drive.establish(Asc.MEDIUM_MAY_HAVE_CHANGED)
        if self.medium is not None:
            drive.tell(EventClass.OPERATIONAL, OperationalEvent.CHANGED)
        drive.tell(EventClass.MEDIA, MediaEvent.NEW_MEDIA)

    # --- what the user does

    def request_eject(self, *, force: bool) -> None:
        """Tell the hosts; with `force` nobody prevents anything any more."""
        self._note(_INSISTS if force else _ASKS)
        self._drive.tell(EventClass.MEDIA, MediaEvent.EJECT_REQUEST)
        front = self._drive.watched_by()
        if front is not None:
            front.asked_to_eject()
        if force:
            self.allow_all()

    def user_opens(self) -> None:
        """Whoever prevents it."""
        self._note(_OPENS)
        self._moved(opened=True)
        self.move_out()

    def user_closes(self) -> None:
        """With what is in it."""
        self._note(_CLOSES)
        self._moved(opened=False)
        self.move_in()

    def _moved(self, *, opened: bool) -> None:
        """It is about to move, if it is not there already: tell what stands before the drive."""
        front = None if self.open is opened else self._drive.watched_by()
        if front is not None:
            front.tray_moved(opened=opened)

    def _note(self, what: int) -> None:
        """A trace has what the user does."""
        drive = self._drive
        if drive.turns.trace is not None:
            drive.turns.trace.emit(drive.backend.name, EventKind.TRAY, what)

    def user_does(self, what: int) -> None:
        """One of these, as a trace has it; ValueError where it is none."""
        if not _CLOSES <= what <= _INSISTS:
            raise ValueError(f"{what} is nothing that a user does with a tray")
        if what == _CLOSES:
            self.user_closes()
        elif what == _OPENS:
            self.user_opens()
        else:
            self.request_eject(force=what == _INSISTS)

    def medium_changed(self) -> None:
        """Something else is in it; where it is closed, it is as if it had been changed in between."""
        if self.open:
            return
        was_there = self.medium is not None
        self._take_away()
        if was_there:
            self._drive.tell(EventClass.MEDIA, MediaEvent.MEDIA_REMOVAL)
        self._load()

    # --- snapshots

    def loading_ns(self) -> int | None:
        """How long until the medium is ready; None where none is awaited."""
        if self._loading is None:
            return None
        return max(self._loading.when - self._drive.context.now_ns(), 0)

    def restore(self, *, opened: bool, loading_ns: int | None) -> None:
        """Be as it was, with the medium that there is now, and tell nobody."""
        self.close()
        drive = self._drive
        self.open = opened
        self.medium = None
        if self.loaded and loading_ns is not None:
            when = drive.context.now_ns() + loading_ns
            self._loading = drive.turns.call_at(when, self._loaded)
        elif self.loaded:
            self.medium = medium_of(drive.backend, drive.options)

    # --- who keeps it closed

    def allow_all(self) -> None:
        """Nobody prevents anything any more."""
        self.prevented_by.clear()
        self.persistent.clear()
        self._drive.capabilities_changed()

    def forget(self, nexus: Nexus) -> None:
        """`nexus` is gone."""
        self.prevented_by.discard(nexus)
        self.persistent.discard(nexus)
        self._drive.capabilities_changed()

    def close(self) -> None:
        """The drive is given up."""
        if self._loading is not None:
            self._loading.cancel()
            self._loading = None
