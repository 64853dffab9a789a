"""ATA disks over a BlockBackend."""

from devmodels.ata.disk.disk import AtaDisk
from devmodels.ata.disk.options import AtaDiskOptions

__all__ = ["AtaDisk", "AtaDiskOptions"]
