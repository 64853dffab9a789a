"""Direct access block devices: SBC-4 over a BlockBackend."""

from devmodels.scsi.disk.disk import Disk
from devmodels.scsi.disk.options import DiskOptions

__all__ = ["Disk", "DiskOptions"]
