"""`ide-hd` and `ide-cd`: ATA devices as options name them, and the bus that they are on."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import msgspec

from devmodels.ata.device import AtaDevice
from devmodels.ata.disk.options import AtaDiskOptions
from devmodels.ata.packet.options import AtapiOptions
from devmodels.blockbackend.errorpolicy import OnReadError, OnWriteError


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


class IdeHdOptions(AtaDiskOptions, rename="kebab", forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Options of `-device ide-hd`: those of the disk, and its place.

    `bus` is a host's id with the number of its port or channel ("sata0.0"); without it the first free place is taken.
    """

    drive: str
    driver: str = "ide-hd"
    id: str | None = None
    bus: str | None = None
    unit: int | None = None
    share_rw: bool = False
    rerror: OnReadError = "auto"
    werror: OnWriteError = "auto"
    account_invalid: bool = True
    account_failed: bool = True
    stats_intervals: tuple[int, ...] = ()
    min_io_size: int = msgspec.field(default=0, name="min_io_size")
    opt_io_size: int = msgspec.field(default=0, name="opt_io_size")


class IdeCdOptions(AtapiOptions, rename="kebab", forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Options of `-device ide-cd`: those of the drive, and its place.  Without `drive` its tray is empty."""

    drive: str | None = None
    driver: str = "ide-cd"
    id: str | None = None
    bus: str | None = None
    unit: int | None = None
    rerror: OnReadError = "auto"
    werror: OnWriteError = "auto"
    account_invalid: bool = True
    account_failed: bool = True
    stats_intervals: tuple[int, ...] = ()


class AtaPlace(NamedTuple):
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
