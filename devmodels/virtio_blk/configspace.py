"""The configuration space as a driver finds it, and what it may do there: VIRTIO 1.4 §5.2.4, §5.2.5."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.conformance import written
from devmodels.virtio_blk.config import pack_config
from devmodels.virtio_blk.layout import WRITEBACK_OFFSET, BlkFeature
from devmodels.virtio_blk.request import OPERATION

if TYPE_CHECKING:
    from devmodels.virtio_blk.device import VirtioBlk


class ConfigSpace:
    """`values` are shown, by the names of their fields."""

    __slots__ = ("_packed", "values")

    def __init__(self) -> None:
        self.values: dict[str, int] = {}
        self._packed: bytes | None = None

    def show(self, values: dict[str, int]) -> bool:
        """Show these from now on; returns whether they are others than before."""
        if values == self.values:
            return False
        self.values = values
        self._packed = None
        return True

    def packed(self) -> bytes:
        """All of it."""
        if self._packed is None:
            self._packed = pack_config(self.values)
        return self._packed


def look_at(device: VirtioBlk, offset: int, size: int) -> None:
    """The driver reads; report where that is too early (VIRTIO 1.4 §5.2.5.1)."""
    if (
        offset <= WRITEBACK_OFFSET < offset + size
        and device.device_features >> BlkFeature.VIRTIO_BLK_F_CONFIG_WCE & 1
        and not (device.status & 8 or device.legacy)
    ):
        device.violation(
            "VIRTIO 1.4 §5.2.5.1", "writeback read before FEATURES_OK", written(device.status, 1)
        )


def may_write(device: VirtioBlk, offset: int, size: int, value: int) -> bool:
    """Whether a driver's write is one of `writeback` that it may do; where not, it has been reported."""
    if offset != WRITEBACK_OFFSET or size != 1:
        device.violation(
            "VIRTIO 1.4 §5.2.4",
            f"write of {size} bytes at configuration offset {offset}",
            written(value, size),
        )
    elif not _may_set_writeback(device):
        device.violation(OPERATION, "writeback written without VIRTIO_BLK_F_CONFIG_WCE", written(value, size))
    elif value > 1:
        device.violation(OPERATION, f"writeback set to {value}, expected 0 or 1", written(value, size))
    else:
        return True
    return False


def _may_set_writeback(device: VirtioBlk) -> bool:
    """Whether CONFIG_WCE is negotiated; the legacy interface needs it offered only (VIRTIO 1.4 §5.2.5.3)."""
    features = device.device_features if device.legacy else device.driver_features
    return bool(features >> BlkFeature.VIRTIO_BLK_F_CONFIG_WCE & 1)
