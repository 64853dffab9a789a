"""From options to a machine: block nodes, backends and devices put together, as a command line or a script names them.

with assemble(
    blockdevs=[{"driver": "memory", "size": 1 << 20, "node-name": "d0"}],
    devices=[{"driver": "virtio-blk-pci", "drive": "d0", "addr": "4"}],
) as assembly:
    assembly.machine.read(...)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from mmap import mmap
from types import TracebackType
from typing import Protocol

from devmodels.blockbackend import BlockBackend, BlockNode, Graph
from devmodels.blockbackend.errorpolicy import ErrorPolicy
from devmodels.blockbackend.permissions import USES, PermissionConflictError
from devmodels.conformance import Profile, ViolationLog
from devmodels.events import Events
from devmodels.iocontext import ClockKind, IoContext, IoThread
from devmodels.machine import ECAM_BASE, Machine
from devmodels.memory import WORD_ALIGNMENT, BouncedRegion, GuestMemory, Region, SharedRegion, memory_name
from devmodels.options import OptionError, convert, shown
from devmodels.runstate import RunState
from devmodels.trace import Tracer
from devmodels.translation import Translate, TranslatedMemory
from devmodels.virtio.device import VirtioDevice
from devmodels.virtio.mmio import WINDOW_SIZE, VirtioMmio
from devmodels.virtio.pci import VirtioPci
from devmodels.virtio_blk.config import VirtioBlkOptions
from devmodels.virtio_blk.mmio import SLOT_BASE, SLOT_IRQ, SLOTS, VirtioBlkMmioOptions, virtio_blk_mmio
from devmodels.virtio_blk.pci import VirtioBlkPciOptions, virtio_blk_pci

DEFAULT_RAM = 128 << 20
FIRST_FREE_SLOT = 1
LOOK_AGAIN_NS = 100_000


class Watcher(Protocol):
    """Who is told of the devices that come and go (a recording)."""

    def added(self, name: str) -> None:
        """A device has been plugged."""
        ...

    def removing(self, name: str) -> None:
        """A device is about to be taken out."""
        ...


class Assembly:
    """A machine with everything in it, and what its owner can reach of it.

    `graph` has the block nodes; `backends` go by node name, `devices` and the `options` that they were made with by
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
    ) -> None:
        self._owns_memory = isinstance(memory, Region)
        self.memory = GuestMemory(memory) if isinstance(memory, Region) else memory
        self.context = context
        self.violations = violations
        self.events = Events()
        self.run_state = RunState(self.events)
        self.machine = Machine(self.memory, context, on_message=on_message, on_intx=on_intx, on_irq=on_irq)
        self.graph = Graph(context)
        self.backends: dict[str, BlockBackend] = {}
        self.devices: dict[str, VirtioPci | VirtioMmio] = {}
        self.options: dict[str, Mapping[str, object]] = {}
        self.one_context = one_context
        self.watcher: Watcher | None = None
        self._without_id = 0

    def add_node(self, options: Mapping[str, object]) -> BlockNode:
        """Open a block node, as `-blockdev` does."""
        return self.graph.add(options)

    def add_object(self, options: Mapping[str, object]) -> None:
        """Make what nodes and devices can name, as `-object` does: a throttle group, an iothread."""
        self.graph.object_add(options)

    def add_device(
        self, options: Mapping[str, object], translate: Translate | None = None
    ) -> VirtioPci | VirtioMmio:
        """Make a device and plug it, as `-device` does.

        With `iommu_platform=on` its addresses go through `translate`; without a function they are physical.
        """
        driver = options.get("driver")
        made: VirtioPci | VirtioMmio
        if driver == "virtio-blk-pci":
            made = self._add_pci(convert(options, VirtioBlkPciOptions, what=f"device {driver}"), translate)
        elif driver == "virtio-blk-device":
            made = self._add_mmio(convert(options, VirtioBlkMmioOptions, what=f"device {driver}"), translate)
        else:
            raise OptionError(f"device driver {driver!r}: expected 'virtio-blk-pci' or 'virtio-blk-device'")
        name = made.device.name
        self.options[name] = dict(options)
        if self.watcher is not None:
            self.watcher.added(name)
        return made

    async def remove_device(self, name: str) -> None:
        """Take a PCI device out, with its requests: the guest is not asked.

        Its drive is free, and `name` can be given again, when what runs has come back.  OptionError where it has to
        stay.
        """
        function = self.devices[name]
        if not isinstance(function, VirtioPci):
            raise OptionError(f"device {name!r} is not on a bus that devices can leave")
        if self.watcher is not None:
            self.watcher.removing(name)
        self.machine.unplug(function)
        backend = next(backend for backend in self.backends.values() if backend.name == name)
        await backend.drain()
        while function.device.resetting:
            # The queues' own threads have something of it left.
            await self.context.sleep(LOOK_AGAIN_NS)
        backend.close()
        self.graph.iothreads.release(f"device {shown(name)}")
        del self.devices[name], self.options[name]
        self.backends = {drive: other for drive, other in self.backends.items() if other is not backend}

    async def set_drive(self, name: str, drive: str) -> None:
        """Let the device `name` have node `drive` for its disk, while it works."""
        before, backend = next(item for item in self.backends.items() if item[1].name == name)
        await self.graph.lead(backend.edge, drive)
        del self.backends[before]
        self.backends[drive] = backend

    def _add_pci(self, options: VirtioBlkPciOptions, translate: Translate | None) -> VirtioPci:
        slot, number = self._place(options.addr)
        backend = self._backend(options, options.id or f"{options.driver}@{slot:02x}.{number}")
        backend.qom_path = f"{self._qom_path(options.id)}/virtio-backend"
        with self._plugging(options, backend) as threads:
            function = virtio_blk_pci(
                options,
                backend,
                name=backend.name,
                context=self.context,
                memory=self._memory_for(options, translate, backend.name),
                violations=self.violations,
                threads=threads,
            )
            self.machine.plug(function, slot, number)
        self.devices[backend.name] = function
        return function

    def _add_mmio(self, options: VirtioBlkMmioOptions, translate: Translate | None) -> VirtioMmio:
        address, irq = self._mmio_place(options)
        backend = self._backend(options, options.id or f"{options.driver}@{address:x}")
        backend.qom_path = self._qom_path(options.id)
        with self._plugging(options, backend) as threads:
            device = virtio_blk_mmio(
                options,
                backend,
                name=backend.name,
                context=self.context,
                memory=self._memory_for(options, translate, backend.name),
                violations=self.violations,
                threads=threads,
            )
            self.machine.plug_mmio(device, address, irq)
        self.devices[backend.name] = device
        return device

    @contextmanager
    def _plugging(
        self, options: VirtioBlkPciOptions | VirtioBlkMmioOptions, backend: BlockBackend
    ) -> Iterator[list[IoThread]]:
        """The device over `backend` is made and gets its place; its queues' threads, if it is to have such.

        OptionError, and drive and threads free again, where that cannot be.
        """
        try:
            mapping = options.iothread_vq_mapping
            if options.iothread is not None and options.iothread not in self.graph.iothreads.by_id:
                raise OptionError(f"Device '{options.iothread}' not found")
            user = f"device {shown(backend.name)}"
            wanted = (None, None) if self.one_context else (options.iothread, mapping)
            yield self.graph.iothreads.take(user, options.num_queues, *wanted)
        except ValueError as error:
            self.graph.iothreads.release(f"device {shown(backend.name)}")
            backend.close()
            raise OptionError(f"device {options.driver}: {error}") from error
        self.backends[options.drive] = backend

    def _memory_for(self, options: VirtioBlkOptions, translate: Translate | None, device: str) -> GuestMemory:
        """Memory as `device` reaches it."""
        if translate is None or not options.iommu_platform:
            return self.memory
        return TranslatedMemory(self.memory, translate, name=memory_name(device))

    def _backend(self, options: VirtioBlkPciOptions | VirtioBlkMmioOptions, name: str) -> BlockBackend:
        """What puts the node `options.drive` under the device `name`; OptionError where either cannot be had."""
        driver, drive = options.driver, options.drive
        node = self.graph.nodes.get(drive)
        if node is None:
            known = ", ".join(sorted(self.graph.nodes)) or "none"
            raise OptionError(f"device {driver}: no drive {drive!r}; the nodes are: {known}")
        if node.context is not self.context:
            raise OptionError(f"device {driver}: drive {drive!r} is on an iothread; expected it at home")
        if drive in self.backends:
            raise OptionError(f"device {driver}: drive {drive!r} is in use")
        if name in self.devices:
            raise OptionError(f"device id {name!r} is taken")
        try:
            backend = BlockBackend(node, name=name, run_state=self.run_state, shared=USES["device"].shared)
        except PermissionConflictError as error:
            raise OptionError(f"device {driver}: {error}") from None
        backend.error_policy = ErrorPolicy(options.rerror, options.werror)
        backend.stats.account_failed = options.account_failed
        backend.stats.account_invalid_requests = options.account_invalid
        for seconds in options.stats_intervals:
            backend.stats.add_interval(seconds, self.context.now_ns())
        return backend

    def _qom_path(self, device_id: str | None) -> str:
        """Where QEMU has a device in its object tree."""
        if device_id is not None:
            return f"/machine/peripheral/{device_id}"
        self._without_id += 1
        return f"/machine/peripheral-anon/device[{self._without_id - 1}]"

    def _mmio_place(self, options: VirtioBlkMmioOptions) -> tuple[int, int]:
        """Address and interrupt line of an MMIO device."""
        slot = options.slot
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

    def _place(self, addr: str | None) -> tuple[int, int]:
        if addr is None:
            taken = {slot for slot, _, _ in self.machine.bus.functions()}
            free = next((slot for slot in range(FIRST_FREE_SLOT, 32) if slot not in taken), None)
            if free is None:
                raise OptionError("no PCI slot is free")
            return free, 0
        slot, _, number = addr.partition(".")
        try:
            return int(slot, 16), int(number or "0", 16)
        except ValueError:
            raise OptionError(f"addr {addr!r}: expected a hexadecimal slot, or slot.function") from None

    def set_trace(self, tracer: Tracer | None) -> None:
        """Give every event of machine, memory, devices, backends and nodes to `tracer`; None switches tracing off."""
        self.machine.trace = tracer
        self.memory.observe(dirty_log=self.memory.dirty_log, trace=tracer)
        for name in self.devices:
            self.virtio_device(name).trace = tracer
        self.graph.tracer = tracer
        for backend in self.backends.values():
            backend.trace = tracer

    def virtio_device(self, name: str) -> VirtioDevice:
        """The virtio device behind the transport `name`."""
        return self.devices[name].device

    def close(self) -> None:
        """Give everything up. Idempotent."""
        self.graph.close()
        if self._owns_memory:
            for region in self.memory.regions:
                self.memory.remove(region)
        self.context.close()

    def __enter__(self) -> Assembly:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def ram_region(size: int, *, shared: bool) -> Region:
    """Guest memory of `size` bytes from address 0: shared views, or reached by copies as an embedder's own would be."""
    buffer = mmap(-1, size)
    if shared:
        return SharedRegion(0, buffer)

    def read(address: int, length: int) -> bytes:
        return buffer[address : address + length]

    def write(address: int, data: bytes) -> None:
        buffer[address : address + len(data)] = data

    return BouncedRegion(0, size, read, write)


def assemble(
    *,
    objects: Sequence[Mapping[str, object]] = (),
    blockdevs: Sequence[Mapping[str, object]] = (),
    devices: Sequence[Mapping[str, object]] = (),
    ram: int = DEFAULT_RAM,
    shared: bool = True,
    memory: GuestMemory | None = None,
    clock: ClockKind | str = ClockKind.VIRTUAL,
    context: IoContext | None = None,
    profile: Profile = Profile.STRICT,
    on_message: Callable[[int, int], None] | None = None,
    on_intx: Callable[[int, bool], None] | None = None,
    on_irq: Callable[[int, bool], None] | None = None,
    translate: Translate | None = None,
    one_context: bool = False,
) -> Assembly:
    """Build a machine; OptionError (or BlockOptionError) where an option is wrong, and then nothing stays open.

    `objects`, `blockdevs` and `devices` are mappings with QEMU's option names; `ram` is in bytes; `shared` False gives
    the devices memory that they can only copy from and to.  An embedder gives its own `memory` instead; it stays the
    embedder's, and its regions stay in it when the assembly is closed.  A `context` that is given has a
    clock already; it ends with the assembly.  `translate` is what an IOMMU does for devices with `iommu_platform=on`.
    `one_context` is for machines that are recorded.
    """
    if memory is None and (ram % WORD_ALIGNMENT or not 0 < ram <= ECAM_BASE):
        expected = f"a multiple of {WORD_ALIGNMENT} up to {ECAM_BASE:#x}, where devices begin"
        raise OptionError(f"ram: {ram} is given; expected {expected}")
    assembly = Assembly(
        memory=ram_region(ram, shared=shared) if memory is None else memory,
        context=IoContext(ClockKind(clock)) if context is None else context,
        violations=ViolationLog(profile),
        on_message=on_message,
        on_intx=on_intx,
        on_irq=on_irq,
        one_context=one_context,
    )
    try:
        for options in objects:
            assembly.add_object(options)
        for options in blockdevs:
            assembly.add_node(options)
        for options in devices:
            assembly.add_device(options, translate)
    except BaseException:
        assembly.close()
        raise
    return assembly
