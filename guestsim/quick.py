"""A ready-made machine in this process, in one call, and how long it takes to its first request."""

from __future__ import annotations

import time

from guestsim.disk import boot
from guestsim.guest import Guest
from guestsim.targets.inprocess import InProcessTarget, option_names

MIB = 1 << 20
NODE = "disk0"
DEVICE = "vd0"


def disk_machine(
    size: int = 16 * MIB, *, shared: bool = True, clock: str = "virtual", **device: str | int | bool
) -> InProcessTarget:
    """A machine with one virtio-blk disk of `size` bytes in memory: node `disk0`, device `vd0`.

    Further keywords are options of the device, with underscores for hyphens (`num_queues=4`).  Raises `TargetError`
    where one is wrong.
    """
    return InProcessTarget(
        blockdevs=[{"driver": "memory", "node-name": NODE, "size": size}],
        devices=[{"driver": "virtio-blk-pci", "drive": NODE, "id": DEVICE} | option_names(device)],
        shared=shared,
        clock=clock,
    )


def first_request() -> float:
    """Seconds from nothing to the first completed read: a machine is built, a guest boots, a disk is probed."""
    start = time.perf_counter()
    with disk_machine() as machine:
        boot(Guest(machine)).read(0, 4096)
        return time.perf_counter() - start
