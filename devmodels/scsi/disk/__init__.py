"""Direct access block devices: SBC-4 over a BlockBackend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.lazy import exports

if TYPE_CHECKING:
    from devmodels.scsi.disk.disk import Disk
    from devmodels.scsi.disk.options import DiskOptions

__all__ = ["Disk", "DiskOptions"]

__getattr__ = exports(__name__, {"disk": "Disk", "options": "DiskOptions"})
"""The device is slow to import, and its options are wanted where there is none."""
