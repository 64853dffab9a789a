"""ATAPI devices: SCSI commands by PACKET (ATA/ATAPI-7 vol. 1 §6.24, SFF-8020i, MMC-6 Annex A).

An `AtapiDevice` carries the commands of one drive of `devmodels.scsi.mmc`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.lazy import exports

if TYPE_CHECKING:
    from devmodels.ata.packet.device import AtapiDevice
    from devmodels.ata.packet.options import AtapiOptions

__all__ = ["AtapiDevice", "AtapiOptions"]

__getattr__ = exports(__name__, {"device": "AtapiDevice", "options": "AtapiOptions"})
"""The device is slow to import, and its options are wanted where there is none."""
