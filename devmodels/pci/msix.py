"""MSI-X: a table of messages in a BAR, each with a mask, and an array of pending bits.

          31                              16 15             8 7              0
    0x00 | E M  reserved |    table size    |  next pointer  |      0x11      |   E enable, M function mask
    0x04 |                       table offset                        |  BIR  |
    0x08 |                    pending bit array offset               |  BIR  |

    table entry:    0x0 message address    0x4 upper address    0x8 data    0xC vector control (bit 0: mask)

A vector that is raised while it is masked, or while the function may not master the bus, is pending; it is sent, once,
as soon as nothing holds it back.  Reference: PCI Local Bus 3.0 §6.8.2, §6.8.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from devmodels.pci.capability import Capability
from devmodels.registers import HWINIT, POWER_ON, RW, Blocks, Register, RegisterFile
from devmodels.registers.state import nest, unnest

if TYPE_CHECKING:
    from devmodels.pci.function import PciFunction

MAX_VECTORS = 2048
ENTRY_SIZE = 16


class MsixEntry(RegisterFile, size=ENTRY_SIZE, widths=(4, 8)):
    """One entry of the table, PCI 3.0 §6.8.2.6 to §6.8.2.9."""

    message_address = Register(0x0, 4, clause="PCI 3.0 §6.8.2.6")
    address_bits = message_address.bits(31, 2, RW, doc="where it is written, a multiple of 4")
    message_upper_address = Register(
        0x4, 4, RW, clause="PCI 3.0 §6.8.2.7", doc="where it is written, upper half"
    )
    message_data = Register(0x8, 4, RW, clause="PCI 3.0 §6.8.2.8", doc="what is written")
    vector_control = Register(0xC, 4, clause="PCI 3.0 §6.8.2.9")
    mask = vector_control.bit(0, RW, reset=1, doc="held back while it is 1")

    def __init__(self, owner: MsixCapability | None = None, vector: int = 0) -> None:
        super().__init__()
        self._owner = owner
        self._vector = vector

    @mask.on_change
    def _mask_changed(self, _value: int) -> None:
        if self._owner is not None:
            self._owner.release(self._vector)


class MsixTable(RegisterFile, size=ENTRY_SIZE * MAX_VECTORS, widths=(4, 8), fill=0xFF):
    """The table; what lies beyond its last vector reads 0."""

    entry = Blocks(MsixEntry, 0, count=MAX_VECTORS)

    def __init__(self, owner: MsixCapability) -> None:
        super().__init__()
        self._owner = owner

    @entry.factory
    def _make_entry(self, index: int) -> MsixEntry | None:
        return MsixEntry(self._owner, index) if index < self._owner.vectors else None


class PendingBits:
    """The pending bit array, one bit a vector in 64-bit words; read only, PCI 3.0 §6.8.2.10."""

    __slots__ = ("bits",)

    def __init__(self) -> None:
        self.bits = 0
        """Bit n: vector n is pending."""

    def read(self, offset: int, size: int) -> int:
        """Read `size` bytes of the array."""
        return self.bits >> 8 * offset & (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """Nothing can be written."""


class MsixCapability(Capability, size=12):
    """MSI-X with `vectors` entries; its owner puts `table` and `pending` into BARs at the places it names here."""

    CAP_ID = 0x11

    message_control = Register(0x02, 2, clause="PCI 3.0 §6.8.2.3")
    table_size = message_control.bits(10, 0, HWINIT, doc="number of vectors less one")
    function_mask = message_control.bit(14, RW, doc="all vectors are masked")
    enable = message_control.bit(15, RW, doc="messages instead of INTx#")

    table_location = Register(0x04, 4, clause="PCI 3.0 §6.8.2.4")
    table_bir = table_location.bits(2, 0, HWINIT, doc="the BAR of the table")
    table_offset = table_location.bits(31, 3, HWINIT, doc="in units of 8 bytes")

    pba_location = Register(0x08, 4, clause="PCI 3.0 §6.8.2.5")
    pba_bir = pba_location.bits(2, 0, HWINIT, doc="the BAR of the pending bits")
    pba_offset = pba_location.bits(31, 3, HWINIT, doc="in units of 8 bytes")

    def __init__(
        self, vectors: int, *, table_bar: int, table_offset: int, pba_bar: int, pba_offset: int
    ) -> None:
        if not 1 <= vectors <= MAX_VECTORS:
            raise ValueError(f"{vectors} MSI-X vectors: 1 to {MAX_VECTORS} are possible")
        if table_offset % 8 or pba_offset % 8:
            raise ValueError("MSI-X table and pending bits lie at multiples of 8")
        super().__init__()
        self.vectors = vectors
        self.table = MsixTable(self)
        self._entries = self.table.entry
        self.pending = PendingBits()
        self.table_size = vectors - 1
        self.table_bir = table_bar
        self.table_offset = table_offset >> 3
        self.pba_bir = pba_bar
        self.pba_offset = pba_offset >> 3

    @property
    def table_bytes(self) -> int:
        """Size of the table."""
        return ENTRY_SIZE * self.vectors

    @property
    def pba_bytes(self) -> int:
        """Size of the pending bit array."""
        return (self.vectors + 63) // 64 * 8

    @property
    def enabled(self) -> bool:
        """Whether the guest has switched MSI-X on."""
        return bool(self.enable)

    def attach(self, function: PciFunction) -> None:
        """Called when `function` has taken this capability up."""
        super().attach(function)
        function.msix = self

    def notify(self, vector: int) -> None:
        """Send `vector`'s message, now or when nothing holds it back; nothing happens where MSI-X is off."""
        if not self.enable or not 0 <= vector < self.vectors:
            return
        entry = self._entries[vector]
        if self.function_mask or entry.mask or not self.function.may_send:
            self.pending.bits |= 1 << vector
        else:
            self._send(entry)

    def release(self, vector: int) -> None:
        """Send `vector`'s message if it is pending and may be sent."""
        if (
            self.pending.bits >> vector & 1
            and self.enable
            and not self.function_mask
            and self.function.may_send
        ):
            entry = self._entries[vector]
            if not entry.mask:
                self.pending.bits &= ~(1 << vector)
                self._send(entry)

    def release_all(self) -> None:
        """Send what is pending and may be sent."""
        bits = self.pending.bits
        while bits:
            lowest = bits & -bits
            self.release(lowest.bit_length() - 1)
            bits ^= lowest

    def forget(self, vector: int) -> None:
        """Take back a pending `vector` (its cause has gone: the device was reset)."""
        self.pending.bits &= ~(1 << vector)

    def _send(self, entry: MsixEntry) -> None:
        address = entry.message_upper_address << 32 | entry.message_address
        self.function.send_message(address, entry.message_data)

    @message_control.on_write
    def _control_written(self, old: int, new: int) -> None:
        if old != new:
            self.function.intx_changed()
            self.release_all()

    def reset(self, domain: str = POWER_ON) -> None:
        """MSI-X off, every entry masked, nothing pending."""
        super().reset(domain)
        self.table.reset(domain)
        self.pending.bits = 0

    def save(self) -> dict[str, int]:
        """Control, table and pending bits."""
        words = {f"pending.{at}": self.pending.read(at, 8) for at in range(0, self.pba_bytes, 8)}
        return {
            **super().save(),
            **nest("table", self.table.save()),
            **{name: word for name, word in words.items() if word},
        }

    def judge(self, state: Mapping[str, int]) -> None:
        """ValueError where `restore` cannot take `state`."""
        super().judge(_own(state))
        self.table.judge(unnest("table", state))
        self._pending_bits(state)

    def restore(self, state: Mapping[str, int]) -> None:
        """Take what `save` gave."""
        bits = self._pending_bits(state)
        super().restore(_own(state))
        self.table.restore(unnest("table", state))
        self.pending.bits = bits

    def _pending_bits(self, state: Mapping[str, int]) -> int:
        places = {str(at): at for at in range(0, self.pba_bytes, 8)}
        bits = 0
        for name, word in unnest("pending", state).items():
            if name not in places or not 0 <= word < 1 << 64:
                raise ValueError(f"{self.vectors} MSI-X vectors have no pending bits {word:#x} at {name}")
            bits |= word << 8 * places[name]
        return bits & (1 << self.vectors) - 1


def _own(state: Mapping[str, int]) -> dict[str, int]:
    """What of `state` belongs to the capability itself."""
    return {name: value for name, value in state.items() if not name.startswith(("table.", "pending."))}
