"""ATA disks over a BlockBackend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.lazy import exports

if TYPE_CHECKING:
    from devmodels.ata.disk.disk import AtaDisk
    from devmodels.ata.disk.options import AtaDiskOptions

__all__ = ["AtaDisk", "AtaDiskOptions"]

__getattr__ = exports(__name__, {"disk": "AtaDisk", "options": "AtaDiskOptions"})
"""The device is slow to import, and its options are wanted where there is none."""
