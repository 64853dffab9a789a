"""What a throttle group is told: QEMU's `ThrottleLimits`, name by name, and which of them contradict each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

import msgspec

from devmodels.blockbackend.options import BlockOptionError
from devmodels.options import OptionError, convert

MAX_VALUE = 10**15
Limit = Annotated[
    int, msgspec.Meta(ge=0, le=MAX_VALUE, description="a number from 0 (no limit) to 1000000000000000")
]
Length = Annotated[
    int, msgspec.Meta(ge=1, le=MAX_VALUE, description="a number of seconds from 1 to 1000000000000000")
]

OPERATIONS, BYTES = "iops", "bps"
TOTAL, READ, WRITE = "total", "read", "write"


class Rate(msgspec.Struct, frozen=True):
    """One limit: `unit` is iops or bps, `of` total, read or write; `burst` (0: none) may last `length` seconds."""

    unit: str
    of: str
    average: int
    burst: int
    length: int

    @property
    def name(self) -> str:
        """As in the options."""
        return f"{self.unit}-{self.of}"


class ThrottleLimits(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Operations (`iops`) and bytes (`bps`) a second: total, or of reads and writes apart; 0 is no limit.

    `…-max` is what bursts may reach, for `…-max-length` seconds.  With `iops-size`, an operation counts once for each
    such number of bytes, in proportion, if it is longer.
    """

    iops_total: Limit = 0
    iops_total_max: Limit = 0
    iops_total_max_length: Length = 1
    iops_read: Limit = 0
    iops_read_max: Limit = 0
    iops_read_max_length: Length = 1
    iops_write: Limit = 0
    iops_write_max: Limit = 0
    iops_write_max_length: Length = 1
    bps_total: Limit = 0
    bps_total_max: Limit = 0
    bps_total_max_length: Length = 1
    bps_read: Limit = 0
    bps_read_max: Limit = 0
    bps_read_max_length: Length = 1
    bps_write: Limit = 0
    bps_write_max: Limit = 0
    bps_write_max_length: Length = 1
    iops_size: Limit = 0

    def rates(self) -> Iterator[Rate]:
        """All six, those without a limit too."""
        for unit in (OPERATIONS, BYTES):
            for of in (TOTAL, READ, WRITE):
                name = f"{unit}_{of}"
                burst, length = getattr(self, f"{name}_max"), getattr(self, f"{name}_max_length")
                yield Rate(unit, of, getattr(self, name), burst, length)

    @property
    def enabled(self) -> bool:
        """Whether there is a limit at all."""
        return any(rate.average for rate in self.rates())

    def problem(self) -> tuple[str, str] | None:
        """The option that contradicts another one, and what is expected; None where all is well."""
        for rate in self.rates():
            if rate.burst and not rate.average:
                return f"{rate.name}-max", f"with it {rate.name}"
            if rate.burst and rate.burst < rate.average:
                return f"{rate.name}-max", f"at least {rate.name}, {rate.average}"
            if rate.length > 1 and not rate.burst:
                return f"{rate.name}-max-length", f"with it {rate.name}-max"
            if rate.burst * rate.length > MAX_VALUE:
                return f"{rate.name}-max-length", f"at most {MAX_VALUE // rate.burst} at that rate"
        averages = {rate.name: rate.average for rate in self.rates()}
        for unit in (OPERATIONS, BYTES):
            if averages[f"{unit}-{TOTAL}"] and (averages[f"{unit}-{READ}"] or averages[f"{unit}-{WRITE}"]):
                return f"{unit}-{TOTAL}", f"either it or {unit}-{READ} and {unit}-{WRITE}"
        if self.iops_size and not any(rate.average for rate in self.rates() if rate.unit == OPERATIONS):
            return "iops-size", "with it a limit of operations"
        return None


def check(given: Mapping[str, object], *, where: str = "$") -> ThrottleLimits:
    """`given` as limits; BlockOptionError, one line that begins with `where`, where they are wrong."""
    try:
        limits = convert(given, ThrottleLimits, what=where)
    except OptionError as error:
        raise BlockOptionError(str(error).replace(f"{where}: ", f"{where}.", 1)) from None
    if problem := limits.problem():
        name, expected = problem
        raise BlockOptionError(f"{where}.{name}: {given.get(name)} is given; expected {expected}")
    return limits
