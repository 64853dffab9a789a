"""The device with its queues where its user wants them: on threads, or on the machine's own context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from devmodels.blockbackend import BlockBackend
from devmodels.iocontext import IoThread
from devmodels.virtio.devicetype import Surroundings
from devmodels.virtio_blk.config import VirtioBlkOptions
from devmodels.virtio_blk.device import VirtioBlk


def virtio_blk(
    backend: BlockBackend,
    options: VirtioBlkOptions,
    threads: Sequence[IoThread],
    **surroundings: Unpack[Surroundings],
) -> VirtioBlk:
    """The device, with queues on `threads` where there are any."""
    if not threads:
        return VirtioBlk(backend, options, **surroundings)
    from devmodels.virtio_blk.threaded import ThreadedVirtioBlk

    return ThreadedVirtioBlk(backend, options, threads, **surroundings)
