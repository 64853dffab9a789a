"""The table of commands: what each is called, how its CDB looks, who answers it, and what follows from that.

REPORT SUPPORTED OPERATION CODES, the check of reserved bits and the documentation's table come from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import msgspec

from devmodels.iocontext import Coro
from devmodels.scsi.fields import Fields, Layout

if TYPE_CHECKING:
    from devmodels.scsi.task import Task
    from devmodels.scsi.unit import LogicalUnit


class Pending:
    """The type of `PENDING`."""


PENDING: Final = Pending()
"""What a handler returns that calls `unit.finish(task)` itself, later or already."""

Reply = bytes | bytearray | None | Pending | Coro[bytes | None]
"""What a handler returns: data for the initiator, cut to the allocation length; nothing; or a coroutine for either."""

U_contra = TypeVar("U_contra", bound="LogicalUnit", contravariant=True)
Handler = Callable[[U_contra, "Task", Fields], Reply]


class Data(Enum):
    """Where a command's data goes."""

    NONE = auto()
    IN = auto()
    OUT = auto()


class Access(Enum):
    """What a command does to the medium or to the unit: what a reservation of another nexus forbids (SPC-4 §5.12)."""

    ALWAYS = auto()
    """Allowed whatever is reserved."""
    FREE = auto()
    """As `ALWAYS` but for RESERVE (6) and (10), with which it conflicts."""
    READ = auto()
    """Conflicts with exclusive access."""
    WRITE = auto()
    """Conflicts with every reservation."""
    OWN = auto()
    """Its handler looks: what is allowed depends on more than the command."""


class Command(msgspec.Struct, Generic[U_contra], frozen=True, eq=False):
    """One command.

    `clause`: where it is specified; without a number, under its name.  `length`: the field that holds its allocation,
    parameter list or transfer length.  `refused`: fields that must be 0 because what they ask for does not exist here;
    `ignored`: fields that change nothing.  `attention`: whether a unit attention condition is reported instead.
    `ready`: whether it needs a medium that nothing else is being done to.  `raw`: its handler reads the CDB by itself.
    `exact`: reserved bits are refused in any profile, as with what destroys everything.
    `timeout`: how long it may take in seconds, for REPORT SUPPORTED OPERATION CODES; 0 where nothing is said.
    """

    opcode: int
    name: str
    layout: Layout
    handler: Handler[U_contra]
    clause: str
    action: int | None = None
    data: Data = Data.NONE
    length: str = ""
    refused: Sequence[str] = ()
    ignored: Sequence[str] = ()
    attention: bool = True
    access: Access = Access.WRITE
    ready: bool = True
    raw: bool = False
    exact: bool = False
    timeout: int = 10

    @property
    def reference(self) -> str:
        """Document and clause."""
        return self.clause if "§" in self.clause else f"{self.clause} {self.name.partition(',')[0]}"

    def bits(self, names: Iterable[str]) -> int:
        """The bits of these fields, in the CDB as one big-endian number."""
        out = 0
        for name in names:
            place = self.layout.places.get(name)
            if place is not None:
                out |= place.mask << 8 * (self.layout.size - place.offset - place.size)
        return out

    def usage(self, absent: Iterable[str] = ()) -> bytes:
        """The CDB usage data of SPC-4 §6.35.3: its opcode, its service action, and each bit that is looked at.

        `absent`: fields that this unit refuses.
        """
        names = (*self.refused, *self.ignored, *absent, "vendor_control", "naca", "service_action", "opcode")
        mask = self.bits(self.layout.names) & ~self.bits(names)
        mask |= self.opcode << 8 * (self.layout.size - 1)
        if self.action is not None:
            mask |= self.action << 8 * (self.layout.size - 2)
        return mask.to_bytes(self.layout.size, "big")

    def forbidden(self, *, strict: bool, absent: Iterable[str] = ()) -> int:
        """The bits of a CDB that must be 0: what is refused, and with `strict` what is reserved."""
        out = self.bits((*self.refused, *absent, "naca"))
        if strict or self.exact:
            out |= (1 << 8 * self.layout.size) - 1 & ~self.bits(self.layout.names)
        return out
