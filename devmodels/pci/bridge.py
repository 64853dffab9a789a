"""A PCI-to-PCI bridge: another bus behind a function, reached by its number and through windows of addresses.

The type 1 header has other registers where type 0 has base addresses 2 to 5:

          31            24 23            16 15             8 7              0
    0x18 | secondary latency | subordinate bus | secondary bus | primary bus |
    0x1C |          secondary status         |   I/O limit   |   I/O base    |
    0x20 |            memory limit           |          memory base          |
    0x24 |     prefetchable memory limit     |   prefetchable memory base    |

Windows of I/O are multiples of 4 KiB, of memory of 1 MiB; a base above its limit is no window.  Addresses above 4 GiB
and 64 KiB are not forwarded, and devices behind may master the bus whatever the bridge's own enable says.

Reference: PCI-to-PCI Bridge 1.2 §3.2, §4, §9.1.
"""

from __future__ import annotations

from collections.abc import Iterator

from devmodels.interrupts import LineSource, Outbox
from devmodels.pci.bus import RootBus
from devmodels.pci.decode import Claim
from devmodels.pci.function import PciFunction, PciHost, PciIdentity
from devmodels.pci.header import BARS, MULTI_FUNCTION

BUSES, IO, MEMORY, PREFETCHABLE = BARS[2:6]
WRITABLE = ((BUSES, 0xFFFF_FFFF), (IO, 0x0000_F0F0), (MEMORY, 0xFFF0_FFF0), (PREFETCHABLE, 0xFFF0_FFF0))
TYPE_1 = 0x01


class PciBridge(PciFunction):
    """A bridge; `behind` is its secondary bus.  `outbox` is that of the machine."""

    def __init__(self, identity: PciIdentity, outbox: Outbox, *, name: str) -> None:
        super().__init__(identity, name=name)
        for register, writable in WRITABLE:
            self.header.hardwire(register, 0, writable=writable)
        self._lines: list[LineSource] = []
        self.behind = RootBus(outbox, self.decode_changed, self._interrupt)

    def plugged(self, host: PciHost, intx: LineSource | None, *, multi_function: bool) -> None:
        """The pins of devices behind drive those of the slot that the bridge is in (§9.1)."""
        super().plugged(host, intx, multi_function=multi_function)
        assert isinstance(host, RootBus)
        self._lines = host.pins_of(self)

    def _interrupt(self, line: int, level: bool) -> None:
        if self._lines:
            self._lines[line].set(level)

    def set_multi_function(self, value: bool) -> None:
        """Its header says that it is a bridge."""
        self.header.header_type = TYPE_1 | (MULTI_FUNCTION if value else 0)

    def bus(self, number: int) -> RootBus | None:
        """The bus of that number, if it is behind here."""
        buses = self.header.value_of(BUSES)
        secondary, subordinate = buses >> 8 & 0xFF, buses >> 16 & 0xFF
        if not secondary or not secondary <= number <= subordinate:
            return None
        return self.behind if number == secondary else self.behind.bus_behind(number)

    def claims(self, *, io: bool) -> Iterator[Claim]:
        """Those of devices behind, as far as they lie in one of the windows."""
        enabled = self.header.io_space_enable if io else self.header.memory_space_enable
        if enabled:
            windows = (self._io_window(),) if io else self._memory_windows()
            for claim in self.behind.claims(io=io):
                if any(start <= claim.base and claim.base + claim.size <= end for start, end in windows):
                    yield claim

    def _io_window(self) -> tuple[int, int]:
        value = self.header.value_of(IO)
        return (value & 0xF0) << 8, ((value & 0xF000) | 0xFFF) + 1

    def _memory_windows(self) -> tuple[tuple[int, int], ...]:
        values = [self.header.value_of(register) for register in (MEMORY, PREFETCHABLE)]
        return tuple(((value & 0xFFF0) << 16, (value & 0xFFF0_0000 | 0xF_FFFF) + 1) for value in values)

    def on_reset(self) -> None:
        """A reset of the bridge is one of the bus behind it."""
        for _, _, function in self.behind.functions():
            function.reset()
