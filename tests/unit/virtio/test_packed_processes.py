"""A packed ring between two processes: neither sees half of what the other has written, in any order."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from devmodels.memory import GuestMemory
from devmodels.memoryregions import SharedRegion
from devmodels.virtio.packed import PackedRing
from devmodels.virtio.ring import Chain
from tests.unit.virtio.packed_peer import DEVICE, DRIVER, END, RING, SIZE, elements, ident

BUFFERS = 6_000
ROOT = Path(__file__).parents[3]


@pytest.mark.long
def test_buffers_go_between_processes_whole() -> None:
    fd = os.memfd_create("ring")
    os.ftruncate(fd, END)
    mapping = mmap.mmap(fd, END, mmap.MAP_SHARED)
    in_flight: dict[int, Chain] = {}
    ring = PackedRing(GuestMemory(SharedRegion(0, mapping)), SIZE, (RING, DRIVER, DEVICE), 0, in_flight)
    command = [sys.executable, "-m", "tests.unit.virtio.packed_peer", str(fd), str(BUFFERS)]
    number = 0
    with subprocess.Popen(command, pass_fds=(fd,), cwd=ROOT) as driver:
        while driver.poll() is None:
            count = ring.available()
            chains: list[Chain] = []
            ring.take(min(count, 16), 4096, chains)
            for chain in chains:
                del in_flight[chain.head]
                *readable, (address, length, _) = elements(number)
                assert chain.head == ident(number)
                assert chain.readable == [(address, length) for address, length, _ in readable]
                assert chain.writable == [(address, length)]
                number += 1
            # Backwards where the ids allow it: in the order of completion.
            ring.push([(chain, chain.writable_bytes) for chain in reversed(chains)])
            ring.publish()
    os.close(fd)
    assert driver.returncode == 0
    assert number == BUFFERS
