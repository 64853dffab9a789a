"""PCI power management: D0 and D3hot.

          31              24 23            16 15             8 7              0
    0x00 |  power management capabilities    |  next pointer  |      0x01      |
    0x04 |     data         |   reserved     |   control and status (PMCSR)    |

In D3hot a function answers configuration accesses alone: its BARs do not decode, it does not master the bus and does
not interrupt.  Its registers keep their values (No_Soft_Reset).  Reference: PCI Bus Power Management 1.2 §3.2, §5.4.
"""

from __future__ import annotations

from devmodels.pci.capability import Capability
from devmodels.registers import HWINIT, RO, RW, Register

D0 = 0
D3HOT = 3


class PowerCapability(Capability, size=8):
    """Power management without PME# and without D1 and D2."""

    CAP_ID = 0x01

    capabilities = Register(0x02, 2, clause="PCI PM 1.2 §3.2.3")
    version = capabilities.bits(2, 0, HWINIT, reset=3, doc="of the specification")

    control_status = Register(0x04, 2, clause="PCI PM 1.2 §3.2.4")
    power_state = control_status.bits(
        1, 0, RW, doc="D1 and D2 are not supported: writing them changes nothing"
    )
    no_soft_reset = control_status.bit(3, RO, reset=1, doc="registers keep their values in D3hot")

    @control_status.on_write
    def _state_written(self, old: int, _new: int) -> None:
        before = old & 3
        if self.power_state not in (D0, D3HOT):
            self.power_state = before
        if self.power_state != before:
            self.function.power_changed()
