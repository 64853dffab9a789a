"""What every capability begins with: its id, and the offset of the next.

         15             8 7              0
        |  next pointer  |      id        |

Reference: PCI Local Bus 3.0 §6.7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from devmodels.registers import HWINIT, Register, RegisterFile

if TYPE_CHECKING:
    from devmodels.pci.function import PciFunction


class Capability(RegisterFile, size=2, widths=(1, 2, 4), lenient=True):
    """Base of capabilities: declare `CAP_ID`, a class argument `size`, and registers from offset 2 on."""

    CAP_ID: ClassVar[int] = 0

    cap_id = Register(0x00, 1, HWINIT, clause="PCI 3.0 §6.7", doc="which capability")
    next_pointer = Register(0x01, 1, HWINIT, clause="PCI 3.0 §6.7", doc="offset of the next; 0: the last")

    def __init__(self) -> None:
        super().__init__()
        self.cap_id = self.CAP_ID
        self._function: PciFunction | None = None

    @property
    def function(self) -> PciFunction:
        """The function it belongs to; RuntimeError before it was added to one."""
        if self._function is None:
            raise RuntimeError(f"{type(self).__name__} has not been added to a function")
        return self._function

    def attach(self, function: PciFunction) -> None:
        """Called when `function` has taken this capability up."""
        self._function = function
