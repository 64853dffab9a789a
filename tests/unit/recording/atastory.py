"""A guest and its host at a recorded machine with ATA devices: whatever they do, the trace has it done again."""

from __future__ import annotations

import struct
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TypeVar

from guestsim.drivers import ahci, ata
from guestsim.drivers.ahci import Ahci
from guestsim.drivers.ahci_command import Pending
from guestsim.drivers.ahci_layouts import HEADER, Cmd, Ghc, Hba, PortReg
from guestsim.drivers.ahci_port import AhciPort
from guestsim.drivers.ide import IdeChannel, IdeController, probe
from guestsim.drivers.ide_layouts import AtaCommand
from guestsim.drivers.ide_task import Task, Way
from guestsim.drivers.pci import scan
from guestsim.drivers.transport import Interrupts
from guestsim.guest import Guest
from guestsim.targets.inprocess import InProcessTarget
from tests.unit.ide_cdrom.test_properties import TABLE, WINDOW, do

T = TypeVar("T")
MIB = 1 << 20
SLOT = 4
US = 1000


class AtaStory:
    """A disk and a CD drive, slow ones if wanted; `host` and `devices` as options have them."""

    def __init__(
        self,
        path: Path,
        host: dict[str, object],
        devices: Sequence[dict[str, object]],
        *,
        latency_ns: int = 0,
        shared: bool = True,
    ) -> None:
        nodes: list[dict[str, object]] = []
        for number, options in enumerate(devices):
            disk: dict[str, object] = {"driver": "memory", "size": MIB, "discard": "unmap"}
            if latency_ns:
                disk = {
                    "driver": "delay",
                    "latency-ns": latency_ns * (number + 1),
                    "file": disk,
                    "discard": "unmap",
                }
            if options["driver"] == "ide-cd":
                disk["read-only"] = True
            nodes.append({**disk, "node-name": str(options["drive"])})
        self.devices = {str(options["id"]): options for options in devices}
        self.machine = InProcessTarget(blockdevs=nodes, devices=[host, *devices], shared=shared)
        self.assembly = self.machine.assembly
        self.machine.record(path)
        self.guest = Guest(self.machine)

    def settle(self) -> None:
        """Let everything come to its end."""
        self.guest.run(self.guest.settle())

    def turn(self) -> None:
        """Let the context have one turn."""
        self.assembly.context.turn()

    def stop(self) -> None:
        """Stop the machine."""
        self.machine.stop()

    def cont(self) -> None:
        """Let it go on."""
        self.machine.cont()

    def machine_reset(self) -> None:
        """Reset it."""
        self.assembly.machine.reset()

    def resize(self, halves: int) -> None:
        """The disk gets another size."""
        backend = self.assembly.drives.get("hd0")
        if backend is not None:
            self.assembly.context.start(backend.resize(halves * (MIB // 2)), lambda *_: None)

    def unplug(self, name: str) -> None:
        """Take a device out."""
        if name in self.assembly.ata_units and self.assembly.run_state.running:
            self.assembly.context.run(self.assembly.remove_device(name))

    def plug(self, name: str) -> None:
        """Put it back."""
        if name not in self.assembly.ata_units:
            self.assembly.add_device(self.devices[name])

    def close(self) -> None:
        """Give the machine up."""
        self.guest.close()
        self.machine.close()


AHCI = {"driver": "ich9-ahci", "id": "sata0", "addr": str(SLOT), "ports": 2}
AHCI_DEVICES: list[dict[str, object]] = [
    {"driver": "ide-hd", "id": "hd0", "bus": "sata0.0", "drive": "d0"},
    {"driver": "ide-cd", "id": "cd0", "bus": "sata0.1", "drive": "c0"},
]


IDE_DEVICES: list[dict[str, object]] = [
    {"driver": "ide-hd", "id": "hd0", "bus": "ide0.0", "unit": 0, "drive": "d0"},
    {"driver": "ide-cd", "id": "cd0", "bus": "ide0.0", "unit": 1, "drive": "c0"},
]


class AhciStory(AtaStory):
    """At the ports of an HBA."""

    def __init__(
        self,
        path: Path,
        *,
        latency_ns: int = 0,
        shared: bool = True,
        interrupts: Interrupts = Interrupts.MSIX,
    ) -> None:
        super().__init__(path, AHCI, AHCI_DEVICES, latency_ns=latency_ns, shared=shared)
        self._interrupts = interrupts
        self.hba: Ahci
        self.probe()

    @property
    def port(self) -> AhciPort:
        """That of the disk."""
        return self.hba.ports[0]

    def probe(self) -> None:
        """Another guest begins."""
        self.guest.close()
        self.guest = Guest(self.machine)
        (function,) = [each for each in ahci.find(self.guest) if each.slot == SLOT]
        self.hba = Ahci(self.guest, function)
        self.guest.run(self.hba.probe(interrupts=self._interrupts))

    def send(self, number: int, commands: Sequence[ata.AtaCommand]) -> list[Pending]:
        """Commands to a port's device; nobody waits for them.  An error before is recovered from."""
        port = self.hba.ports[number]
        if port.failed or not port.read(PortReg.CMD) & Cmd.ST:
            self.recover(number)
        return port.submit(*commands)

    def broken(self, flags: int, prdtl: int, table: int) -> None:
        """A command header that says whatever."""
        port = self.port
        header = HEADER.pack(flags & 0xFFFF, prdtl & 0xFFFF, 0, table & 0xFFFF_FFFF, table >> 32)
        self.guest.memory.write(port.list, header)
        port.write(0x38, 1)

    def write(self, number: int, register: int, value: int) -> None:
        """Any register of a port."""
        self.hba.ports[number].write(register, value)

    def recover(self, number: int) -> None:
        """As after an error."""
        self.guest.run(self.hba.ports[number].clear_errors())

    def comreset(self, number: int) -> None:
        """The link is reset."""
        port = self.hba.ports[number]
        self.guest.run(port.stop())
        self.guest.run(port.comreset())

    def hba_reset(self) -> None:
        """Everything is reset."""
        self.hba.write(Hba.GHC, Ghc.AE | Ghc.HR)


class IdeStory(AtaStory):
    """On the first channel of a PIIX, which is driven by raw accesses; `ide` is the driver's view of that."""

    def __init__(
        self,
        path: Path,
        *,
        latency_ns: int = 0,
        shared: bool = True,
        native: bool = False,
        probed: bool = True,
    ) -> None:
        host = {"driver": "piix3-ide", "id": "ide0", "addr": str(SLOT), "native": native}
        super().__init__(path, host, IDE_DEVICES, latency_ns=latency_ns, shared=shared)
        self.target = self.machine
        self.channel = self.assembly.ata_buses["ide0.0"]
        self.ide: IdeChannel
        self.probe(probed=probed)

    def probe(self, *, probed: bool = True) -> None:
        """Another guest begins."""
        self.guest.close()
        self.guest = Guest(self.machine)
        (function,) = [each for each in scan(self.guest) if each.slot == SLOT]
        self.ide = IdeController(self.guest, function).channels[0]
        self.base = self.guest.memory.allocate(WINDOW, 0x1_0000)
        if probed:
            self.run(probe(self.ide))

    def run(self, coro: Coroutine[object, None, T]) -> T:
        """Run a driver's coroutine to its end."""
        return self.guest.run(coro)

    def access(self, access: tuple[str, object, object]) -> None:
        """What a guest may do with a channel."""
        do(self, self.ide, self.base, access)

    def transfer(self, lba: int, count: int, *, dma: bool, out: bool) -> None:
        """A command of the disk, to its end."""
        length, data = 512 * count, bytes([lba & 0xFF]) * 512 * count if out else b""
        opcode = {(0, 0): 0x20, (0, 1): 0x30, (1, 0): 0xC8, (1, 1): 0xCA}[dma, out]
        way = {(0, 0): Way.PIO_IN, (0, 1): Way.PIO_OUT, (1, 0): Way.DMA_IN, (1, 1): Way.DMA_OUT}[dma, out]
        task = Task(AtaCommand(opcode), lba=lba, count=count, way=way, length=length, data=data)
        self.run(self.ide.do(0, task))

    def packet(self, lba: int, count: int, limit: int, *, dma: bool) -> None:
        """READ (10) of the drive, to its end."""
        cdb = bytes((0x28, 0, 0, 0, 0, lba, 0, 0, count, 0, 0, 0))
        self.run(self.ide.packet(1, cdb, room=2048 * count, limit=limit, dma=dma))

    def clear(self) -> None:
        """A software reset, and whatever the drive has to tell."""
        self.run(self.ide.reset())
        self.run(self.ide.packet(1, bytes(12)))

    def table(self, regions: list[tuple[int, int, bool]]) -> None:
        """A table of regions for the bus master."""
        parts = (
            struct.pack("<IHH", self.base + offset, count, 0x8000 * last) for offset, count, last in regions
        )
        self.guest.memory.write(self.base + TABLE, b"".join(parts))
