"""The AHCI host bus adapter (Serial ATA AHCI 1.3.1) over ATA devices."""

from devmodels.ahci.hba import Hba
from devmodels.ahci.pci import AhciOptions, AhciPci

__all__ = ["AhciOptions", "AhciPci", "Hba"]
