"""The device with its queues where its user wants them: on threads, or on the machine's own context."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from devmodels.conformance import ViolationLog
from devmodels.iocontext import IoContext, IoThread
from devmodels.memory import GuestMemory
from devmodels.virtio.device import CORE_FEATURES
from devmodels.virtio_scsi.config import VirtioScsiOptions
from devmodels.virtio_scsi.device import VirtioScsi


def virtio_scsi(
    options: VirtioScsiOptions,
    threads: Sequence[IoThread],
    *,
    name: str,
    context: IoContext,
    memory: GuestMemory,
    violations: ViolationLog | None = None,
    core_features: int = CORE_FEATURES,
) -> VirtioScsi:
    """The device, with request queues on `threads` where there are any."""
    make: Callable[..., VirtioScsi] = partial(VirtioScsi, options)
    if threads:
        from devmodels.virtio_scsi.threaded import ThreadedVirtioScsi

        make = partial(ThreadedVirtioScsi, options, threads)
    return make(name=name, context=context, memory=memory, violations=violations, core_features=core_features)
