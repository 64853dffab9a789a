"""A machine for devices: address decode over memory, PCI and I/O ports. What an embedder holds.

The decode of each space is a flat table, made again when a BAR, a command register or the memory map has changed.
Guest memory comes first, then the machine's own windows, then BARs in the order of slot, function and index.  What
nobody claims reads ones.  An access that lies over an edge is done in naturally aligned pieces.

Interrupts leave when the outermost access is over, or in the next turn of the context where they were raised outside
one.  A device that is accessed while one of its registers is already being accessed (its own DMA came back to it) is
not entered again: the access is answered as unclaimed and counted in `refused`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from devmodels.addressspace import ONES, AddressSpace, Ram
from devmodels.interrupts import Line, LineSource, Outbox
from devmodels.iocontext import IoContext
from devmodels.memory import GuestMemory
from devmodels.pci.bus import CONFIG_ADDRESS, ECAM_SIZE, ConfigPorts, Ecam, RootBus, Wiring
from devmodels.pci.decode import BarHandler, Claim, Guard, Window
from devmodels.pci.function import PciFunction
from devmodels.registers.state import nest, unnest
from devmodels.trace import EventKind, Tracer

ECAM_BASE = 0xB000_0000
"""Where configuration space is found in memory space, if nobody says otherwise: as on QEMU's q35."""


class EmbeddedDevice(Protocol):
    """The embedder's contract: what an emulator calls, from one thread, without an event loop.

    Sizes are 1, 2, 4 or 8 bytes (ValueError otherwise); any address is defined; values are little-endian integers.
    No access raises because of what a guest does.
    """

    def read(self, address: int, size: int) -> int:
        """The guest reads memory space."""
        ...

    def write(self, address: int, size: int, value: int) -> None:
        """The guest writes memory space."""
        ...

    def io_read(self, port: int, size: int) -> int:
        """The guest reads an I/O port."""
        ...

    def io_write(self, port: int, size: int, value: int) -> None:
        """The guest writes an I/O port."""
        ...

    def run_until_idle(self) -> None:
        """Let the device side work until it waits for the guest."""
        ...

    def reset(self) -> None:
        """The machine is reset."""
        ...


class MmioDevice(Protocol):
    """A device that has a place in memory space and an interrupt line of its own, outside PCI."""

    name: str
    size: int
    """Bytes of memory space that it takes."""
    accessing: bool

    def read(self, offset: int, size: int) -> int:
        """A guest's read at `offset` of the device's place."""
        ...

    def write(self, offset: int, size: int, value: int) -> None:
        """A guest's write at `offset` of the device's place."""
        ...

    def plugged(self, line: LineSource) -> None:
        """The device is in a machine now; it drives its interrupt through `line`."""
        ...

    def reset(self) -> None:
        """The machine is reset."""
        ...

    def save(self) -> dict[str, int]:
        """The state of its registers."""
        ...

    def judge(self, state: Mapping[str, int]) -> None:
        """ValueError where `restore` could not take `state`."""
        ...

    def restore(self, state: Mapping[str, int]) -> None:
        """Take what `save` gave."""
        ...


class Machine:
    """Memory, PCI root bus, MMIO devices and I/O ports for devices that share one `IoContext`.

    `on_message(address, data)` receives interrupt messages that do not hit guest memory (those that do are written
    there); `on_intx(line, level)` the INTx lines, four if no `wiring` says otherwise; `on_irq(line, level)` the lines
    of devices outside PCI.  `ecam` is the base of the ECAM window, or None for none.  `absent` is what each byte of
    memory space reads that nobody claims.  `name` is what a trace calls the machine.
    """

    def __init__(
        self,
        memory: GuestMemory,
        context: IoContext,
        *,
        ecam: int | None = ECAM_BASE,
        on_message: Callable[[int, int], None] | None = None,
        on_intx: Callable[[int, bool], None] | None = None,
        on_irq: Callable[[int, bool], None] | None = None,
        name: str = "machine",
        wiring: Wiring | None = None,
        absent: int = 0xFF,
    ) -> None:
        self.name = name
        self.memory = memory
        self.context = context
        self.on_message = on_message
        self.on_intx = on_intx
        self.on_irq = on_irq
        self.messages_in_memory = True
        """Whether a message that hits guest memory is written there.  Else `on_message` has all of them: somebody else
        is the function's bus."""
        self.trace: Tracer | None = None
        self.outbox = Outbox(self._message, self._pending)
        self.bus = RootBus(self.outbox, self._decode_changed, self._intx, wiring)
        self.config_ports = ConfigPorts(self.bus)
        self._mmio: list[tuple[int, int, MmioDevice]] = []
        self._irqs: dict[int, Line] = {}
        self._memory_claims: list[Claim] = []
        self._io_claims: list[Claim] = [Claim(CONFIG_ADDRESS, 8, self.config_ports, None)]
        if ecam is not None:
            self._memory_claims.append(Claim(ecam, ECAM_SIZE, Ecam(self.bus), None))
        self._memory_space = AddressSpace(self, "memory-space", absent)
        self._io_space = AddressSpace(self, "io-space")
        self._outside: set[int] = set()
        """Handlers that somebody else has brought, by identity."""
        self._generation = memory.generation - 1
        self._stale = True
        self.depth = 0
        self._told = False
        """Whether a trace has something of the access that is not over yet."""
        self._serving = False
        """Whether whoever is being told of an interrupt accesses devices meanwhile."""
        self.refused_inside = 0

    @property
    def refused(self) -> int:
        """Accesses that found their device in the middle of another one."""
        return self.refused_inside + self.bus.refused

    # --- accesses

    def read(self, address: int, size: int) -> int:
        """The guest reads `size` bytes of memory space."""
        if size not in ONES:
            raise ValueError(f"an access of {size} bytes: 1, 2, 4 or 8 are possible")
        if self._stale or self.memory.generation != self._generation:
            self._rebuild()
        return self._memory_space.read(address, size)

    def write(self, address: int, size: int, value: int) -> None:
        """The guest writes `size` bytes of memory space; excess bits of `value` are ignored."""
        if size not in ONES:
            raise ValueError(f"an access of {size} bytes: 1, 2, 4 or 8 are possible")
        if self._stale or self.memory.generation != self._generation:
            self._rebuild()
        self._memory_space.write(address, size, value)

    def io_read(self, port: int, size: int) -> int:
        """The guest reads I/O ports."""
        if size not in ONES:
            raise ValueError(f"an access of {size} bytes: 1, 2, 4 or 8 are possible")
        if self._stale:
            self._rebuild()
        return self._io_space.read(port, size)

    def io_write(self, port: int, size: int, value: int) -> None:
        """The guest writes I/O ports."""
        if size not in ONES:
            raise ValueError(f"an access of {size} bytes: 1, 2, 4 or 8 are possible")
        if self._stale:
            self._rebuild()
        self._io_space.write(port, size, value)

    # --- what is there

    def find(self, address: int, size: int, *, io: bool = False) -> Window | None:
        """Who would answer an access, of memory space or I/O ports; None where no single one would."""
        if self._stale or self.memory.generation != self._generation:
            self._rebuild()
        return (self._io_space if io else self._memory_space).find(address, size)

    def unclaimed(self, address: int, end: int) -> int:
        """How many bytes of memory space from `address` on, up to `end`, nobody claims."""
        if self._stale or self.memory.generation != self._generation:
            self._rebuild()
        return self._memory_space.unclaimed(address, end)

    def plug(self, function: PciFunction, slot: int, number: int = 0) -> None:
        """Put a PCI function into `slot` (0 to 31) as function `number` (0 to 7); ValueError where it can't be."""
        self.bus.plug(function, slot, number)

    def unplug(self, function: PciFunction) -> None:
        """Take a PCI function out; ValueError where it isn't plugged."""
        holder = next((bus for bus, each in self.bus.walk() if each is function), self.bus)
        holder.unplug(function)

    def plug_mmio(self, device: MmioDevice, base: int, irq: int) -> None:
        """Put a device outside PCI at `base`, with its interrupt on line `irq`, which devices may share.

        ValueError where it overlaps something else of the machine's own, or does not fit below 2**64.
        """
        if base < 0 or base % 4 or base + device.size > 1 << 64:
            raise ValueError(f"address {base:#x}: expected a multiple of 4 with room for {device.size} bytes")
        for other in self._memory_claims:
            if base < other.base + other.size and other.base < base + device.size:
                raise ValueError(f"address {base:#x} is taken")
        self._mmio.append((base, irq, device))
        self._claim(self._memory_claims, Claim(base, device.size, device, device))
        device.plugged(self.irq(irq))

    def irq(self, number: int) -> LineSource:
        """A new driver of a line outside PCI (`on_irq`), which devices may share."""
        line = self._irqs.get(number)
        if line is None:
            line = self._irqs[number] = Line(self.outbox, partial(self._irq, number))
        return line.source()

    @property
    def mmio(self) -> tuple[tuple[int, int, MmioDevice], ...]:
        """(base, interrupt line, device) of the devices outside PCI: what firmware would tell a guest."""
        return tuple(self._mmio)

    def claim_memory(self, base: int, size: int, handler: BarHandler, owner: Guard | None = None) -> None:
        """Give a fixed range of memory space to `handler`.  `owner`, if given, is never entered twice.

        What goes on there is no device's of ours: a trace has nothing of it.
        """
        self._outside.add(id(handler))
        self._claim(self._memory_claims, Claim(base, size, handler, owner))

    def claim_ports(self, base: int, size: int, handler: BarHandler, owner: Guard | None = None) -> None:
        """Give fixed I/O ports to `handler`, as `claim_memory` does with memory space."""
        self._outside.add(id(handler))
        self._claim(self._io_claims, Claim(base, size, handler, owner))

    def _claim(self, claims: list[Claim], claim: Claim) -> None:
        claims.append(claim)
        self._stale = True

    def run_until_idle(self) -> None:
        """Let devices work until nothing is left to do without the guest, and deliver their interrupts."""
        self.context.run_until_idle()

    def deliver(self) -> None:
        """Deliver what was raised outside an access, before the context's next turn does."""
        if self.trace is not None and not self.outbox.delivering:
            self.trace.emit(self.name, EventKind.DELIVER)
        self.outbox.deliver()

    def reset(self) -> None:
        """Reset every device and the configuration address; messages not yet delivered are dropped."""
        if self.trace is not None:
            self.trace.emit(self.name, EventKind.MACHINE_RESET)
        self.config_ports.reset()
        for _, _, device in self._mmio:
            device.reset()
        for _, _, function in self.bus.functions():
            function.reset()
        self.outbox.drop_messages()
        if not self.depth:
            self.outbox.deliver()

    def save(self) -> dict[str, int]:
        """The configuration address, functions' configuration space by place (`1f.2`), MMIO devices by address."""
        state = {"config_address": self.config_ports.address}
        for slot, number, function in self.bus.functions():
            state.update(nest(f"{slot:02x}.{number}", function.save()))
        for base, _, device in self._mmio:
            state.update(nest(f"{base:#x}", device.save()))
        return state

    def restore(self, state: Mapping[str, int]) -> None:
        """Take what `save` gave, into a machine with the same devices plugged.

        ValueError, and nothing changed, where a device was made otherwise or a value is impossible.
        """
        functions = [
            (function, unnest(f"{slot:02x}.{number}", state))
            for slot, number, function in self.bus.functions()
        ]
        for function, own in functions:
            function.judge(own)
        devices = [(device, unnest(f"{base:#x}", state)) for base, _, device in self._mmio]
        for device, own in devices:
            device.judge(own)
        address = state.get("config_address", 0)
        if not 0 <= address < 1 << 32:
            raise ValueError(f"config_address is {address:#x} in the state")
        self.config_ports.address = address
        for function, own in functions:
            function.restore(own)
        for device, own in devices:
            device.restore(own)

    # --- inside

    def _decode_changed(self) -> None:
        self._stale = True

    def begin_access(self) -> None:
        """What follows, up to `end_access`, is one access, or part of one: interrupts wait for its end."""
        self.depth += 1

    def end_access(self) -> None:
        """The access is over.  Calls nest."""
        self.depth -= 1
        if not self.depth:
            told, self._told = self._told, False
            if self.outbox.pending:
                if told:
                    self.outbox.deliver()
                else:
                    # Of this access, to memory say, a trace has nothing; but it has the interrupts delivered.
                    self.deliver()

    def tell(self, handler: object) -> Tracer | None:
        """Who is told of an access to a window that begins; nobody of one to memory, or to what is not ours."""
        if self.trace is None or type(handler) is Ram or id(handler) in self._outside:
            return None
        self._told = True
        if self.outbox.delivering and not self._serving:
            self.serve()
        return self.trace

    def serve(self) -> None:
        """Whoever is just being told of an interrupt begins to access devices."""
        self._serving = True
        if self.trace is not None:
            self.trace.emit(self.name, EventKind.SERVING)

    def _served(self) -> None:
        """Whoever was told of an interrupt has returned."""
        if self._serving:
            self._serving = False
            if self.trace is not None:
                self.trace.emit(self.name, EventKind.SERVED)

    def _rebuild(self) -> None:
        ram = [Claim(region.base, region.size, Ram(region), None) for region in self.memory.regions]
        self._memory_space.decode([*ram, *self._memory_claims, *self.bus.claims(io=False)])
        self._io_space.decode([*self._io_claims, *self.bus.claims(io=True)])
        self._generation = self.memory.generation
        self._stale = False

    def _pending(self) -> None:
        if not self.depth:
            deliver = self.outbox.deliver
            self.context.call_soon(deliver if self.trace is None else self.trace.put_off(deliver))

    def _message(self, address: int, data: int) -> None:
        if self.trace is not None:
            self.trace.emit(self.name, EventKind.INTERRUPT, address, data)
        if self.messages_in_memory and self._in_memory(address):
            self.memory.words(address, 1, "I", write=True)[0] = data
        elif self.on_message is not None:
            self.on_message(address, data)
            self._served()

    def _in_memory(self, address: int) -> bool:
        if self._stale or self.memory.generation != self._generation:
            self._rebuild()
        return self._memory_space.is_ram(address, 4)

    def _intx(self, line: int, level: bool) -> None:
        if self.trace is not None:
            self.trace.emit(self.name, EventKind.INTERRUPT, line, int(level))
        if self.on_intx is not None:
            self.on_intx(line, level)
            self._served()

    def _irq(self, line: int, level: bool) -> None:
        if self.trace is not None:
            self.trace.emit(self.name, EventKind.INTERRUPT, line, int(level))
        if self.on_irq is not None:
            self.on_irq(line, level)
            self._served()
