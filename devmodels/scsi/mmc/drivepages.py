"""The mode pages of a drive, with their default values (MMC-6 §7): made when somebody first asks for one."""

from __future__ import annotations

from devmodels.disc.address import FRAMES, SECONDS
from devmodels.scsi.fields import Layout
from devmodels.scsi.layout import mmc_modes
from devmodels.scsi.layout import modes as common
from devmodels.scsi.modes import ModePage

ERROR_RECOVERY = Layout(mmc_modes.ERROR_RECOVERY)
CD_PARAMETERS = Layout(mmc_modes.CD_PARAMETERS)
AUDIO_CONTROL = Layout(mmc_modes.AUDIO_CONTROL)
POWER_CONDITION = Layout(mmc_modes.POWER_CONDITION)
TIMEOUT_PROTECT = Layout(mmc_modes.TIMEOUT_PROTECT)
CAPABILITIES = Layout(mmc_modes.CAPABILITIES)
DESCRIPTOR = Layout(common.SHORT_DESCRIPTOR)

POWER_KEY, CAPABILITIES_KEY = (0x1A, 0), (0x2A, 0)
"""Pages that something follows from."""
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
