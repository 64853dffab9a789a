"""Where a guest's accesses go: what a CPU, its memory and its interrupt controller give a driver.

A `Target` is the guest's whole world. `guestsim.targets.inprocess` puts it over a `devmodels.machine.Machine`
in this process; `guestsim.targets.qemu` over a real QEMU.  Nothing above this file knows which one it has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping


class TargetError(Exception):
    """The target itself failed (a QEMU that died, a socket that closed): not something a guest can cause."""


class OptionsError(TargetError):
    """Options of a drive or a device are wrong: `kind` is `drives` or `devices`, `index` which of them."""

    def __init__(self, kind: str, index: int, problem: str) -> None:
        super().__init__(problem)
        self.kind = kind
        self.index = index


class LacksError(TargetError):
    """The target has no such thing: what needs it is left out. The text is what is needed."""


class RecordError(TargetError):
    """A trace cannot be written."""


@dataclass(frozen=True, slots=True)
class Window:
    """A range of addresses: `base` inclusive, `size` in bytes."""

    base: int
    size: int

    @property
    def end(self) -> int:
        """First address after the window."""
        return self.base + self.size


@dataclass(frozen=True, slots=True)
class MmioSlot:
    """Where a virtio-mmio device is or may be: the `base` of its registers, and the interrupt input it is wired to.

    `name` is the one that users know it by: QEMU's `virtio-mmio-bus.N`.
    """

    base: int
    irq: int
    name: str


@dataclass(frozen=True, slots=True)
class MachineLayout:
    """What firmware would have told the guest about the machine.

    `ram` lists memory that the guest's allocator may use; `mmio` and `io` are the windows from which the guest
    gives addresses to BARs; `ecam` is the base of bus 0's ECAM window (PCIe 6.0 §7.2.2), or None where only
    the ports 0xCF8/0xCFC reach configuration space; `virtio_mmio` lists the places of virtio-mmio devices.
    """

    ram: tuple[Window, ...]
    mmio: Window
    io: Window
    ecam: int | None
    virtio_mmio: tuple[MmioSlot, ...] = ()


class Target(Protocol):
    """The machine as one guest sees it. Integers are little-endian values; sizes are 1, 2, 4 or 8 bytes."""

    @property
    def name(self) -> str:
        """A short name for reports: `devmodels`, `qemu`."""
        ...

    @property
    def layout(self) -> MachineLayout:
        """The machine's address map."""
        ...

    def read(self, address: int, size: int) -> int:
        """Read a device register in memory space."""
        ...

    def write(self, address: int, size: int, value: int) -> None:
        """Write a device register in memory space."""
        ...

    def io_read(self, port: int, size: int) -> int:
        """Read an I/O port (size 1, 2 or 4)."""
        ...

    def io_write(self, port: int, size: int, value: int) -> None:
        """Write an I/O port (size 1, 2 or 4)."""
        ...

    def ram_read(self, address: int, length: int) -> bytes:
        """Read `length` bytes of guest memory."""
        ...

    def ram_write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Write guest memory."""
        ...

    def message(self, vector: int) -> tuple[int, int]:
        """The (address, data) that a driver programs into an MSI or MSI-X entry so that `vector` is signalled.

        `vector` is 0 to 2047 and is the guest's own number: any device may be given any vector.
        """
        ...

    def take_messages(self) -> dict[int, int]:
        """Vector to number of messages that arrived since the last call.

        Where the target cannot count (a message is a plain write to memory), the number is 1.
        """
        ...

    def intx_level(self, slot: int, pin: int) -> bool:
        """Whether the INTx line of PCI slot `slot`, pin `pin` (1 = INTA#) is asserted now."""
        ...

    def irq_level(self, irq: int) -> bool:
        """Whether interrupt input `irq`, of a device outside PCI, is asserted now."""
        ...

    def advance(self) -> bool:
        """Let the device side go on, by about a millisecond at most where time is real.

        Returns False where nothing can happen any more without the guest doing something (only a target
        that knows its devices can say so), else True.
        """
        ...

    def now_ns(self) -> int:
        """The machine's clock in nanoseconds."""
        ...

    def close(self) -> None:
        """Give up the machine. Idempotent."""
        ...


class Host(Protocol):
    """What the person beside the machine can do and see; never the guest. Drives and devices are named by id."""

    def resize(self, node: str, size: int) -> None:
        """Give the block node a new size in bytes; the device tells its guest."""
        ...

    def plug(self, device: Mapping[str, object]) -> None:
        """Plug a device, given by the options that it could have had from the start."""
        ...

    def unplug(self, device: str) -> None:
        """Take a device out, by its id; the guest is told, not asked."""
        ...

    def qmp(self, command: str, arguments: Mapping[str, Any]) -> object:
        """Execute a command of QMP's; its refusal is a `TargetError` in the other side's words."""
        ...

    def statistics(self, device: str) -> dict[str, int]:
        """Counters with QEMU's `query-blockstats` names (`rd_operations`, `wr_bytes`, `flush_operations`, …)."""
        ...

    def stop(self) -> None:
        """Stop the machine: its requests to the host are held back."""
        ...

    def cont(self) -> None:
        """Let the machine run on; what an error has held is tried again."""
        ...

    def take_events(self) -> list[tuple[str, Mapping[str, object]]]:
        """Name and members of QMP's events since the last call; the first call begins to listen."""
        ...

    def violations(self) -> list[tuple[str, str]] | None:
        """(clause id, what happened) of everything the guest did wrong so far; None where nobody keeps count."""
        ...
