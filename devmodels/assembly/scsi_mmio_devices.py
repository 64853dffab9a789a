"""virtio-scsi on MMIO."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from devmodels.assembly.kind import DeviceKind
from devmodels.assembly.scsi_devices import add_host
from devmodels.translation import Translate
from devmodels.virtio.mmio import VirtioMmio
from devmodels.virtio_scsi.mmio import VirtioScsiMmioOptions, virtio_scsi_mmio

if TYPE_CHECKING:
    from devmodels.assembly.assembly import Assembly


def _scsi_mmio(assembly: Assembly, options: VirtioScsiMmioOptions, translate: Translate | None) -> str:
    address, irq = assembly.mmio_place(options)

    def plug(device: VirtioMmio) -> None:
        assembly.machine.plug_mmio(device, address, irq)

    return add_host(assembly, options, translate, f"{address:x}", partial(virtio_scsi_mmio, options), plug)


DEVICES = {"virtio-scsi-device": DeviceKind(VirtioScsiMmioOptions, _scsi_mmio)}
