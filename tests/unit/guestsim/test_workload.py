"""The random workload finds what a disk does wrong."""

from __future__ import annotations

import pytest

from devmodels.blockbackend.drivers.memory import MemoryNode
from devmodels.blockbackend.request import Request
from guestsim import workload
from guestsim.disk import Disk, boot
from guestsim.drivers.virtio_blk import Answer, Pending, RequestError, VirtioBlk
from guestsim.guest import Guest
from guestsim.quick import NODE, disk_machine
from guestsim.targets.inprocess import InProcessTarget
from guestsim.workload import Workload, WorkloadError

MIX = (("read", 3), ("write", 3), ("zero", 1), ("discard", 1), ("flush", 1))


@pytest.mark.disk(size="1M")
def test_a_good_disk_is_as_modelled(disk: Disk) -> None:
    work = Workload(0, 1 << 20, requests=200, seed=1, depth=8, scatter=4, mix=MIX)
    counts = disk.guest.run(workload.run(disk.driver, work))
    assert sum(counts.values()) == 200
    assert set(counts) == {"read", "write", "zero", "discard", "flush"}


def test_a_lost_write_is_found(guest_memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device answers every write with OK; one of them never reaches the drive."""
    calls = 0
    real = MemoryNode.write

    async def write(node: MemoryNode, request: Request) -> None:
        nonlocal calls
        calls += 1
        if calls != 20:
            await real(node, request)

    monkeypatch.setattr(MemoryNode, "write", write)
    work = Workload(0, 1 << 20, requests=100, seed=1, mix=(("write", 1),), max_length=4096)
    with disk_machine(1 << 20, shared=guest_memory == "shared") as machine:
        disk = boot(Guest(machine))
        with pytest.raises(WorkloadError, match="does not hold what was written last"):
            disk.guest.run(workload.run(disk.driver, work))


@pytest.mark.disk(size="64k")
def test_reads_are_compared_as_they_come(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    real = VirtioBlk.finish
    reads = 0

    async def lies(driver: VirtioBlk, pending: Pending, timeout_ns: int | None = None) -> Answer:
        nonlocal reads
        reads += 1
        answer = await real(driver, pending, timeout_ns)
        # The first read gives the model its contents.
        flip = 0 if reads == 1 else 1
        data = bytes(byte ^ flip for byte in answer.data)
        return Answer(answer.status, data, answer.used_length, answer.duration_ns)

    monkeypatch.setattr(VirtioBlk, "finish", lies)
    work = Workload(0, 65536, requests=30, seed=1, mix=(("read", 1),), max_length=2048)
    with pytest.raises(WorkloadError, match="after 1 requests"):
        disk.guest.run(workload.run(disk.driver, work))


@pytest.mark.disk(size="1M")
def test_a_failed_request_ends_it(disk: Disk, machine: InProcessTarget) -> None:
    machine.resize(NODE, 4096)
    work = Workload(0, 1 << 20, requests=10)
    with pytest.raises(RequestError):
        disk.guest.run(workload.run(disk.driver, work))
