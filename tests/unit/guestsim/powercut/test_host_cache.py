"""The power of the host goes: what a `file` node has not made stable with its system calls may be lost.

The system calls of the driver are listened to.  A sector is stable from an fdatasync(2) on that comes after it was
written, or a pwritev2(2) with RWF_DSYNC; of the others any may be on the host's disk, in any order.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from devmodels.blockbackend import Request
from devmodels.blockbackend.drivers import file as driver
from devmodels.blockbackend.drivers import linux
from guestsim.powercut.machine import CutMachine
from guestsim.powercut.simulate import Run, sample, simulate
from guestsim.powercut.stacks import STACKS, Stack, WriteCache

SECTOR = 512
IMAGE = "disk.img"


class HostCache:
    """One image on a host: `stable` is on its disk, `volatile` are the sectors written since, in order."""

    def __init__(self) -> None:
        self.path = ""
        self.stable = bytearray()
        self.volatile: list[tuple[int, bytes]] = []

    def follows(self, fd: int) -> bool:
        """Whether `fd` is the image; a new one is taken as it is."""
        path = os.readlink(f"/proc/self/fd/{fd}")
        if not path.endswith(IMAGE):
            return False
        if path != self.path:
            self.path = path
            self.stable = bytearray(Path(path).read_bytes())
            self.volatile.clear()
        return True

    def wrote(self, start: int, end: int, *, stable: bool) -> None:
        data = Path(self.path).read_bytes()
        for at in range(start // SECTOR * SECTOR, end, SECTOR):
            if stable:
                self.stable[at : at + SECTOR] = data[at : at + SECTOR]
                self.volatile = [one for one in self.volatile if one[0] != at]
            else:
                self.volatile.append((at, data[at : at + SECTOR]))

    def synced(self) -> None:
        self.stable = bytearray(Path(self.path).read_bytes())
        self.volatile.clear()

    def left(self, choice: str) -> bytearray:
        image = bytearray(self.stable)
        chance = random.Random(choice)
        survivors = [one for one in self.volatile if chance.random() < 0.5]
        chance.shuffle(survivors)
        if choice == "all":
            survivors = self.volatile
        elif choice == "none":
            survivors = []
        for at, data in survivors:
            image[at : at + SECTOR] = data
        return image


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[HostCache]:
    host = HostCache()
    fallocate = linux.fallocate

    def pwritev(fd: int, buffers: Sequence[memoryview], offset: int, flags: int = 0) -> int:
        followed = host.follows(fd)
        count = os.pwritev(fd, buffers, offset, flags)
        if followed:
            host.wrote(offset, offset + count, stable=bool(flags & os.RWF_DSYNC))
        return count

    def fdatasync(fd: int) -> None:
        if host.follows(fd):
            host.synced()

    def allocate(fd: int, mode: int, offset: int, length: int) -> None:
        followed = host.follows(fd)
        fallocate(fd, mode, offset, length)
        if followed:
            host.wrote(offset, offset + length, stable=False)

    def left(machine: CutMachine, choice: str) -> bytes:
        image = host.left(choice)
        for change in machine.cache.survivors(choice):
            image[change.start : change.end] = change.data or bytes(change.end - change.start)
        return bytes(image)

    names: dict[str, Any] = {name: getattr(os, name) for name in dir(os) if not name.startswith("__")}
    names |= {"pwritev": pwritev, "fdatasync": fdatasync}
    monkeypatch.setattr(driver, "os", SimpleNamespace(**names))
    monkeypatch.setattr(linux, "fallocate", allocate)
    monkeypatch.setattr(CutMachine, "left", left)
    # The cache of the disk keeps next to nothing, so that the host has something to lose.
    monkeypatch.setitem(STACKS, "host", Stack(file=True, cache={"capacity": 0}))
    yield host
    assert host.path


def losses(write_cache: WriteCache, runs: int = 1) -> bool:
    """Whether anything is lost."""
    for seed in range(runs):
        run = Run("mmio", "host", write_cache, seed, requests=25)
        if simulate(run, sample(run, 25)).loss is not None:
            return True
    return False


@pytest.mark.long
@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("write_cache", [WriteCache.ON, WriteCache.OFF])
def test_nothing_is_lost(write_cache: WriteCache) -> None:
    assert not losses(write_cache)


async def nothing(_node: driver.FileNode, _request: Request) -> None:
    pass


def flush_without_sync(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(driver.FileNode, "flush", nothing)


def fua_without_dsync(patch: pytest.MonkeyPatch) -> None:
    async def broken(node: driver.FileNode, vectors: Sequence[memoryview], offset: int) -> None:
        await node._put(vectors, offset, 0)

    patch.setattr(driver.FileNode, "_write_through", broken)


def zeroes_without_sync(patch: pytest.MonkeyPatch) -> None:
    write_zeroes = driver.FileNode.write_zeroes

    async def broken(node: driver.FileNode, request: Request) -> None:
        await write_zeroes(node, request.derive(request.offset, request.length, flags=type(request.flags)(0)))

    patch.setattr(driver.FileNode, "write_zeroes", broken)


@pytest.mark.long
@pytest.mark.usefixtures("host")
@pytest.mark.parametrize(
    ("breakage", "write_cache"),
    [
        (flush_without_sync, WriteCache.ON),
        (fua_without_dsync, WriteCache.OFF),
        (zeroes_without_sync, WriteCache.OFF),
    ],
)
def test_what_the_driver_forgets_is_found(
    breakage: Callable[[pytest.MonkeyPatch], None], write_cache: WriteCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    breakage(monkeypatch)
    assert losses(write_cache, runs=4)
