"""What the modern and the legacy interface of virtio over PCI have in common: vectors, INTx and the ISR status."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING

from guestsim.drivers.layouts import ISR_CONFIG, ISR_QUEUE, Field
from guestsim.drivers.transport import Events, Interrupts
from guestsim.errors import GuestError

if TYPE_CHECKING:
    from guestsim.drivers.pci import Msix, PciFunction
    from guestsim.guest import Guest

VENDOR_ID = 0x1AF4
MODERN_ID_BASE = 0x1040
ISR = Field(0, 1)


class PciTransport(ABC):
    """A virtio function on PCI, whose BARs this places where nobody has."""

    __slots__ = ("_entries", "_events", "_intx", "_msix", "_vectors", "function", "guest")

    def __init__(self, guest: Guest, function: PciFunction) -> None:
        self.guest = guest
        self.function = function
        if not function.bars:
            function.place_bars()
        self._events: Events | None = None
        self._msix: Msix | None = None
        self._intx: int | None = None
        self._vectors: dict[int, int] = {}
        self._entries: dict[int, int] = {}
        """Queue index to MSI-X table entry, of the queues that have one."""

    def __str__(self) -> str:
        return str(self.function)

    @abstractmethod
    def read_isr(self) -> int:
        """Read the ISR status, which clears it and lowers the line (§4.1.4.5)."""

    @abstractmethod
    def get(self, register: str) -> int:
        """Read a register by the name that it has in the common configuration (§4.1.4.3)."""

    @abstractmethod
    def set(self, register: str, value: int) -> None:
        """Write a register by the name that it has in the common configuration (§4.1.4.3)."""

    # --- interrupts

    @property
    def vectors(self) -> dict[int, int]:
        """MSI-X table entry to the guest's vector."""
        return dict(self._vectors)

    def connect(self, mode: Interrupts, queues: int, events: Events) -> None:
        """Have `events` called for interrupts; before the queues are enabled, with how many there will be."""
        self._events = events
        if mode is Interrupts.MSIX:
            self._connect_msix(queues)
        elif mode is Interrupts.INTX:
            self._intx = self.function.interrupt_pin
            if not self._intx:
                raise GuestError(f"{self} has no interrupt pin")
            self.guest.interrupts.connect(self.function.slot, self._intx, self._on_line)

    def _connect_msix(self, queues: int) -> None:
        """Entry 0 for configuration changes, one for each queue from 1 on; shared where there are too few."""
        msix = self._msix = self.function.msix()
        if msix is None:
            raise GuestError(f"{self} has no MSI-X capability")
        interrupts = self.guest.interrupts
        for entry in range(min(queues + 1, msix.size)):
            vector = interrupts.allocate(partial(self._on_message, entry), f"{self} entry {entry}")
            self._vectors[entry] = vector
            msix.program(entry, *interrupts.message(vector))
        msix.enable()
        self._map_vector("config_msix_vector", 0)

    def map_queue(self, index: int) -> None:
        """Give queue `index`, which is selected, its table entry, where MSI-X is used."""
        if self._vectors:
            entries = len(self._vectors)
            entry = self._entries[index] = 1 + index % (entries - 1) if entries > 1 else 0
            self._map_vector("queue_msix_vector", entry)

    def _map_vector(self, register: str, entry: int) -> None:
        """Map an event to a table entry and read it back (§4.1.5.1.2.2)."""
        self.set(register, entry)
        if self.get(register) != entry:
            raise GuestError(f"{self} could not map {register} to entry {entry}")

    def disconnect(self) -> None:
        """Have nobody called any more; after a reset. Idempotent."""
        if self._msix is not None:
            self._msix.disable()
            self._msix = None
        for vector in self._vectors.values():
            self.guest.interrupts.free(vector)
        self._vectors.clear()
        self._entries.clear()
        if self._intx is not None:
            self.guest.interrupts.disconnect(self.function.slot, self._intx, self._on_line)
            self._intx = None

    def _on_message(self, entry: int) -> None:
        assert self._events is not None
        queues = [index for index, mapped in self._entries.items() if mapped == entry]
        if queues:
            self._events.on_used(queues)
        if entry == 0:
            self._events.on_config()

    def _on_line(self) -> bool:
        assert self._events is not None
        isr = self.read_isr()
        if isr & ISR_QUEUE:
            self._events.on_used(None)
        if isr & ISR_CONFIG:
            self._events.on_config()
        return bool(isr)
