"""A PCI function that is nobody's device: registers that keep what is written, DMA and interrupts when it is told."""

from __future__ import annotations

from collections.abc import Callable

from devmodels.dma import Direction, DmaMap
from devmodels.memory import GuestMemory
from devmodels.memoryregions import GuestMemoryError
from devmodels.pci import BarKind, PciFunction, PciIdentity
from devmodels.pci.msi import msi

ADDRESS, LENGTH, VALUE, COMMAND, SCRATCH = 0x00, 0x08, 0x0C, 0x10, 0x20
"""Registers of BAR 0: an address of 8 bytes, a length, a byte to fill with, a command; SCRATCH keeps 64 bytes."""

READ, WRITE, HOLD, GIVE_BACK, RAISE, LOWER, MSI, MSIX = range(1, 9)
"""Commands: DMA, a transfer that is held until it is given back, interrupts (VALUE is the vector)."""

BAR_SIZE = 0x1000
IO_SIZE = 0x20
MSIX_BAR = 2
VECTORS = 4
FAILED = 0xFFFF_FFFF


class _Bar:
    """BAR 0, in the way of a device's registers; every access is noted."""

    def __init__(self, owner: TestFunction) -> None:
        self._owner = owner

    def read(self, offset: int, size: int) -> int:
        self._owner.accesses.append(("read", offset, size, 0))
        return int.from_bytes(self._owner.registers[offset : offset + size], "little")

    def write(self, offset: int, size: int, value: int) -> None:
        self._owner.accesses.append(("write", offset, size, value))
        self._owner.registers[offset : offset + size] = value.to_bytes(size, "little")
        if offset == COMMAND:
            self._owner.do(value)


class _IoBar:
    """BAR 1, I/O ports that keep what is written."""

    def __init__(self) -> None:
        self.ports = bytearray(IO_SIZE)

    def read(self, offset: int, size: int) -> int:
        return int.from_bytes(self.ports[offset : offset + size], "little")

    def write(self, offset: int, size: int, value: int) -> None:
        self.ports[offset : offset + size] = value.to_bytes(size, "little")


class TestFunction(PciFunction):
    """The function; `slow_reset` has a reset wait until `settle` is called."""

    __test__ = False

    def __init__(self, memory: GuestMemory, *, name: str = "dut") -> None:
        super().__init__(PciIdentity(0x1234, 0x5678, 0xFF0000), name=name)
        self.memory = memory
        self.registers = bytearray(BAR_SIZE)
        self.accesses: list[tuple[str, int, int, int]] = []
        self.held: list[DmaMap] = []
        self.resets = 0
        self.slow_reset = False
        self._settling: list[Callable[[], None]] = []
        self.add_bar(0, BAR_SIZE, _Bar(self))
        self.add_bar(1, IO_SIZE, _IoBar(), kind=BarKind.IO)
        self.add_msix(VECTORS, bar=MSIX_BAR)
        self.add_capability(msi(VECTORS))

    def _word(self, at: int, size: int = 4) -> int:
        return int.from_bytes(self.registers[at : at + size], "little")

    def do(self, command: int) -> None:
        """Carry out a command; LENGTH becomes FAILED where memory is not there."""
        address, length, value = self._word(ADDRESS, 8), self._word(LENGTH), self._word(VALUE)
        try:
            if command == READ:
                self.registers[SCRATCH : SCRATCH + length] = self.memory.read(address, length)
            elif command == WRITE:
                self.memory.write(address, bytes([value & 0xFF]) * length)
            elif command == HOLD:
                self.held.append(self.memory.map([(address, length)], Direction.FROM_DEVICE))
        except GuestMemoryError:
            self.registers[LENGTH : LENGTH + 4] = FAILED.to_bytes(4, "little")
        if command == GIVE_BACK and self.held:
            self.give_back()
        elif command in (RAISE, LOWER):
            self.set_intx(command == RAISE)
        elif command == MSI and self.msi is not None:
            self.msi.notify(value)
        elif command == MSIX and self.msix is not None:
            self.msix.notify(value)

    def give_back(self) -> None:
        """End a held transfer, of ones."""
        dma = self.held.pop(0)
        for view in dma.views:
            view[:] = b"\x01" * len(view)
        dma.unmap(dma.nbytes)

    def on_reset(self) -> None:
        self.resets += 1
        self.registers[:] = bytes(BAR_SIZE)
        self.set_intx(False)

    def when_settled(self, then: Callable[[], None]) -> None:
        if self.slow_reset:
            self._settling.append(then)
        else:
            then()

    def settle(self) -> None:
        """The reset is complete."""
        self.slow_reset = False
        settling, self._settling = self._settling, []
        for then in settling:
            then()
