"""The Serial ATA capability, and the index/data pair that it points to (AHCI 1.3.1 §2.3; SATA 3.x §E).

          31            24 23        20 19        16 15             8 7              0
    0x00 |    reserved    |   major    |   minor    |  next pointer  |      0x12      |
    0x04 |    reserved    |        BAR offset       |     BAR        |

Index and data are two dwords in I/O space: what lies at the index in memory space is reached through the data.
"""

from __future__ import annotations

from devmodels.pci.bars import BarHandler
from devmodels.pci.capability import Capability
from devmodels.registers import HWINIT, RW, Port, Register, RegisterFile

IDP_BAR, IDP_BAR_SIZE, IDP_OFFSET = 4, 32, 0x10
_BAR_LOCATION = 4
"""Where SATACR1 says BAR n: n + 4 (its offset in configuration space, in dwords)."""


class SataCapability(Capability, size=8):
    """SATACR0 and SATACR1."""

    CAP_ID = 0x12

    revision = Register(0x02, 2, clause="AHCI 1.3.1 §2.3.1")
    minor = revision.bits(3, 0, HWINIT, doc="of the revision")
    major = revision.bits(7, 4, HWINIT, doc="of the revision")
    location = Register(0x04, 4, clause="AHCI 1.3.1 §2.3.2")
    bar_location = location.bits(3, 0, HWINIT, doc="the BAR of the index and data pair, plus 4")
    bar_offset = location.bits(23, 4, HWINIT, doc="in dwords")

    def __init__(self) -> None:
        super().__init__()
        self.major = 1
        self.bar_location = IDP_BAR + _BAR_LOCATION
        self.bar_offset = IDP_OFFSET // 4


class IndexData(RegisterFile, size=IDP_BAR_SIZE, widths=(1, 2, 4), lenient=True):
    """The pair in its BAR; the index is that of a dword."""

    index = Register(IDP_OFFSET, 4, clause="AHCI 1.3.1 §2.4.1", doc="of a dword in memory space")
    index_bits = index.bits(15, 2, RW, doc="its offset")
    data = Port(IDP_OFFSET + 4, widths=(1, 2, 4), clause="AHCI 1.3.1 §2.4.2")

    def __init__(self, memory_space: BarHandler) -> None:
        super().__init__()
        self._space = memory_space

    @data.on_read
    def _read(self, size: int) -> int:
        return self._space.read(self.index, size)

    @data.on_write
    def _write(self, size: int, value: int) -> None:
        self._space.write(self.index, size, value)


class AddressMap(RegisterFile, size=4, widths=(1, 2, 4), lenient=True):
    """The ICH9's own configuration registers at 90h: how ports are mapped, which are enabled (Intel 316972, §15.1)."""

    address_map = Register(0x00, 1, clause="Intel 316972 §15.1.29")
    sms = address_map.bits(7, 6, HWINIT, reset=1, doc="AHCI")
    port_control = Register(
        0x02, 2, RW, clause="Intel 316972 §15.1.30", doc="all bits are held as written, without effect"
    )
