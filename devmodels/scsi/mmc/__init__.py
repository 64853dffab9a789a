"""CD, DVD and BD drives: MMC-6 over a BlockBackend.

A `CdDrive` is one logical unit: what is in its tray is the node of its backend (a cue sheet's disc where the node knows
one, else one data track), what kind of disc that is its size says, or an option.  `tray` moves it and tells whoever
polls for it, `commands` has the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.lazy import exports

if TYPE_CHECKING:
    from devmodels.scsi.mmc.drive import CdDrive
    from devmodels.scsi.mmc.options import CdOptions

__all__ = ["CdDrive", "CdOptions"]

__getattr__ = exports(__name__, {"drive": "CdDrive", "options": "CdOptions"})
"""The device is slow to import, and its options are wanted where there is none."""
