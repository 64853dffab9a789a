"""Who records exports: what it hears of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from devmodels.blockbackend import BlockBackend

if TYPE_CHECKING:
    from devmodels.scsi.backed import BackedUnit
    from devmodels.virtio.device import VirtioDevice
    from devmodels.virtio_scsi import VirtioScsi


class HostRecorder(Protocol):
    """Who records hosts and their units."""

    def watch_host(self, options: Mapping[str, object], device: VirtioScsi) -> None:
        """A host has just been made."""
        ...

    def watch_unit(self, options: Mapping[str, object], host: VirtioScsi, unit: BackedUnit) -> None:
        """A unit is about to appear."""
        ...

    def unit_leaves(self, unit: BackedUnit) -> None:
        """It is about to be taken away."""
        ...

    def unit_gone(self, host: VirtioScsi, unit: BackedUnit) -> None:
        """It has gone, with all its requests; so has the host where it was the last one."""
        ...


class ExportRecorder(HostRecorder, Protocol):
    """Who records exports."""

    def watch_export(
        self, options: Mapping[str, object], device: VirtioDevice, backend: BlockBackend
    ) -> None:
        """An export has just been made."""
        ...

    def export_ended(self, device: VirtioDevice) -> None:
        """It has gone, with all its requests."""
        ...
