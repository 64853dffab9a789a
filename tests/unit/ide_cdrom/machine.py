"""A machine with an IDE controller in a line: a disk as unit 0 and a CD drive as unit 1 of its first channel."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from devmodels.ata.disk import AtaDisk, AtaDiskOptions
from devmodels.ata.packet import AtapiDevice, AtapiOptions
from devmodels.blockbackend import BlockBackend
from devmodels.blockbackend.removable import EmptyNode
from devmodels.ide_cdrom import Channel, PiixIde
from devmodels.scsi.mmc import CdDrive
from devmodels.scsi.mmc.options import Interface
from guestsim.drivers.ide import IdeChannel, IdeController, probe
from guestsim.drivers.pci import scan
from guestsim.guest import Guest
from guestsim.targets.inprocess import InProcessTarget

T = TypeVar("T")
MIB = 1 << 20
BLOCKS = 64


def sector(number: int) -> bytes:
    """What sector `number` of the disk holds."""
    return f"sector {number:8} ".encode() * 32


def block(number: int) -> bytes:
    """What block `number` of the disc holds."""
    return f"block  {number:8} ".encode() * 128


class IdeMachine:
    """`disk` and `disc` are nodes' options instead of images of numbered sectors; `only` one of them is a device;
    with `empty` the drive has no disc; `options` are the disk's.

    `shared` False: devices can only copy from and to memory.
    """

    def __init__(
        self,
        *,
        disk: Mapping[str, object] | None = None,
        disc: Mapping[str, object] | None = None,
        only: str = "both",
        native: bool = False,
        shared: bool = True,
        probed: bool = True,
        empty: bool = False,
        profile: str = "strict",
        **options: Any,
    ) -> None:
        self._folder = TemporaryDirectory()
        image = Path(self._folder.name)
        (image / "disk").write_bytes(b"".join(map(sector, range(64))).ljust(MIB, b"\0"))
        (image / "disc").write_bytes(b"".join(map(block, range(BLOCKS))))
        file = {"driver": "file"}
        nodes = [
            {**(disk or {**file, "filename": str(image / "disk")}), "node-name": "d0"},
            {**(disc or {**file, "filename": str(image / "disc"), "read-only": True}), "node-name": "c0"},
        ]
        self.target = InProcessTarget(blockdevs=nodes, shared=shared, profile=profile)
        assembly = self.target.assembly
        machine = assembly.machine
        self.function = PiixIde(
            "piix3-ide",
            name="ide0",
            context=assembly.context,
            memory=assembly.memory,
            violations=assembly.violations,
            irqs=None if native else (machine.irq(14), machine.irq(15)),
            native=native,
        )
        machine.plug(self.function, 4)
        self.channel: Channel = self.function.channels[0]
        if only in ("both", "disk"):
            self.backend = BlockBackend(assembly.graph.nodes["d0"], name="hd0", run_state=assembly.run_state)
            self.disk = AtaDisk(self.backend, AtaDiskOptions(**options), violations=assembly.violations)
            self.channel.attach(self.disk, 0)
        if only in ("both", "cd"):
            node = EmptyNode(assembly.context) if empty else assembly.graph.nodes["c0"]
            self.cd_backend = BlockBackend(node, name="cd0", read_only=True)
            drive = CdDrive(
                self.cd_backend,
                AtapiOptions().unit_options,
                interface=Interface.ATAPI,
                violations=assembly.violations,
            )
            self.cd = AtapiDevice(drive, violations=assembly.violations)
            self.channel.attach(self.cd, 1 if only == "both" else 0)
        self.guest = Guest(self.target)
        (found,) = [each for each in scan(self.guest) if each.device == 0x7010]
        self.controller = IdeController(self.guest, found)
        self.ide: IdeChannel = self.controller.channels[0]
        if probed:
            self.run(probe(self.ide))

    def run(self, coro: Coroutine[object, None, T]) -> T:
        """Run a driver's coroutine to its end."""
        return self.guest.run(coro)

    def violations(self) -> list[str]:
        """Clauses of what the guest did wrong."""
        return [clause for clause, _ in self.target.violations() or []]

    def __enter__(self) -> IdeMachine:
        return self

    def __exit__(self, *_: object) -> None:
        self.guest.close()
        self.target.close()
        self._folder.cleanup()
