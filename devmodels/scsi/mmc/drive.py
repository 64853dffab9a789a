"""A CD, DVD or BD drive: a logical unit whose medium comes and goes (MMC-6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from devmodels.blockbackend import BlockBackend
from devmodels.conformance import ViolationLog
from devmodels.scsi import basic
from devmodels.scsi.backed import BackedUnit
from devmodels.scsi.constants import DeviceType
from devmodels.scsi.identity import Identity, vital_page
from devmodels.scsi.mmc.events import SUPPORTED, EventClass, Events
from devmodels.scsi.mmc.medium import KINDS, Medium, Profile
from devmodels.scsi.mmc.options import CdOptions, Interface
from devmodels.scsi.mmc.pages import Pages
from devmodels.scsi.mmc.power import Power
from devmodels.scsi.mmc.tray import Tray
from devmodels.scsi.nexus import Nexus
from devmodels.scsi.sense import Sense
from devmodels.scsi.table import Command, Data
from devmodels.scsi.task import Task
from devmodels.scsi.unitstate import decode

if TYPE_CHECKING:
    from devmodels.scsi.kind import UnitFront
    from devmodels.scsi.mmc.audio import Player
    from devmodels.scsi.qemu.attention import BusAttention

VERSIONS = (0x00A0, 0x0460, 0x04E0)
"""SAM-5, SPC-4 and MMC-6 (no version claimed)."""


class CdDrive(Pages, BackedUnit):
    """A drive over `backend`, which leads to an `EmptyNode` while there is no medium, and never writes.

    `interface`: what its carrier is, for hosts that ask.  `violations`: as of `LogicalUnit`.
    """

    notification_classes = SUPPORTED

    def __init__(
        self,
        backend: BlockBackend,
        options: CdOptions | None = None,
        *,
        name: str = "",
        interface: Interface = Interface.SCSI,
        violations: ViolationLog | None = None,
    ) -> None:
        self.options = options = CdOptions() if options is None else options
        self.backend = backend
        backend.pinned = True
        self.interface = interface
        super().__init__(
            backend.context,
            name=name or backend.name,
            violations=violations,
            queue_depth=options.queue_depth,
        )
        self.identity = Identity(options, self.name)
        self.events = Events()
        self.power = Power(self)
        self.tray = Tray(self)
        self.head = 0
        """The block that the pick-up is at."""
        self.front_for_tray: Callable[[], UnitFront] | None = None
        """Makes its front when the tray is moved, where a carrier has none before."""
        backend.tray = self.tray
        backend.add_resize_listener(self._resized)
        self.medium_come()

    # --- what it is

    @cached_property
    def commands(self) -> Sequence[Command[Any]]:
        """The table, read when the first command comes."""
        from devmodels.scsi.mmc.commands import COMMANDS

        return COMMANDS

    @cached_property
    def player(self) -> Player:
        """What plays audio; not there before something has to do with it."""
        from devmodels.scsi.mmc.audio import Player

        return Player(self)

    def _silence(self) -> None:
        if "player" in vars(self):
            self.player.reset()

    def watched_by(self) -> UnitFront | None:
        """What stands before it, to be told what a user does with its tray."""
        if self.front is None and self.front_for_tray is not None:
            return self.front_for_tray()
        return self.front

    def front_as_qemu(self, bus: BusAttention) -> UnitFront:
        """What answers as QEMU's CD drive."""
        from devmodels.scsi.qemu.drive import DriveFront

        return DriveFront(self, bus)

    def inquiry_data(self) -> bytes:
        """Standard INQUIRY data."""
        options = self.options
        return basic.standard_inquiry(
            DeviceType.CD_DVD,
            removable=True,
            vendor=options.vendor,
            product=options.product,
            revision=options.ver,
            versions=VERSIONS,
            queueing=self.interface is Interface.SCSI,
        )

    def vital_product_data(self, page: int, task: Task) -> bytes | None:
        """Unit serial number and device identification (SPC-4 §7.8)."""
        match page:
            case 0x00:
                body = bytes((0x00, 0x80, 0x83))
            case 0x80:
                body = self.identity.serial.encode()
            case 0x83:
                body = self.identity.identification(task)
            case _:
                return None
        return vital_page(DeviceType.CD_DVD, page, body)

    @property
    def profile(self) -> Profile:
        """The current one."""
        medium = self.tray.medium
        return Profile.NONE if medium is None else medium.profile

    @property
    def fastest(self) -> int:
        """The greatest speed in kB/s of 1000 bytes, with the medium that there is."""
        medium = self.tray.medium
        return KINDS[Profile.CD_ROM].speed if medium is None else medium.kind.speed

    def transfer(self, cdb: bytes) -> tuple[Data, int]:
        """Which way the data of a command goes, and the most bytes that it may be: for carriers whose hosts do not say.

        Nothing for what is no command.
        """
        from devmodels.scsi.mmc.commands import transfer

        return transfer(cdb)

    # --- the medium

    @property
    def medium(self) -> Medium:
        """What is to be read; CheckCondition where there is nothing."""
        return self.tray.check()

    def medium_come(self) -> None:
        """Another disc is ready, or not even that."""
        self.head = 0
        self.read_speed = self.fastest
        self.capabilities_changed()
        self.guard()

    def medium_gone(self) -> None:
        """It can no longer be read."""
        self._silence()
        self.guard()

    def _resized(self, _size: int) -> None:
        self.tray.medium_changed()

    def guard(self) -> None:
        """Look again whether commands must be checked."""
        self.guarded = self.tray.medium is None or self.power.watches

    def check_access(self, task: Task, command: Command[Any]) -> None:  # noqa: ARG002
        """What needs the medium finds it ready, and the drive awake."""
        if command.ready:
            self.power.touch()
            self.check_ready()

    def check_ready(self) -> None:
        """CheckCondition where there is no medium, or it is not ready."""
        self.tray.check()

    def progress_sense(self) -> Sense | None:
        """That audio is played (MMC-3, REQUEST SENSE)."""
        return self.player.sense if "player" in vars(self) else None

    # --- telling hosts

    def tell(self, kind: EventClass, code: int) -> None:
        """An event for every host; those whose carrier can send word hear at once that there is one."""
        for nexus in self.nexuses():
            self.events.put(nexus, kind, code)
        if self.target is not None:
            self.target.notify(self, kind.bit)

    # --- snapshots

    def save(self, nexus: Nexus) -> bytes:
        """What it knows beyond its medium, its tasks left out."""
        from devmodels.scsi.mmc import state

        return msgspec.msgpack.encode(state.save(self, nexus))

    def judge(self, data: bytes) -> None:
        """ValueError where that is not what `save` of a drive gave."""
        from devmodels.scsi.mmc import state

        state.judge(self, decode(data, state.DriveState))

    def restore(self, nexus: Nexus, data: bytes) -> None:
        """Be as `data` says, which `judge` has found to be possible."""
        from devmodels.scsi.mmc import state

        state.restore(self, nexus, decode(data, state.DriveState))

    # --- resets and losses

    def nexus_lost(self, nexus: Nexus) -> None:
        """It prevents nothing any more, and is told nothing."""
        super().nexus_lost(nexus)
        self.events.forget(nexus)
        self.tray.forget(nexus)

    def was_reset(self) -> None:
        """Everything but the tray, and what is in it, is as after power on."""
        super().was_reset()
        self.events.clear()
        self.power.reset()
        self._silence()
        self.reset_pages()
        self.tray.allow_all()
        self.medium_come()

    def close(self) -> None:
        """Leave the backend, which stays open."""
        self.tray.close()
        self.backend.tray = None
        self.backend.remove_resize_listener(self._resized)
