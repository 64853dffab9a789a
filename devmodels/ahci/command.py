"""A command of a port's command list, on its way through the device."""

from __future__ import annotations

from devmodels.ahci.prdt import Regions
from devmodels.ata import AtaCommand, TaskFile
from devmodels.ata.command import HostAdapter
from devmodels.dma import DmaMap


class Header:
    """A command header, copied out once.  `regions`: its PRD table, where that has been read already."""

    __slots__ = ("address", "flags", "prdtl", "regions", "table")

    def __init__(self, address: int, flags: int, prdtl: int, ctba: int, ctbau: int) -> None:
        self.address = address
        self.flags = flags
        self.prdtl = prdtl
        self.table = ctbau << 32 | ctba & ~0x7F
        self.regions: Regions | None = None


class PortCommand(AtaCommand):
    """The command of `slot`.  `dma` maps its data, `length` bytes of which are moved; `interrupt`: PxIS.DPS follows."""

    __slots__ = ("dma", "header", "interrupt", "length", "slot")

    def __init__(
        self, host: HostAdapter, taskfile: TaskFile, slot: int, header: Header, packet: bytes | None
    ) -> None:
        super().__init__(host, taskfile, slot, packet)
        self.slot = slot
        self.header = header
        self.dma: DmaMap | None = None
        self.length = 0
        self.interrupt = False
