"""Virtio block devices over a faulty node, each with a guest and a machine: on PCI, on MMIO, over vhost-user."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

from devmodels.blockbackend import BlockBackend, Graph
from devmodels.blockbackend.errorpolicy import OnReadError, OnWriteError
from devmodels.conformance import Profile
from devmodels.events import Events
from devmodels.exports.vhost_user_blk import VhostUserBlkOptions, vhost_user_blk
from devmodels.iocontext import IoContext
from devmodels.options import convert
from devmodels.runstate import RunState
from devmodels.virtio_blk import VirtioBlk
from guestsim.disk import boot
from guestsim.drivers import virtio_blk
from guestsim.drivers.blk_operation import Operation
from guestsim.drivers.layouts import BlkFeature
from guestsim.guest import Guest
from guestsim.targets.inprocess import InProcessTarget

from . import faulty
from .exports import frontend as fe


class Device(Protocol):
    """A virtio block device over a faulty node, with its guest and its machine."""

    backend: BlockBackend
    run_state: RunState

    def submit(self, operation: Operation) -> None:
        """Give the device one request."""

    def answer(self) -> tuple[int, bytes] | None:
        """Status and data of the request, whose used length is right; None where there is no answer."""


class InMachine:
    """A device of a machine in process, driven by guestsim."""

    def __init__(self, driver: str, rerror: OnReadError, werror: OnWriteError) -> None:
        device: dict[str, object] = {"driver": driver, "drive": "d0", "id": "vd0", "secure-erase": True}
        self.target = InProcessTarget(
            blockdevs=[faulty.options()], devices=[{**device, "rerror": rerror, "werror": werror}]
        )
        self.backend = self.target.assembly.backends["d0"]
        self.run_state = self.target.assembly.run_state
        self.guest = Guest(self.target)
        self.disk = boot(self.guest)
        self.pending: list[virtio_blk.Pending] = []

    def submit(self, operation: Operation) -> None:
        self.pending += self.guest.run(self.disk.driver.submit([operation]))

    def answer(self) -> tuple[int, bytes] | None:
        self.guest.run(self.guest.settle())
        if not self.pending or not self.pending[0].done:
            return None
        found = self.guest.run(self.disk.driver.finish(self.pending.pop()))
        assert found.status is not None
        return found.status, found.data


class OverVhostUser:
    """An export, driven by a front end of a few lines."""

    HEADER, INPUT = 0x8000, 0x20000

    def __init__(self, folder: Path, rerror: OnReadError, werror: OnWriteError) -> None:
        self.context = IoContext.virtual()
        self.graph = Graph(self.context)
        self.run_state = RunState(Events())
        words = {
            "type": "vhost-user-blk",
            "id": "e0",
            "node-name": "d0",
            "addr": {"type": "unix", "path": str(folder / "s")},
            "writable": True,
            "secure-erase": True,
            "rerror": rerror,
            "werror": werror,
        }
        self.server = vhost_user_blk(
            convert(words, VhostUserBlkOptions, what="export"),
            self.graph.add(faulty.options()),
            profile=Profile.STRICT,
            run_state=self.run_state,
        )
        assert isinstance(self.server.device, VirtioBlk)
        self.backend = self.server.device.backend
        self.front_end = fe.FrontEnd(Path(self.server.path), self.context)
        wanted = ("FLUSH", "CONFIG_WCE", "DISCARD", "WRITE_ZEROES", "SECURE_ERASE")
        features = sum(1 << BlkFeature[name] for name in wanted)
        (self.ring,) = self.front_end.up(features=fe.F_PROTOCOL | fe.F_VERSION_1 | features)

    def submit(self, operation: Operation) -> None:
        memory, ring = self.front_end.memory.bytes, self.ring
        readable, self.writable = operation.readable, operation.writable
        memory[self.HEADER : self.HEADER + len(readable)] = readable
        memory[self.INPUT : self.INPUT + self.writable] = b"\xff" * self.writable
        parts = ((self.HEADER, len(readable), 1, 1), (self.INPUT, self.writable, 2, 0))
        for number, (offset, length, flags, following) in enumerate(parts):
            at = ring.desc + 16 * number
            memory[at : at + 16] = struct.pack("<QIHH", fe.GUEST_BASE + offset, length, flags, following)
        struct.pack_into("<H", memory, ring.avail + 4 + 2 * (ring.avail_idx % ring.size), 0)
        ring.avail_idx += 1
        struct.pack_into("<H", memory, ring.avail + 2, ring.avail_idx)
        self.front_end.kick(0)

    def answer(self) -> tuple[int, bytes] | None:
        self.context.run_until_idle()
        used = self.ring.taken_back()
        if not used:
            return None
        assert used == [(0, self.writable)]
        written = bytes(self.front_end.memory.bytes[self.INPUT : self.INPUT + self.writable])
        return written[-1], written[:-1]

    def close(self) -> None:
        self.front_end.close()
        self.server.close()
        self.context.run_until_idle()
        self.graph.close()
        self.context.close()


@contextmanager
def in_machine(driver: str, _folder: Path, rerror: OnReadError, werror: OnWriteError) -> Iterator[Device]:
    found = InMachine(driver, rerror, werror)
    with found.target:
        yield found


@contextmanager
def over_vhost_user(folder: Path, rerror: OnReadError, werror: OnWriteError) -> Iterator[Device]:
    found = OverVhostUser(folder, rerror, werror)
    try:
        yield found
    finally:
        found.close()


DEVICES: dict[str, Callable[[Path, OnReadError, OnWriteError], AbstractContextManager[Device]]] = {
    "virtio-blk-pci": partial(in_machine, "virtio-blk-pci"),
    "virtio-blk-device": partial(in_machine, "virtio-blk-device"),
    "vhost-user-blk": over_vhost_user,
}
