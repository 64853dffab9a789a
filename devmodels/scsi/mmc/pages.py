"""What follows from the mode pages of a drive (MMC-6 §7)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from devmodels.scsi.sense import invalid_parameter
from devmodels.scsi.task import Task
from devmodels.scsi.unit import LogicalUnit

if TYPE_CHECKING:
    from devmodels.scsi.mmc.power import Power
    from devmodels.scsi.mmc.tray import Tray
    from devmodels.scsi.modes import ModePage, ModePages


class Pages(LogicalUnit):
    """A unit with the mode pages of a drive.  `read_speed`: the current one, in kB/s of 1000 bytes."""

    power: Power
    tray: Tray
    read_speed: int

    @property
    def fastest(self) -> int:
        """The greatest speed."""
        raise NotImplementedError

    @cached_property
    def modes(self) -> ModePages:
        """The pages."""
        from devmodels.scsi.modes import ModePages

        return ModePages(self._make_pages)

    @property
    def _made(self) -> bool:
        """Whether anything of them was wanted yet."""
        return "modes" in vars(self) and self.modes.made

    def _make_pages(self) -> list[ModePage]:
        from devmodels.scsi.mmc.drivepages import drive_pages

        pages = drive_pages()
        self._show(pages[-1])
        return pages

    def reset_pages(self) -> None:
        """Back to the default values."""
        if self._made:
            self.modes.reset()
        self.apply_pages()

    def capabilities_changed(self) -> None:
        """The capabilities page says the speeds, and whether the tray is locked."""
        if self._made:
            from devmodels.scsi.mmc.drivepages import CAPABILITIES_KEY

            self._show(self.modes[CAPABILITIES_KEY])

    def _show(self, capabilities: ModePage) -> None:
        capabilities.set(
            maximum_read_speed=self.fastest,
            current_read_speed=self.read_speed,
            lock_state=bool(self.tray.prevented_by),
        )

    def apply_pages(self) -> None:
        """Do as the pages say; by default they have no timers."""
        idle = standby = None
        if self._made:
            from devmodels.scsi.mmc.drivepages import POWER_KEY

            values = self.modes[POWER_KEY].fields
            idle, standby = (
                values[f"{name}_timer_high"] << 16 | values[f"{name}_timer_low"] if values[name] else None
                for name in ("idle", "standby")
            )
        self.power.set_timers(idle, standby)
        self.guard()

    def guard(self) -> None:
        """Look again whether commands must be checked."""

    # --- for MODE SENSE and MODE SELECT

    def medium_type(self) -> int:
        """0: what it was for GET CONFIGURATION says."""
        return 0

    def device_specific(self) -> int:
        """0."""
        return 0

    def block_descriptor(self, *, long: bool, control: int) -> bytes:  # noqa: ARG002
        """There is none (MMC-6 §7.1)."""
        return b""

    def check_block_descriptor(self, data: bytes, at: int) -> None:
        """One that says what is so changes nothing."""
        from devmodels.scsi.mmc.drivepages import BLOCK, DESCRIPTOR

        if len(data) != DESCRIPTOR.size:
            raise invalid_parameter(at)
        length = DESCRIPTOR.unpack(data)["block_length"] & 0xFF_FFFF
        if length not in (0, BLOCK):
            raise invalid_parameter(at + DESCRIPTOR.places["block_length"].offset + 1)

    def check_mode(self, page: ModePage, image: bytes, at: int) -> None:
        """Anything that can be set will do."""

    async def modes_changed(self, task: Task, pages: Sequence[ModePage], *, save: bool) -> None:  # noqa: ARG002
        """Do as they say from now on."""
        self.apply_pages()
