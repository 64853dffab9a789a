"""The device with its queues where its user wants them: on threads, or on the machine's own context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from devmodels.iocontext import IoThread
from devmodels.virtio.devicetype import Surroundings
from devmodels.virtio_scsi.config import VirtioScsiOptions
from devmodels.virtio_scsi.device import VirtioScsi


def virtio_scsi(
    options: VirtioScsiOptions,
    threads: Sequence[IoThread],
    **surroundings: Unpack[Surroundings],
) -> VirtioScsi:
    """The device, with request queues on `threads` where there are any."""
    if not threads:
        return VirtioScsi(options, **surroundings)
    from devmodels.virtio_scsi.threaded import ThreadedVirtioScsi

    return ThreadedVirtioScsi(options, threads, **surroundings)
