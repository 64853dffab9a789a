"""A split virtqueue as QEMU 7.2's devices have it, where that is something else than VIRTIO 1.4 §2.7."""

from __future__ import annotations

from devmodels.virtio.layout import VIRTQ_DESC_F_NEXT
from devmodels.virtio.ring import Chain
from devmodels.virtio.split import Fetch, SplitRing


class SplitRingAsQemu(SplitRing):
    """A first descriptor with both INDIRECT and NEXT refers to its table all the same (§2.7.5.3.1)."""

    __slots__ = ()

    def _walk_table(self, chain: Chain, address: int, length: int, flags: int, fetch: Fetch) -> int:
        if not (chain.readable or chain.writable):
            flags &= ~VIRTQ_DESC_F_NEXT
        return super()._walk_table(chain, address, length, flags, fetch)
