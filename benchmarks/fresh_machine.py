"""A fresh machine with a disk, from nothing to its first completed request, as a simulated guest sees it.

Run as a program it prints `done` when the request is completed, so that whoever started the process can time it.
"""

from __future__ import annotations

import time

from guestsim.drivers.virtio_blk import VirtioBlk, find
from guestsim.guest import Guest
from guestsim.targets.inprocess import InProcessTarget

SIZE = 64 << 20
NODE = {"driver": "null-co", "size": SIZE, "read-zeroes": True, "node-name": "d0"}
DEVICE = {"driver": "virtio-blk-pci", "drive": "d0", "addr": "4"}
SECTOR = 512


def first_request() -> float:
    """Makes the machine, finds the disk on the PCI bus, negotiates, reads sector 0; the seconds that this took.

    Taking the machine down is not in the time.
    """
    start = time.perf_counter()
    with InProcessTarget(blockdevs=[NODE], devices=[DEVICE]) as target:
        guest = Guest(target)
        guest.run(_read_sector(guest))
        return time.perf_counter() - start


async def _read_sector(guest: Guest) -> None:
    disk = VirtioBlk(guest, find(guest)[0])
    await disk.probe()
    if await disk.read(0, SECTOR) != bytes(SECTOR):
        raise ValueError("sector 0 of a null-co node does not read as zeroes")


if __name__ == "__main__":
    first_request()
    print("done", flush=True)
