"""A PCI function's registers by region and offset, wherever its BARs are: what a client has who is its bus (VFIO).

Regions 0 to 5 are the BARs, 6 an expansion ROM, 7 configuration space, 8 the VGA ranges, as <linux/vfio.h> numbers
them; one address names both, the region from bit 40 on.  No BAR register, decoding enable or power state keeps an
access out: those are the client's own affair.
"""

from __future__ import annotations

from devmodels.addressspace import AddressSpace
from devmodels.machine import Machine
from devmodels.pci.bars import Windows
from devmodels.pci.bus import RootBus
from devmodels.pci.decode import Claim
from devmodels.pci.function import PciFunction

CONFIG_REGION = 7
NUM_REGIONS = 9
REGION_SHIFT = 40

_SIZES = (1, 2, 4, 8)
_WHOLE = 8
_WHOLE_IO = 4


def regions_name(function: str) -> str:
    """What a trace calls the regions of `function`."""
    return f"{function}.regions"


class _ConfigRegion:
    """Configuration space of a plugged function."""

    def __init__(self, bus: RootBus, slot: int, number: int) -> None:
        self._bus = bus
        self._slot = slot
        self._number = number

    def read(self, offset: int, size: int) -> int:
        """Read `size` bytes."""
        return self._bus.config_read(self._slot, self._number, offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """Write `size` bytes."""
        self._bus.config_write(self._slot, self._number, offset, size, value)


class FunctionRegions(AddressSpace):
    """The regions of `function`, which is plugged into `machine` and has all its BARs; `sizes` are in bytes."""

    __slots__ = ("_largest", "function", "sizes")

    def __init__(self, machine: Machine, function: PciFunction) -> None:
        super().__init__(machine, regions_name(function.name))
        self.function = function
        self.sizes = [0] * NUM_REGIONS
        self._largest = [_WHOLE_IO] * NUM_REGIONS
        """Longest access that there is, in bytes: configuration space and ports have none of 8."""
        claims: list[Claim] = []
        for index, bar in function.bars.items():
            base = index << REGION_SHIFT
            if isinstance(bar.handler, Windows):
                claims += bar.handler.claims(base, function)
            claims.append(Claim(base, bar.size, bar.handler, function))
            self.sizes[index] = bar.size
            if not bar.kind.is_io:
                self._largest[index] = _WHOLE
        (place,) = [(slot, number) for slot, number, each in machine.bus.functions() if each is function]
        config = _ConfigRegion(machine.bus, *place)
        self.sizes[CONFIG_REGION] = function.config.size
        claims.append(Claim(CONFIG_REGION << REGION_SHIFT, function.config.size, config, None))
        self.decode(claims)

    def holds(self, region: int, offset: int, count: int) -> bool:
        """Whether `count` bytes at `offset` lie in `region`."""
        return region < NUM_REGIONS and count > 0 and offset + count <= self.sizes[region]

    def load(self, region: int, offset: int, count: int) -> bytes:
        """Read bytes that the region holds: one access where there can be one, else naturally aligned pieces."""
        address = region << REGION_SHIFT | offset
        if count in _SIZES and count <= self._largest[region]:
            return self.read(address, count).to_bytes(count, "little")
        return b"".join(
            self.read(address + at, size).to_bytes(size, "little")
            for at, size in self._pieces(region, offset, count)
        )

    def store(self, region: int, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write bytes that the region holds, in the same way."""
        address = region << REGION_SHIFT | offset
        count = len(data)
        if count in _SIZES and count <= self._largest[region]:
            self.write(address, count, int.from_bytes(data, "little"))
            return
        for at, size in self._pieces(region, offset, count):
            self.write(address + at, size, int.from_bytes(data[at : at + size], "little"))

    def _pieces(self, region: int, offset: int, count: int) -> list[tuple[int, int]]:
        largest = self._largest[region]
        pieces = []
        done = 0
        while done < count:
            size = largest
            while size > count - done or (offset + done) % size:
                size //= 2
            pieces.append((done, size))
            done += size
        return pieces
