"""A machine with functions in it, and a guest's few accesses, for the PCI and machine tests."""

from __future__ import annotations

from collections.abc import Callable

from devmodels.iocontext import IoContext
from devmodels.machine import Machine
from devmodels.memory import GuestMemory
from devmodels.memoryregions import SharedRegion
from devmodels.pci import Capability, PciFunction, PciIdentity

ECAM = 0xB000_0000
RAM_SIZE = 0x10000
IDENTITY = PciIdentity(0x1AF4, 0x1042, 0x010802, revision=3, subsystem_vendor_id=0x1AF4, subsystem_id=0x1100)

IO_ENABLE = 1
MEMORY_ENABLE = 2
BUS_MASTER = 4
INTX_DISABLE = 1 << 10


class Scratch:
    """Registers that keep what is written, and a list of the accesses."""

    def __init__(self, size: int, mark: int = 0) -> None:
        self.data = bytearray([mark]) * size
        self.accesses: list[tuple[str, int, int]] = []
        self.on_access: Callable[[], None] = lambda: None

    def read(self, offset: int, size: int) -> int:
        self.accesses.append(("read", offset, size))
        self.on_access()
        return int.from_bytes(self.data[offset : offset + size], "little")

    def write(self, offset: int, size: int, value: int) -> None:
        self.accesses.append(("write", offset, size))
        self.data[offset : offset + size] = value.to_bytes(size, "little")
        self.on_access()


class World:
    """One machine; messages and line levels are written down as they arrive."""

    def __init__(self, *, ecam: int | None = ECAM) -> None:
        self.messages: list[tuple[int, int]] = []
        self.levels: list[tuple[int, bool]] = []
        self.memory = GuestMemory(SharedRegion(0, bytearray(RAM_SIZE)))
        self.machine = Machine(
            self.memory,
            IoContext.virtual(),
            ecam=ecam,
            on_message=lambda address, data: self.messages.append((address, data)),
            on_intx=lambda line, level: self.levels.append((line, level)),
        )

    def config_read(self, slot: int, offset: int, size: int, number: int = 0) -> int:
        return self.machine.read(ECAM + (slot << 15) + (number << 12) + offset, size)

    def config_write(self, slot: int, offset: int, size: int, value: int, number: int = 0) -> None:
        self.machine.write(ECAM + (slot << 15) + (number << 12) + offset, size, value)


def make_function(name: str = "device", identity: PciIdentity = IDENTITY) -> PciFunction:
    """A function without BARs."""
    return PciFunction(identity, name=name)


def offset_of(function: PciFunction, kind: type[Capability]) -> int:
    """Where a function's capability of one kind lies."""
    return next(offset for offset, capability in function.capabilities if isinstance(capability, kind))
