"""The mode pages of a drive, and what follows from them (MMC-6 §7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from devmodels.disc.address import FRAMES, SECONDS
from devmodels.scsi.fields import Layout
from devmodels.scsi.layout import mmc_modes
from devmodels.scsi.layout import modes as common
from devmodels.scsi.modes import ModePage, ModePages
from devmodels.scsi.sense import invalid_parameter
from devmodels.scsi.task import Task
from devmodels.scsi.unit import LogicalUnit

if TYPE_CHECKING:
    from devmodels.scsi.mmc.power import Power
    from devmodels.scsi.mmc.tray import Tray

ERROR_RECOVERY = Layout(mmc_modes.ERROR_RECOVERY)
CD_PARAMETERS = Layout(mmc_modes.CD_PARAMETERS)
AUDIO_CONTROL = Layout(mmc_modes.AUDIO_CONTROL)
POWER_CONDITION = Layout(mmc_modes.POWER_CONDITION)
TIMEOUT_PROTECT = Layout(mmc_modes.TIMEOUT_PROTECT)
CAPABILITIES = Layout(mmc_modes.CAPABILITIES)
_DESCRIPTOR = Layout(common.SHORT_DESCRIPTOR)

_AUDIO, _POWER, _CAPABILITIES = (0x0E, 0), (0x1A, 0), (0x2A, 0)
BLOCK = 2048
TRAY = 1
"""LOADING MECHANISM TYPE: a tray."""
VOLUME_LEVELS = 256
BUFFER_KIB = 512
LOUDEST = 0xFF


def drive_pages() -> list[ModePage]:
    """The pages with their default values."""
    volumes = [f"{name}{port}" for port in range(4) for name in ("channel", "volume")]
    return [
        ModePage(
            0x01,
            ERROR_RECOVERY,
            ("awre", "arre", "tb", "rc", "per", "dte", "dcr", "read_retry_count"),
            awre=1,
            arre=1,
            read_retry_count=5,
        ),
        ModePage(0x0D, CD_PARAMETERS, ("inactivity_timer",), seconds=SECONDS, frames=FRAMES),
        ModePage(
            0x0E,
            AUDIO_CONTROL,
            ("sotc", *volumes),
            immed=1,
            channel0=1,
            volume0=LOUDEST,
            channel1=2,
            volume1=LOUDEST,
        ),
        ModePage(
            0x1A,
            POWER_CONDITION,
            (
                "idle",
                "standby",
                *(f"{name}_timer_{half}" for name in ("idle", "standby") for half in ("high", "low")),
            ),
        ),
        ModePage(
            0x1D,
            TIMEOUT_PROTECT,
            ("tmoe", "g3_enable", "group1_timeout", "group2_timeout", "group3_timeout"),
            group1_timeout=10,
            group2_timeout=60,
        ),
        _capabilities(),
    ]


def _capabilities() -> ModePage:
    return ModePage(
        0x2A,
        CAPABILITIES,
        dvd_r_read=1,
        dvd_rom_read=1,
        cd_rw_read=1,
        cd_r_read=1,
        multi_session=1,
        mode_2_form_2=1,
        mode_2_form_1=1,
        audio_play=1,
        upc=1,
        isrc=1,
        c2_pointers=1,
        rw_deinterleaved=1,
        rw_supported=1,
        cdda_accurate=1,
        cdda_commands=1,
        loading_mechanism=TRAY,
        eject=1,
        lock=1,
        separate_mute=1,
        separate_volume=1,
        volume_levels=VOLUME_LEVELS,
        buffer_size=BUFFER_KIB,
    )


class Pages(LogicalUnit):
    """A unit with the mode pages of a drive.  `read_speed`: the current one, in kB/s of 1000 bytes."""

    modes: ModePages
    power: Power
    tray: Tray
    read_speed: int

    @property
    def fastest(self) -> int:
        """The greatest speed."""
        raise NotImplementedError

    def set_up_pages(self) -> None:
        """The pages as they are by default."""
        self.modes = ModePages(self._make_pages)

    def _make_pages(self) -> list[ModePage]:
        pages = drive_pages()
        self._show(pages[-1])
        return pages

    def reset_pages(self) -> None:
        """Back to the default values."""
        if self.modes.made:
            self.modes.reset()
        self.apply_pages()

    def capabilities_changed(self) -> None:
        """The capabilities page says the speeds, and whether the tray is locked."""
        if self.modes.made:
            self._show(self.modes[_CAPABILITIES])

    def _show(self, capabilities: ModePage) -> None:
        capabilities.set(
            maximum_read_speed=self.fastest,
            current_read_speed=self.read_speed,
            lock_state=bool(self.tray.prevented_by),
        )

    def apply_pages(self) -> None:
        """Do as the pages say; by default they have no timers."""
        idle = standby = None
        if self.modes.made:
            values = self.modes[_POWER].fields
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
        if len(data) != _DESCRIPTOR.size:
            raise invalid_parameter(at)
        length = _DESCRIPTOR.unpack(data)["block_length"] & 0xFF_FFFF
        if length not in (0, BLOCK):
            raise invalid_parameter(at + _DESCRIPTOR.places["block_length"].offset + 1)

    def check_mode(self, page: ModePage, image: bytes, at: int) -> None:
        """Anything that can be set will do."""

    async def modes_changed(self, task: Task, pages: Sequence[ModePage], *, save: bool) -> None:  # noqa: ARG002
        """Do as they say from now on."""
        self.apply_pages()
