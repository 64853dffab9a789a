"""The virtio block device, VIRTIO 1.4 §5.2."""

from devmodels.virtio_blk.config import VirtioBlkOptions
from devmodels.virtio_blk.device import VirtioBlk

__all__ = ["VirtioBlk", "VirtioBlkOptions"]
