"""virtio-blk on MMIO."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from devmodels.assembly.blk_devices import add_disk
from devmodels.assembly.kind import DeviceKind
from devmodels.translation import Translate
from devmodels.virtio.mmio import VirtioMmio
from devmodels.virtio_blk.mmio import VirtioBlkMmioOptions, virtio_blk_mmio

if TYPE_CHECKING:
    from devmodels.assembly.assembly import Assembly


def _blk_mmio(assembly: Assembly, options: VirtioBlkMmioOptions, translate: Translate | None) -> str:
    address, irq = assembly.mmio_place(options)
    backend = assembly.backend(options, options.id or f"{options.driver}@{address:x}")
    backend.qom_path = assembly.qom_path(options.id)

    def plug(device: VirtioMmio) -> None:
        assembly.machine.plug_mmio(device, address, irq)

    return add_disk(assembly, options, translate, backend, partial(virtio_blk_mmio, options, backend), plug)


DEVICES = {"virtio-blk-device": DeviceKind(VirtioBlkMmioOptions, _blk_mmio)}
