"""The virtio SCSI host device, VIRTIO 1.4 §5.6: `VirtioScsi`, and the `ScsiBus` with its targets."""

from devmodels.virtio_scsi.bus import ScsiBus
from devmodels.virtio_scsi.config import VirtioScsiOptions
from devmodels.virtio_scsi.device import VirtioScsi

__all__ = ["ScsiBus", "VirtioScsi", "VirtioScsiOptions"]
