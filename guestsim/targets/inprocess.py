"""Our own devices in this process as a target: a `devmodels` machine, its memory, and the host beside it.

The only module of guestsim's (with the command and the fixtures) that knows devmodels.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from functools import cache
from mmap import mmap
from typing import TYPE_CHECKING, Any, Self

import msgspec

from devmodels.assembly import assemble
from devmodels.assembly.build import anonymous_memory
from devmodels.blockbackend.debug.commands import debugged
from devmodels.conformance import Profile, Violation
from devmodels.iocontext import ClockKind
from devmodels.memoryregions import BouncedRegion, Region, SharedRegion
from devmodels.monitor import World
from devmodels.monitor.command import Command, CommandError, text_of
from devmodels.monitor.table import commands
from devmodels.recording import Recorder, record_machine
from devmodels.virtio.mmio import WINDOW_SIZE
from devmodels.virtio.places import SLOT_BASE
from devmodels.virtio_blk.pci import VirtioBlkPciOptions
from guestsim.targets import MachineLayout, MmioSlot, OptionsError, RecordError, TargetError, Window

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from devmodels.iocontext import IoContext
    from devmodels.machine import Machine

_MIB = 1 << 20
RAM = 64 * _MIB

_LOW = Window(0, 16 * _MIB)
"""Memory lies in two regions that touch, so that what a guest builds may lie over their border."""

_RESERVED = 1 * _MIB
_MMIO = Window(0xE000_0000, 0x1E00_0000)
_IO = Window(0xC000, 0x4000)
_ECAM = 0xB000_0000

_MESSAGE_ADDRESS = 0xFEE0_0000
"""Where interrupt messages go; the vector is the data."""

_WAIT_NS = 1_000_000
_MAX_VIOLATIONS = 10_000
_MAX_EVENTS = 10_000


class InProcessTarget:
    """A devmodels machine with the given objects, drives and devices; a `Target` and its `Host`.

    `objects`, `blockdevs` and `devices` have QEMU's option names; `ram` is in bytes, a multiple of 4096 above 16 MiB.
    `shared` False gives the devices memory that they can only copy from and to.  `clock` is `virtual`, `stepped` or
    `wall`; a `context` that is given has a clock already.  `profile` is a name of
    `devmodels.conformance.Profile`.
    """

    def __init__(
        self,
        *,
        objects: Sequence[Mapping[str, object]] = (),
        blockdevs: Sequence[Mapping[str, object]] = (),
        devices: Sequence[Mapping[str, object]] = (),
        ram: int = RAM,
        shared: bool = True,
        clock: str = "virtual",
        context: IoContext | None = None,
        profile: str = "strict",
    ) -> None:
        if ram <= _LOW.size or ram % 4096:
            raise TargetError(f"ram of {ram} bytes: expected a multiple of 4096 above {_LOW.size}")
        self._messages: Counter[int] = Counter()
        self._lines = [False] * 4
        self._irqs: dict[int, bool] = {}
        self._violations: list[tuple[str, str]] = []
        self._events: list[tuple[str, Mapping[str, object]]] = []
        try:
            self.assembly = assemble(
                ram=_LOW.size,
                shared=shared,
                clock=clock,
                context=context,
                profile=Profile(profile),
                on_message=self._on_message,
                on_intx=self._on_intx,
                on_irq=self._on_irq,
            )
        except (ValueError, OSError) as error:
            raise TargetError(str(error)) from error
        self._add("objects", objects, self.assembly.add_object)
        self._add("drives", blockdevs, self.add_drive)
        self._add("devices", devices, self.assembly.add_device)
        self.assembly.violations.on_violation = self._on_violation
        self.assembly.events.add_listener(self._on_event)
        self._high = anonymous_memory(ram - _LOW.size)
        self.assembly.memory.add(_region(_LOW.end, self._high, shared=shared))
        self._layout = MachineLayout(
            ram=(Window(_RESERVED, _LOW.end - _RESERVED), Window(_LOW.end, ram - _LOW.size)),
            mmio=_MMIO,
            io=_IO,
            ecam=_ECAM,
            virtio_mmio=tuple(
                MmioSlot(base, irq, f"virtio-mmio-bus.{(base - SLOT_BASE) // WINDOW_SIZE}")
                for base, irq, _ in self.assembly.machine.mmio
            ),
        )
        self._recorder: Recorder | None = None
        self._machine: Machine = self.assembly.machine
        self._context = self.assembly.context
        self._closed = False
        self._monitor: World | None = None
        self.read = self._machine.read
        self.write = self._machine.write
        self.io_read = self._machine.io_read
        self.io_write = self._machine.io_write
        self.ram_read = self.assembly.memory.load
        self.ram_write = self.assembly.memory.store
        self.now_ns = self._context.now_ns

    def _add(
        self, kind: str, parts: Sequence[Mapping[str, object]], add: Callable[[Mapping[str, object]], object]
    ) -> None:
        """Add objects, drives or devices; OptionsError says which one is wrong, and nothing stays open."""
        for index, options in enumerate(parts):
            try:
                add(options)
            except (ValueError, OSError) as error:
                self.assembly.close()
                raise OptionsError(kind, index, str(error)) from error

    def record(self, path: Path, limit: int | None = None) -> None:
        """Write a trace of everything from now on.  RecordError where that cannot be."""
        try:
            self._recorder = record_machine(self.assembly, path, limit=limit)
        except OSError as error:
            raise RecordError(f"{path} cannot be written: {error.strerror or error}") from None
        except ValueError as error:
            raise RecordError(str(error)) from None

    def add_drive(self, options: Mapping[str, object]) -> None:
        """Open a block node."""
        self.assembly.add_node(options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def name(self) -> str:
        """`devmodels`."""
        return "devmodels"

    @property
    def layout(self) -> MachineLayout:
        """The machine's address map."""
        return self._layout

    # --- interrupts

    def message(self, vector: int) -> tuple[int, int]:
        """The (address, data) of `vector`."""
        return _MESSAGE_ADDRESS, vector

    def _on_message(self, address: int, data: int) -> None:
        if address == _MESSAGE_ADDRESS:
            self._messages[data] += 1

    def _on_intx(self, line: int, level: bool) -> None:
        self._lines[line] = level

    def take_messages(self) -> dict[int, int]:
        """Vector to number of messages since the last call."""
        if not self._messages:
            return {}
        taken = dict(self._messages)
        self._messages.clear()
        return taken

    def intx_level(self, slot: int, pin: int) -> bool:
        """Whether the line that slot `slot`, pin `pin` is wired to is asserted (PCI-to-PCI Bridge 1.2 §9.1)."""
        return self._lines[(slot + pin - 1) % 4]

    def _on_irq(self, irq: int, level: bool) -> None:
        self._irqs[irq] = level

    def irq_level(self, irq: int) -> bool:
        """Whether line `irq`, of a device outside PCI, is asserted."""
        return self._irqs.get(irq, False)

    # --- time

    def advance(self) -> bool:
        """Do what is ready, else go on to the next timer; False where only the guest can make anything happen."""
        context = self._context
        if context.turn():
            return True
        if context.kind is ClockKind.VIRTUAL:
            if context.deadline() is None:
                return False
            context.run_once()
            return True
        if context.kind is ClockKind.STEPPED:
            return False
        context.call_at(context.now_ns() + _WAIT_NS, _nothing)
        context.run_once()
        return True

    def step_clock(self, duration_ns: int) -> None:
        """Let `duration_ns` pass: at once on a stepped clock, as `advance` goes on otherwise."""
        if self._context.kind is ClockKind.STEPPED:
            self._context.step(duration_ns)
        else:
            self._context.call_at(self._context.now_ns() + duration_ns, _nothing)

    def close(self) -> None:
        """Give up the machine. Idempotent."""
        if not self._closed:
            self._closed = True
            if self._recorder is not None:
                self._recorder.close()
            self.assembly.close()
            with suppress(BufferError):
                # A request that nobody will ever answer may still have a part of it.
                self._high.close()

    # --- the host

    def resize(self, node: str, size: int) -> None:
        """Give the block node a new size in bytes."""
        backend = self.assembly.backends.get(node)
        if backend is None:
            raise TargetError(f"no device uses a node {node!r}")
        try:
            self._context.run(backend.resize(size))
        except (OSError, ValueError) as error:
            raise TargetError(f"resize of {node} to {size}: {error}") from error

    def plug(self, device: Mapping[str, object]) -> None:
        """Plug a device."""
        try:
            self.assembly.add_device(device)
        except (OSError, ValueError) as error:
            raise TargetError(str(error)) from error

    def unplug(self, device: str) -> None:
        """Take a device out; what runs of it comes to its end."""
        assembly = self.assembly
        if not assembly.has(device):
            raise TargetError(f"no device {device!r}")
        self._context.start(assembly.remove_device(device))

    def qmp(self, command: str, arguments: Mapping[str, Any]) -> object:
        """Execute a command of the monitor's."""
        world = self._monitor or World.of(self.assembly)
        self._monitor = world
        found = commands(world).get(command)
        if found is None:
            raise TargetError(f"{command}: The command {command} has not been found")
        try:
            return msgspec.to_builtins(self._context.run(_execute(found, world, arguments)))
        except (CommandError, ValueError, OSError) as error:
            raise TargetError(f"{command}: {text_of(error)}") from error

    def holds(self, node: str, tag: str) -> bool:
        """Whether a request is held at the break point `tag` of the block node, or of one below it."""
        there = self.assembly.graph.nodes.get(node)
        found = None if there is None else debugged(there)
        return found is not None and found.debug_is_suspended(tag)

    def statistics(self, device: str) -> dict[str, int]:
        """Counters of the device with this id, with `query-blockstats` names."""
        for backend in self.assembly.drives.values():
            if backend.name == device:
                return backend.stats.as_dict()
        raise TargetError(f"no device {device!r}")

    def stop(self) -> None:
        """Hold the devices' requests to their disks back."""
        self.assembly.run_state.stop()

    def cont(self) -> None:
        """Let them go on."""
        self.assembly.run_state.cont()

    def take_events(self) -> list[tuple[str, Mapping[str, object]]]:
        """Name and members of the events since the last call."""
        taken, self._events = self._events, []
        return taken

    def violations(self) -> list[tuple[str, str]] | None:
        """(clause, what happened) of what the guest did wrong so far, at most the first 10000."""
        return list(self._violations)

    def _on_event(self, name: str, data: Mapping[str, object]) -> None:
        if len(self._events) < _MAX_EVENTS:
            self._events.append((name, data))

    def _on_violation(self, violation: Violation) -> None:
        if len(self._violations) < _MAX_VIOLATIONS:
            self._violations.append((violation.clause, f"{violation.place}: {violation.summary}"))


async def _execute(command: Command, world: World, arguments: Mapping[str, Any]) -> object:
    return await command(world, arguments)


def option_names(options: Mapping[str, str | int | bool]) -> dict[str, object]:
    """Options of a virtio-blk device, given as Python names, by the names that `devices` takes: most have hyphens."""
    names = _encoded_names() if options else {}
    return {names.get(name, name): value for name, value in options.items()}


@cache
def _encoded_names() -> dict[str, str]:
    return {field.name: field.encode_name for field in msgspec.structs.fields(VirtioBlkPciOptions)}


def _nothing() -> None:
    pass


def _region(base: int, buffer: mmap, *, shared: bool) -> Region:
    if shared:
        return SharedRegion(base, buffer)

    def read(address: int, length: int) -> bytes:
        return buffer[address - base : address - base + length]

    def write(address: int, data: bytes) -> None:
        buffer[address - base : address - base + len(data)] = data

    return BouncedRegion(base, len(buffer), read, write)
