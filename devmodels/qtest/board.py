"""The boards: `none`, `pc` and `q35`, with RAM, chipset and controllers where QEMU has them."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import count
from mmap import mmap
from typing import TYPE_CHECKING, Literal

from devmodels.assembly.assembly import Assembly
from devmodels.conformance import Profile, ViolationLog
from devmodels.memory import GuestMemory
from devmodels.memoryregions import SharedRegion
from devmodels.options import OptionError
from devmodels.qtest.chipset import pc_functions, q35_functions
from devmodels.qtest.firmware import CMOS_PORT, CMOS_PORTS, FW_CFG_PORT, FW_CFG_PORTS, Cmos, FwCfg
from devmodels.qtest.hotplug import HOTPLUG_PORT, HOTPLUG_PORTS, PciHotplug
from devmodels.qtest.interrupts import PC_WIRING, Q35_WIRING, InterruptLines
from devmodels.qtest.protocol import Qtest
from devmodels.qtest.space import Space

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devmodels.iocontext import IoContext
    from devmodels.iothreads import IoThreadOptions
    from devmodels.pci.bridge import PciBridge

BoardName = Literal["none", "pc", "q35"]
DEFAULT_RAM = 128 << 20
HIGH_MEMORY = 1 << 32
MAX_RAM = 1 << 40
PAGE = 4096
LOW_MEMORY = {"pc": (0xE000_0000, 0xC000_0000), "q35": (0xB000_0000, 0x8000_0000), "none": (0, 0)}
"""How much RAM can be below 4 GiB, and how much is there where that is not enough."""
BUSES = {"pc": "pci.0", "q35": "pcie.0"}
"""What a board's PCI bus is called."""
FIRST_OWN = {"pc": 17, "q35": 15}
"""The number that QEMU 7.2 with `-nodefaults` gives the board's controller among the board's devices."""
PIIX = ("piix3-ide", "piix4-ide")
IDE_PORTS = ((0x1F0, 0x3F6), (0x170, 0x376))


class Board:
    """One machine: `assembly` has its devices, `qtest` answers its client."""

    def __init__(
        self, name: BoardName, context: IoContext, *, ram: int = DEFAULT_RAM, clock: bool = True
    ) -> None:
        self.name = name
        self.context = context
        self.ram = 0 if name == "none" else ram
        pirqs = 8 if name == "q35" else 4
        self.interrupts = InterruptLines(pirqs, to_apic=name == "q35", tell=self._tell, find=self._path_of)
        self.assembly = Assembly(
            memory=_memory(name, self.ram),
            context=context,
            violations=ViolationLog(Profile.QEMU),
            on_message=None,
            on_intx=self.interrupts.pirq,
            on_irq=self.interrupts.isa,
            ecam=None,
            wiring=Q35_WIRING if name == "q35" else PC_WIRING,
            absent=0,
        )
        self.machine = self.assembly.machine
        self._own = count(FIRST_OWN.get(name, 0))
        self.machine.config_ports.mask = 0xFFFF_FFFF
        self.cmos = Cmos()
        self.threads: dict[str, IoThreadOptions] = {}
        """Iothreads that are nothing but names, by id."""
        self.geometries: dict[str, tuple[int, int, int]] = {}
        """What firmware is to believe of disks, by the device's id: `lcyls`, `lheads`, `lsecs`."""
        self.fw_cfg: FwCfg | None = None
        self.hotplug: PciHotplug | None = None
        self.bridges: dict[str, PciBridge] = {}
        """By the name of the bus behind."""
        self.space = Space(self.machine, ports=name != "none")
        self.qtest = Qtest(self.space, self.interrupts, context if clock else None)
        if name != "none":
            self._add_chipset()

    def _tell(self, line: str) -> None:
        self.qtest.tell(line)

    def _path_of(self, name: str) -> str | None:
        """The device that `name`, a path or the end of one, is of."""
        drives = (
            backend.qom_path.removesuffix("/virtio-backend") for backend in self.assembly.drives.values()
        )
        paths = (*self.assembly.paths.values(), *drives)
        return next((path for path in paths if f"/{path}".endswith(f"/{name}")), None)

    def _add_chipset(self) -> None:
        route = self.interrupts.route
        functions = (
            q35_functions(self.machine.bus, route) if self.name == "q35" else pc_functions(route, self.ram)
        )
        for slot, number, function in functions:
            self.machine.plug(function, slot, number)
        self.machine.claim_ports(CMOS_PORT, CMOS_PORTS, self.cmos)
        self.cmos.tell_memory(self.ram)
        self.assembly.ide_ports_decoded = True
        with self.own_devices():
            if self.name == "q35":
                self.assembly.add_device({"driver": "ich9-ahci", "addr": "1f.2"})
            else:
                self.assembly.add_device({"driver": "piix3-ide", "addr": "1.1"})

    @contextmanager
    def own_devices(self) -> Iterator[None]:
        """Devices that are added meanwhile are the board's: in QEMU's object tree they are elsewhere."""
        self.assembly.of_board = self._own
        try:
            yield
        finally:
            self.assembly.of_board = None

    def _decode_ide(self) -> None:
        """The channels' ports answer whatever the function's registers say: nobody is here to switch them on.

        Where there are several controllers, those of the newest do.
        """
        assembly = self.assembly
        assembly.ide_ports_decoded = False
        hosts = [
            host
            for name, host in reversed(assembly.ata_hosts.items())
            if assembly.options[name]["driver"] in PIIX
        ]
        if not hosts:
            return
        from devmodels.ide_cdrom import PiixIde  # with such a controller only
        from devmodels.ide_cdrom.function import AlternateStatusPort

        for host in hosts:
            assert isinstance(host, PiixIde)
            for channel, (command, control) in zip(host.channels, IDE_PORTS, strict=True):
                if not host.native:
                    self.machine.claim_ports(command, 8, channel.command_block, host)
                    self.machine.claim_ports(control, 1, AlternateStatusPort(channel), host)
                    self.space.narrow |= {*range(command + 1, command + 8), control}

    def finish(self) -> None:
        """All devices of the command line are there: firmware can be told."""
        if self.name == "none":
            return
        self._decode_ide()
        self.fw_cfg = FwCfg(self.ram, self._files)
        self.machine.claim_ports(FW_CFG_PORT, FW_CFG_PORTS, self.fw_cfg)
        self.hotplug = PciHotplug(self.assembly, self.bridges)
        if self.name == "pc":
            self.machine.claim_ports(HOTPLUG_PORT, HOTPLUG_PORTS, self.hotplug)
            if self.assembly.ata_units:
                from devmodels.qtest.geometry import tell_cmos  # with disks only

                tell_cmos(self.cmos, self.assembly)

    def _files(self) -> dict[str, bytes]:
        """What firmware finds by name."""
        if not self.geometries:
            return {"bios-geometry": b""}
        from devmodels.qtest.geometry import bios_geometry

        return {"bios-geometry": bios_geometry(self.assembly, self.geometries)}

    def close(self) -> None:
        """Give everything up."""
        self.assembly.close()
        for region in self.assembly.memory.regions:
            self.assembly.memory.remove(region)


def _memory(name: BoardName, ram: int) -> GuestMemory:
    if name == "none":
        return GuestMemory()
    if ram % PAGE or not 0 < ram <= MAX_RAM:
        raise OptionError(f"-m: {ram} bytes are given; expected a multiple of {PAGE} up to {MAX_RAM}")
    most, otherwise = LOW_MEMORY[name]
    low = ram if ram < most else otherwise
    try:
        regions = [SharedRegion(0, mmap(-1, low))]
        if ram > low:
            regions.append(SharedRegion(HIGH_MEMORY, mmap(-1, ram - low)))
    except OSError as error:
        raise OptionError(f"-m: {ram} bytes: {error.strerror}") from error
    return GuestMemory(*regions)


__all__ = ["DEFAULT_RAM", "Board", "BoardName"]
