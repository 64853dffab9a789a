"""A machine with its nodes, buses and devices, which come and go by their options."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from devmodels.assembly.devices import DEVICES
from devmodels.blockbackend import BlockBackend, BlockNode, Graph
from devmodels.blockbackend.errorpolicy import ErrorPolicy, OnReadError, OnWriteError
from devmodels.blockbackend.permissions import USES, PermissionConflictError
from devmodels.blockbackend.removable import EmptyNode
from devmodels.conformance import ViolationLog
from devmodels.events import Events
from devmodels.iocontext import Event, IoContext
from devmodels.machine import ECAM_BASE, Machine
from devmodels.memory import GuestMemory, memory_name
from devmodels.memoryregions import Region
from devmodels.options import OptionError, convert, shown
from devmodels.pci.bus import SLOTS, RootBus, Wiring
from devmodels.pci.function import PciFunction
from devmodels.runstate import RunState
from devmodels.trace import Tracer
from devmodels.translation import Translate, TranslatedMemory

if TYPE_CHECKING:
    from devmodels.ahci import AhciPci
    from devmodels.ata.disk.kept import KeptFile
    from devmodels.ata.units import AtaBus, AtaPlace
    from devmodels.ide_cdrom import PiixIde
    from devmodels.scsi.statefile import StateFile
    from devmodels.virtio.device import VirtioDevice
    from devmodels.virtio.mmio import VirtioMmio
    from devmodels.virtio.pci import VirtioPci
    from devmodels.virtio.places import MmioPlace
    from devmodels.virtio_scsi import VirtioScsi
    from devmodels.virtio_scsi.units import ScsiPlace

FIRST_FREE_SLOT = 1
LOOK_AGAIN_NS = 100_000


class Watcher(Protocol):
    """Who is told of the devices that come and go (a recording)."""

    def added(self, name: str) -> None:
        """A device is there; the guest does not know of it yet."""
        ...

    def removing(self, name: str) -> None:
        """A device is about to be taken out, with all that is on its bus."""
        ...


class PciAddress(Protocol):
    """Options of every device on PCI."""

    @property
    def driver(self) -> str:
        """The model."""
        ...

    @property
    def addr(self) -> str | None:
        """Slot and function; None where any slot will do."""
        ...


class DriveOptions(Protocol):
    """Options of every device that has a drive."""

    @property
    def driver(self) -> str:
        """The model."""
        ...

    @property
    def drive(self) -> str | None:
        """The node that is its disk; None where it has no medium."""
        ...

    @property
    def rerror(self) -> OnReadError:
        """What becomes of failed reads."""
        ...

    @property
    def werror(self) -> OnWriteError:
        """What becomes of failed writes."""
        ...

    @property
    def account_failed(self) -> bool:
        """Whether failed requests count."""
        ...

    @property
    def account_invalid(self) -> bool:
        """Whether invalid requests count."""
        ...

    @property
    def stats_intervals(self) -> tuple[int, ...]:
        """Intervals of statistics, in seconds."""
        ...


def _kept_file(context: IoContext, path: str) -> KeptFile:
    from devmodels.ata.disk.kept import KeptFile

    return KeptFile(context, path)


class Assembly:
    """A machine with everything in it, and what its owner can reach of it.

    `graph` has the block nodes; `devices`, the `options` that they were made with, and `drives`, their backends, go by
    device id.  `run_state` stops and continues it; `events` are what it tells whoever controls it.  With `one_context`
    the devices' options for iothreads mean nothing: all queues are worked on in the machine's own context.
    """

    def __init__(
        self,
        *,
        memory: GuestMemory | Region,
        context: IoContext,
        violations: ViolationLog,
        on_message: Callable[[int, int], None] | None,
        on_intx: Callable[[int, bool], None] | None,
        on_irq: Callable[[int, bool], None] | None,
        one_context: bool = False,
        graph: Graph | None = None,
        run_state: RunState | None = None,
        name: str = "machine",
        anonymous: Iterator[int] | None = None,
        ecam: int | None = ECAM_BASE,
        wiring: Wiring | None = None,
        absent: int = 0xFF,
    ) -> None:
        """A `graph` and a `run_state` that are given are others', too, and stay when the assembly is closed.

        `anonymous` gives numbers to devices without an id, for those who have several machines.  `ecam`, `wiring` and
        `absent` are the board's, as of `Machine`.
        """
        self._owns_memory = isinstance(memory, Region)
        self.memory = GuestMemory(memory) if isinstance(memory, Region) else memory
        self.context = context
        self.violations = violations
        self.events = Events()
        self.run_state = RunState(self.events) if run_state is None else run_state
        self.machine = Machine(
            self.memory,
            context,
            ecam=ecam,
            on_message=on_message,
            on_intx=on_intx,
            on_irq=on_irq,
            name=name,
            wiring=wiring,
            absent=absent,
        )
        self._owns_graph = graph is None
        self.graph = Graph(context) if graph is None else graph
        self.drives: dict[str, BlockBackend] = {}
        self._media: dict[str, str] = {}
        """Which node each drive was given, by its device's id."""
        self.devices: dict[str, VirtioPci | VirtioMmio] = {}
        self.buses: dict[str, VirtioScsi] = {}
        """Devices with a SCSI bus, by the bus's name."""
        self.units: dict[str, ScsiPlace] = {}
        """Devices on SCSI buses, by id."""
        self.ata_hosts: dict[str, AhciPci | PiixIde] = {}
        """Devices with ATA buses, by id."""
        self.ata_buses: dict[str, AtaBus] = {}
        """Their buses, by name."""
        self.ata_units: dict[str, AtaPlace] = {}
        """Devices on ATA buses, by id."""
        self._bus_numbers: defaultdict[str, Iterator[int]] = defaultdict(count)
        self.paths: dict[str, str] = {}
        """Where QEMU has host devices in its object tree, by id; devices with a drive have it in their backend."""
        self.options: dict[str, Mapping[str, object]] = {}
        self.open_state: Callable[[IoContext, str], StateFile] | None = None
        """Opens the files in which units keep something, if they are not to do so themselves."""
        self.open_kept: Callable[[IoContext, str], KeptFile] = _kept_file
        """The same of ATA disks."""
        self.one_context = one_context
        self.watcher: Watcher | None = None
        self.pci_bus = self.machine.bus
        """Where PCI devices are put that are made now."""
        self._prefix = "" if name == "machine" else f"{name}."
        self._anonymous = count() if anonymous is None else anonymous
        self.ide_ports_decoded = False
        """Whether somebody decodes the ports of IDE controllers in compatibility mode, so that there may be several."""
        self.of_board: Iterator[int] | None = None
        """Numbers for devices without an id while those are added that are of a board, and nobody asked for."""

    @property
    def backends(self) -> dict[str, BlockBackend]:
        """The drives that have a medium, by the node that they were given."""
        return {node: self.drives[name] for name, node in self._media.items()}

    def bus_name(self, kind: str) -> str:
        """The name of one more bus whose device has no id: as in QEMU, those of a kind are numbered."""
        return f"{kind}.{next(self._bus_numbers[kind])}"

    def add_node(self, options: Mapping[str, object]) -> BlockNode:
        """Open a block node, as `-blockdev` does."""
        return self.graph.add(options)

    def add_object(self, options: Mapping[str, object]) -> None:
        """Make what nodes and devices can name, as `-object` does: a throttle group, an iothread."""
        self.graph.object_add(options)

    def add_device(self, options: Mapping[str, object], translate: Translate | None = None) -> str:
        """Make a device and plug it, as `-device` does; returns its id.

        With `iommu_platform=on` its addresses go through `translate`; without a function they are physical.
        """
        driver = options.get("driver")
        found = DEVICES.get(driver) if isinstance(driver, str) else None
        if found is None:
            raise OptionError(f"device driver {driver!r}: expected {' or '.join(map(repr, DEVICES))}")
        kind = found.kind
        name = kind.add(self, convert(options, kind.options, what=f"device {driver}"), translate)
        self.options[name] = dict(options)
        if self.watcher is not None:
            self.watcher.added(name)
        if name in self.units:
            # Whoever watches knows of it before the guest does.
            self.units[name].plug()
        elif name in self.ata_units:
            self.ata_units[name].plug()
        return name

    async def remove_device(self, name: str) -> None:
        """Take a device out that is on PCI or on a SCSI bus, with its requests: the guest is not asked, but told.

        What is on a bus of its own goes with it.  Its drive is free, and `name` can be given again, when what runs has
        come back.  OptionError where it has to stay.
        """
        device = self.devices.get(name)
        if device is not None and not isinstance(device, PciFunction):
            raise OptionError(f"device {name!r} is not on a bus that devices can leave")
        if self.watcher is not None:
            self.watcher.removing(name)
        if name in self.units:
            await self._remove_unit(name)
        elif name in self.ata_units:
            await self._remove_ata_unit(name)
        elif name in self.ata_hosts:
            await self._remove_ata_host(name)
        else:
            await self._remove_virtio(name)

    async def _remove_virtio(self, name: str) -> None:
        function = self.devices[name]
        assert isinstance(function, PciFunction)
        self.machine.unplug(function)
        for child in [unit for unit, place in self.units.items() if place.host is function.device]:
            await self._remove_unit(child)
        backend = self.drives.get(name)
        if backend is not None:
            await backend.drain()
        while function.device.resetting:
            # The queues' own threads have something of it left.
            await self.context.sleep(LOOK_AGAIN_NS)
        if backend is not None:
            self._close_backend(backend)
        self.graph.iothreads.release(f"device {shown(name)}")
        self.buses = {bus: host for bus, host in self.buses.items() if host is not function.device}
        del self.devices[name], self.options[name]
        self.paths.pop(name, None)

    async def _remove_unit(self, name: str) -> None:
        from devmodels.scsi.backed import BackedUnit

        place = self.units[name]
        gone = Event(self.context)
        unit = place.host.unplug(place.target, place.lun, gone.set)
        assert isinstance(unit, BackedUnit)
        await unit.backend.drain()
        await gone.wait()
        unit.close()
        self._close_backend(unit.backend)
        del self.units[name], self.options[name]

    async def _remove_ata_unit(self, name: str) -> None:
        place = self.ata_units[name]
        place.bus.detach(place.unit)
        backend = self.drives[name]
        gone = Event(self.context)
        place.device.when_idle(gone.set)
        await backend.drain()
        await gone.wait()
        self._close_backend(backend)
        del self.ata_units[name], self.options[name]

    async def _remove_ata_host(self, name: str) -> None:
        host = self.ata_hosts[name]
        self.machine.unplug(host)
        buses = host.buses
        for child in [unit for unit, place in self.ata_units.items() if place.bus in buses]:
            await self._remove_ata_unit(child)
        self.ata_buses = {bus: each for bus, each in self.ata_buses.items() if each not in buses}
        del self.ata_hosts[name], self.options[name]
        self.paths.pop(name, None)

    def _close_backend(self, backend: BlockBackend) -> None:
        backend.close()
        del self.drives[backend.name]
        self._media.pop(backend.name, None)

    async def set_drive(self, name: str, drive: str) -> None:
        """Let the device `name` have node `drive` for its disk, while it works."""
        await self.graph.lead(self.drives[name].edge, drive)
        self._media[name] = drive

    async def set_medium(self, name: str, node: BlockNode | None) -> None:
        """Put `node` into the open tray of the device `name`, or take out what is in it."""
        backend = self.drives[name]
        await self.graph.lead_to(backend.edge, EmptyNode(self.context) if node is None else node)
        self._media.pop(name, None)
        if node is not None:
            self._media[name] = node.node_name

    # --- for those who make devices

    def add_backend(self, backend: BlockBackend, drive: str | None) -> None:
        """A device has been made over `backend`, with the node `drive`."""
        self.drives[backend.name] = backend
        if drive is not None:
            self._media[backend.name] = drive

    def memory_for(self, translate: Translate | None, device: str, *, iommu_platform: bool) -> GuestMemory:
        """Memory as `device` reaches it."""
        if translate is None or not iommu_platform:
            return self.memory
        return TranslatedMemory(self.memory, translate, name=memory_name(device))

    def backend(self, options: DriveOptions, name: str, *, read_only: bool = False) -> BlockBackend:
        """What puts the node `options.drive` under the device `name`; OptionError where either cannot be had.

        Without a drive it leads to an empty node.
        """
        driver = options.driver
        node = EmptyNode(self.context) if options.drive is None else self._drive(driver, options.drive)
        self.check_free(name)
        shared = USES["device"].shared
        try:
            backend = BlockBackend(
                node, name=name, run_state=self.run_state, shared=shared, read_only=read_only
            )
        except PermissionConflictError as error:
            raise OptionError(f"device {driver}: {error}") from None
        backend.error_policy = ErrorPolicy(options.rerror, options.werror)
        backend.stats.account_failed = options.account_failed
        backend.stats.account_invalid_requests = options.account_invalid
        for seconds in options.stats_intervals:
            backend.stats.add_interval(seconds, self.context.now_ns())
        return backend

    def _drive(self, driver: str, name: str) -> BlockNode:
        """The node that is to be a device's disk; OptionError."""
        node = self.graph.nodes.get(name)
        if node is None:
            known = ", ".join(sorted(self.graph.nodes)) or "none"
            raise OptionError(f"device {driver}: no drive {name!r}; the nodes are: {known}")
        if node.context is not self.context:
            raise OptionError(f"device {driver}: drive {name!r} is on an iothread; expected it at home")
        if name in self.backends:
            raise OptionError(f"device {driver}: drive {name!r} is in use")
        return node

    def has(self, name: str) -> bool:
        """Whether a device is called `name`."""
        return any(name in each for each in (self.devices, self.units, self.ata_hosts, self.ata_units))

    def function(self, name: str) -> PciFunction | None:
        """The device `name`, where that is a PCI function."""
        found = self.ata_hosts.get(name) or self.devices.get(name)
        return found if isinstance(found, PciFunction) else None

    def device_of(self, function: PciFunction) -> str | None:
        """The device that has `function`; None where that is the board's own, or a bridge."""
        names = (*self.ata_hosts, *self.devices)
        return next((name for name in names if self.function(name) is function), None)

    def ata_host(self, unit: str) -> AhciPci | PiixIde:
        """The host on whose bus the ATA device `unit` is."""
        bus = self.ata_units[unit].bus
        return next(host for host in self.ata_hosts.values() if bus in host.buses)

    def check_free(self, name: str) -> None:
        """OptionError where a device is called `name`."""
        if self.has(name):
            raise OptionError(f"device id {name!r} is taken")

    def qom_path(self, device_id: str | None) -> str:
        """Where QEMU has a device in its object tree."""
        if device_id is not None:
            return f"/machine/peripheral/{device_id}"
        if self.of_board is not None:
            return f"/machine/unattached/device[{next(self.of_board)}]"
        return f"/machine/peripheral-anon/device[{next(self._anonymous)}]"

    def unit_name(self, driver: str, target: int, lun: int) -> str:
        """What a unit without an id is called: a name that no other unit has, of any machine."""
        return f"{self._prefix}{driver}@{target}.{lun}"

    def mmio_place(self, options: MmioPlace) -> tuple[int, int]:
        """Address and interrupt line of an MMIO device."""
        from devmodels.virtio.mmio import WINDOW_SIZE
        from devmodels.virtio.places import SLOT_BASE, SLOT_IRQ, SLOTS, mmio_slot

        slot = mmio_slot(options)
        if slot is None and options.address is None:
            taken = {base for base, _, _ in self.machine.mmio}
            free = (n for n in range(SLOTS) if SLOT_BASE + n * WINDOW_SIZE not in taken)
            slot = next(free, None)
            if slot is None:
                raise OptionError(f"device {options.driver}: no slot is free")
        if slot is None:
            assert options.address is not None
            assert options.irq is not None
            return options.address, options.irq
        return SLOT_BASE + slot * WINDOW_SIZE, SLOT_IRQ + slot if options.irq is None else options.irq

    def pci_place(self, options: PciAddress) -> tuple[int, int]:
        """Slot and function of a PCI device; behind a bridge nobody has the first slot already."""
        first = FIRST_FREE_SLOT if self.pci_bus is self.machine.bus else 0
        return pci_place(self.pci_bus, options.addr, first)

    # --- what its owner can do

    def set_trace(self, tracer: Tracer | None) -> None:
        """Give every event of machine, memory, devices, backends and nodes to `tracer`; None switches tracing off."""
        self.machine.trace = tracer
        self.memory.observe(dirty_log=self.memory.dirty_log, trace=tracer)
        for name in self.devices:
            self.virtio_device(name).trace = tracer
        self.graph.tracer = tracer
        for backend in self.drives.values():
            backend.trace = tracer
        for place in self.units.values():
            place.unit.observe(tracer)
        for each in self.ata_hosts.values():
            each.observe(tracer)

    def virtio_device(self, name: str) -> VirtioDevice:
        """The virtio device behind the transport `name`."""
        return self.devices[name].device

    def close(self) -> None:
        """Give everything up. Idempotent."""
        if self._owns_graph:
            self.graph.close()
        if self._owns_memory:
            for region in self.memory.regions:
                self.memory.remove(region)
        if self._owns_graph:
            self.context.close()

    def __enter__(self) -> Assembly:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def pci_place(bus: RootBus, addr: str | None, first: int) -> tuple[int, int]:
    """Slot and function that `addr` says; where it says nothing, of those from `first` on the first slot that is free.

    OptionError where it says something else, or where none is free.
    """
    if addr is None:
        taken = {slot for slot, _, _ in bus.functions()}
        free = next((slot for slot in range(first, SLOTS) if slot not in taken), None)
        if free is None:
            raise OptionError("no PCI slot is free")
        return free, 0
    slot, _, number = addr.partition(".")
    try:
        return int(slot, 16), int(number or "0", 16)
    except ValueError:
        raise OptionError(f"addr {addr!r}: expected a hexadecimal slot, or slot.function") from None
