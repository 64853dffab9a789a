"""The place that a `scsi-hd` or a `scsi-cd` gets on a SCSI bus."""

from __future__ import annotations

from typing import Protocol

import msgspec

from devmodels.scsi import LogicalUnit
from devmodels.virtio_scsi.bus import ScsiBus
from devmodels.virtio_scsi.device import VirtioScsi
from devmodels.virtio_scsi.layout import MAX_LUN, MAX_TARGET


class PlaceOptions(Protocol):
    """The options that say where a unit is.

    `bus` is the id of a host device with ".0" ("scsi0.0"); without it the first one there is.  `scsi_id` and `lun` are
    the first ones that are free where they are not given.  `channel` can only be 0.
    """

    @property
    def driver(self) -> str:
        """The model."""
        ...

    @property
    def bus(self) -> str | None:
        """The bus."""
        ...

    @property
    def channel(self) -> int:
        """The channel."""
        ...

    @property
    def scsi_id(self) -> int | None:
        """The target."""
        ...

    @property
    def lun(self) -> int | None:
        """The logical unit number."""
        ...


def check_place(options: PlaceOptions) -> None:
    """ValueError where there can be no such place."""
    if options.channel:
        raise ValueError(f"channel is {options.channel}, expected 0")
    if options.scsi_id is not None and not 0 <= options.scsi_id <= MAX_TARGET:
        raise ValueError(f"scsi-id is {options.scsi_id}, expected 0 to {MAX_TARGET}")
    if options.lun is not None and not 0 <= options.lun <= MAX_LUN:
        raise ValueError(f"lun is {options.lun}, expected 0 to {MAX_LUN}")


class ScsiPlace(msgspec.Struct, frozen=True):
    """Where a device on a SCSI bus is, or will be once it is plugged, and its model."""

    driver: str
    host: VirtioScsi
    target: int
    lun: int
    unit: LogicalUnit

    def plug(self) -> None:
        """The host's driver can see it from now on."""
        self.host.plug(self.target, self.lun, self.unit)


def find_place(bus: ScsiBus, scsi_id: int | None, lun: int | None) -> tuple[int, int]:
    """The place asked for, the first free one where that is open; ValueError where there is none.

    Without a number of its own a unit becomes the first one of a new target.
    """
    if scsi_id is None:
        wanted = lun or 0
        found = next((n for n in range(MAX_TARGET + 1) if not _taken(bus, n, wanted)), None)
        if found is None:
            raise ValueError(f"no scsi-id is free for lun {wanted}")
        return found, wanted
    if lun is None:
        free = next((n for n in range(MAX_LUN + 1) if not _taken(bus, scsi_id, n)), None)
        if free is None:
            raise ValueError(f"no lun of scsi-id {scsi_id} is free")
        return scsi_id, free
    if _taken(bus, scsi_id, lun):
        raise ValueError(f"lun {lun} of scsi-id {scsi_id} is in use")
    return scsi_id, lun


def _taken(bus: ScsiBus, scsi_id: int, lun: int) -> bool:
    target = bus.targets.get(scsi_id)
    return target is not None and lun in target.units
