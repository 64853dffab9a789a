"""The state of a drive as plain data (`unitstate`): its tray, what hosts have set, and what they have yet to hear."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from devmodels.scsi.mmc.audio import AudioStatus
from devmodels.scsi.mmc.events import QUEUED, EventClass
from devmodels.scsi.mmc.power import Condition
from devmodels.scsi.nexus import Nexus
from devmodels.scsi.unitstate import UnitState

if TYPE_CHECKING:
    from devmodels.scsi.mmc.drive import CdDrive

_CAPABILITIES = "2a.00"
"""The mode page that says how things are, which nobody sets."""


class PlayState(msgspec.Struct, frozen=True):
    """How playing goes: its status, the block that it ends before, and the status then."""

    status: AudioStatus
    end: int
    then: AudioStatus


class DriveState(UnitState, frozen=True, kw_only=True):
    """`modes`: current mode pages that are not the default ones.  `loading_ns`: how long until a medium is ready; None
    where none is awaited.  `prevented`, `persistent`, `events` (class and code): of the driver's nexus.
    """

    modes: dict[str, str]
    open: bool
    loading_ns: int | None
    prevented: bool
    persistent: bool
    events: list[tuple[EventClass, int]]
    condition: Condition
    read_speed: int
    head: int
    play: PlayState


def save(drive: CdDrive, nexus: Nexus) -> DriveState:
    """The state of `drive`, whose one initiator `nexus` is."""
    tray = drive.tray
    if drive.turns.trace is None:
        # A trace has each look at the clock, but not that a snapshot is taken.
        drive.power.look()
    modes = drive.modes.save_current()
    modes.pop(_CAPABILITIES, None)
    return DriveState(
        attentions=drive.save_attentions(nexus),
        modes=modes,
        open=tray.open,
        loading_ns=tray.loading_ns(),
        prevented=nexus in tray.prevented_by,
        persistent=nexus in tray.persistent,
        events=drive.events.of(nexus),
        condition=drive.power.condition,
        read_speed=drive.read_speed,
        play=PlayState(*drive.player.save()),
        head=drive.head,
    )


def judge(drive: CdDrive, state: DriveState) -> None:
    """ValueError where it cannot be the state of such a drive."""
    drive.modes.check(state.modes)
    if len(state.events) > QUEUED * len(EventClass):
        raise ValueError(f"{len(state.events)} events, expected at most {QUEUED} of each class")
    if min(state.head, state.play.end, state.read_speed, state.loading_ns or 0) < 0:
        raise ValueError("a number below 0")


def restore(drive: CdDrive, nexus: Nexus, state: DriveState) -> None:
    """Be as `state` says, which `judge` has found to be possible.  No event comes of it."""
    tray = drive.tray
    tray.restore(opened=state.open, loading_ns=state.loading_ns)
    tray.prevented_by = {nexus} if state.prevented else set()
    tray.persistent = {nexus} if state.persistent else set()
    drive.modes.take(state.modes)
    drive.medium_come()
    drive.apply_pages()
    drive.read_speed = min(state.read_speed, drive.fastest)
    drive.capabilities_changed()
    last = 0 if tray.medium is None else tray.medium.blocks
    drive.head = min(state.head, last)
    drive.player.restore(state.play.status, min(state.play.end, last), state.play.then)
    drive.power.condition = state.condition
    drive.events.forget(nexus)
    for kind, code in state.events:
        drive.events.put(nexus, kind, code)
    drive.guard()
    drive.restore_attentions(nexus, state.attentions)
