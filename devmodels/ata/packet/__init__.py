"""ATAPI devices: SCSI commands by PACKET (ATA/ATAPI-7 vol. 1 §6.24, SFF-8020i, MMC-6 Annex A).

An `AtapiDevice` carries the commands of one drive of `devmodels.scsi.mmc`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from devmodels.ata.packet.device import AtapiDevice
    from devmodels.ata.packet.options import AtapiOptions

__all__ = ["AtapiDevice", "AtapiOptions"]


def __getattr__(name: str) -> object:
    """The device is slow to import, and its options are wanted where there is none."""
    if name == "AtapiDevice":
        from devmodels.ata.packet.device import AtapiDevice

        return AtapiDevice
    if name == "AtapiOptions":
        from devmodels.ata.packet.options import AtapiOptions

        return AtapiOptions
    raise AttributeError(name)
