"""ATA buses, and places on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from devmodels.ata.device import AtaDevice


class AtaBus(Protocol):
    """Where ATA devices can be: a port (of one device), a channel (of two)."""

    hot_pluggable: bool
    """Whether a driver is told of devices that come and go."""

    @property
    def max_units(self) -> int:
        """How many devices it can have."""
        ...

    @property
    def units(self) -> dict[int, AtaDevice]:
        """Its devices by number."""
        ...

    def attach(self, device: AtaDevice, unit: int) -> None:
        """Put a device on it."""
        ...

    def detach(self, unit: int) -> None:
        """Take a device off."""
        ...


class AtaPlace(msgspec.Struct, frozen=True):
    """Where a device is, or will be once it is plugged: its model, the name of its bus, its number there."""

    driver: str
    bus_name: str
    bus: AtaBus
    unit: int
    device: AtaDevice

    def plug(self) -> None:
        """The bus has it from now on."""
        self.bus.attach(self.device, self.unit)


def find_place(buses: dict[str, AtaBus], bus: str | None, unit: int | None) -> tuple[str, int]:
    """The place asked for, or the first free one where that is open; ValueError where there is none."""
    if bus is not None and bus not in buses:
        known = ", ".join(buses) or "none"
        raise ValueError(f"no bus {bus!r}; the IDE buses are: {known}")
    for name, each in buses.items():
        if bus in (None, name):
            for number in range(each.max_units):
                if unit in (None, number) and number not in each.units:
                    return name, number
    if bus is None:
        raise ValueError("no IDE bus has a place left" if buses else "no 'IDE' bus found")
    if unit is not None and unit >= buses[bus].max_units:
        raise ValueError(f"unit is {unit}, expected 0 to {buses[bus].max_units - 1} on bus {bus!r}")
    raise ValueError(f"bus {bus!r} has no place left")
