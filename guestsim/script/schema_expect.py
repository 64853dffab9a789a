"""What a script expects, everywhere or on one target."""

from __future__ import annotations

from typing import Literal

from guestsim.script import schema_ata, schema_scsi
from guestsim.script.parts import Part
from guestsim.script.values import Amount, HexBytes, Pattern, Size

StatusName = Literal["OK", "IOERR", "UNSUPP"] | schema_scsi.StatusName
ErrorName = Literal["needs-reset", "dropped", "refused", "timeout", "check", "disconnected"]


class Bounds(Part):
    """A number from `least` to `most`."""

    least: int = 0
    most: int | None = None

    def __str__(self) -> str:
        return f"at least {self.least}" if self.most is None else f"{self.least} to {self.most}"


class Used(Part):
    """One used element."""

    id: int
    length: int


class PartOfData(Pattern, kw_only=True):
    """A pattern in a part of what was read: `length` bytes from `at` on, by default to its end."""

    at: Size = Size(0)
    length: Amount | None = None


class Expect(Part):
    """What must hold after a step.

    Where nothing is said, requests must end with OK and no violation may be reported.
    """

    status: StatusName | int | None = None
    response: schema_scsi.ResponseName | int | None = None
    sense: str | None = None
    residual: int | None = None
    units: list[str] | None = None
    registers: dict[str, int] | None = None
    blocks: list[int] | None = None
    found: list[str] | None = None
    used_length: int | None = None
    data: Pattern | list[PartOfData] | None = None
    prefix: HexBytes | None = None
    length: int | None = None
    id: str | None = None
    value: int | None = None
    mask: int | None = None
    interrupts: int | Bounds | None = None
    config_changes: int | Bounds | None = None
    features: list[str | int] | None = None
    config: dict[str, int] | None = None
    lifetime: dict[str, int] | None = None
    statistics: dict[str, int | Bounds] | None = None
    used: list[Used] | None = None
    needs_reset: bool | None = None
    dropped: int | None = None
    violation: str | list[str] | None = None
    error: ErrorName | None = None

    def __post_init__(self) -> None:
        if self.sense not in (None, "none"):
            schema_scsi.parse_sense(self.sense)
        for unit in self.units or ():
            schema_scsi.parse_place(unit)
        for name in self.registers or ():
            if name not in schema_ata.REGISTERS:
                raise ValueError(f"register {name!r}, expected one of {', '.join(schema_ata.REGISTERS)}")

    def of_the_whole(self) -> bool:
        """Whether it holds something that is not known of one request among others."""
        return not (self.violation is None and self.interrupts is None and self.config_changes is None)


class Difference(Expect, kw_only=True):
    """What a target answers otherwise than the script expects, and the reason, with its clause.

    `right`: who does as the clause says, the script, the target, or both, where it leaves that open.
    """

    because: str
    right: Literal["script", "target", "both"] = "script"
