"""The device with its queues where its user wants them: on threads, or on the machine's own context."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from devmodels.blockbackend import BlockBackend
from devmodels.conformance import ViolationLog
from devmodels.iocontext import IoContext, IoThread
from devmodels.memory import GuestMemory
from devmodels.virtio.device import CORE_FEATURES
from devmodels.virtio_blk.config import VirtioBlkOptions
from devmodels.virtio_blk.device import VirtioBlk


def virtio_blk(
    backend: BlockBackend,
    options: VirtioBlkOptions,
    threads: Sequence[IoThread],
    *,
    name: str,
    context: IoContext,
    memory: GuestMemory,
    violations: ViolationLog | None = None,
    core_features: int = CORE_FEATURES,
) -> VirtioBlk:
    """The device, with queues on `threads` where there are any."""
    make: Callable[..., VirtioBlk] = partial(VirtioBlk, backend, options)
    if threads:
        from devmodels.virtio_blk.threaded import ThreadedVirtioBlk

        make = partial(ThreadedVirtioBlk, backend, options, threads)
    return make(name=name, context=context, memory=memory, violations=violations, core_features=core_features)
