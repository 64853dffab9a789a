"""MSI: up to 32 messages that differ in the low bits of their data.

          31                              16 15             8 7              0
    0x00 |        message control           |  next pointer  |      0x05      |
    0x04 |                       message address                             |
         |                    upper address (64-bit form)                    |
         |            reserved              |           message data         |
         |                      mask bits (masking form)                     |
         |                     pending bits (masking form)                   |

    message control: 0 enable, 3:1 messages possible, 6:4 messages enabled (both as powers of two), 7 64-bit form,
    8 masking form

Reference: PCI Local Bus 3.0 §6.8.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from devmodels.pci.capability import Capability
from devmodels.registers import HWINIT, POWER_ON, RO, RW, Register

if TYPE_CHECKING:
    from devmodels.pci.function import PciFunction

MAX_VECTORS = 32


class MsiCapability(Capability, size=8):
    """What the four forms share; made by `msi`."""

    CAP_ID = 0x05

    message_control = Register(0x02, 2, clause="PCI 3.0 §6.8.1.3")
    enable = message_control.bit(0, RW, doc="messages instead of INTx#")
    multiple_message_capable = message_control.bits(
        3, 1, HWINIT, doc="how many are possible, as a power of two"
    )
    multiple_message_enable = message_control.bits(6, 4, RW, doc="how many are granted, as a power of two")
    address_64bit = message_control.bit(7, HWINIT, doc="there is an upper half of the address")
    per_vector_masking = message_control.bit(8, HWINIT, doc="there are masks and pending bits")

    message_address = Register(0x04, 4, clause="PCI 3.0 §6.8.1.4")
    address_bits = message_address.bits(31, 2, RW, doc="a multiple of 4")

    def __init__(self, vectors: int = 1) -> None:
        if vectors & vectors - 1 or not 1 <= vectors <= MAX_VECTORS:
            raise ValueError(f"{vectors} MSI vectors: a power of two up to {MAX_VECTORS} is possible")
        super().__init__()
        self.multiple_message_capable = vectors.bit_length() - 1

    @property
    def enabled(self) -> bool:
        """Whether the guest has switched MSI on."""
        return bool(self.enable)

    @property
    def vectors(self) -> int:
        """How many messages the guest has granted."""
        return 1 << min(self.multiple_message_enable, self.multiple_message_capable)

    def attach(self, function: PciFunction) -> None:
        """Called when `function` has taken this capability up."""
        super().attach(function)
        function.msi = self
        if function.as_qemu and not self.multiple_message_capable:
            held = self.value_of(MsiCapability.message_control)
            self.hardwire(MsiCapability.message_control, held, writable=1)

    def notify(self, vector: int) -> None:
        """Send message `vector`, folded into the number granted, now or when nothing holds it back."""
        if not self.enable:
            return
        granted = self.vectors - 1
        vector &= granted
        if self._masked() >> vector & 1 or not self.function.may_send:
            self._set_pending(self._pending() | 1 << vector)
        else:
            self._send(vector, granted)

    def release_all(self) -> None:
        """Send what is pending and may be sent."""
        if not self.enable or not self.function.may_send:
            return
        ready = self._pending() & ~self._masked()
        self._set_pending(self._pending() & ~ready)
        for vector in range(MAX_VECTORS):
            if ready >> vector & 1:
                self._send(vector, self.vectors - 1)

    def _send(self, vector: int, granted: int) -> None:
        address, data = self._message()
        self.function.send_message(address, data & ~granted | vector & granted)

    @message_control.on_write
    def _control_written(self, old: int, new: int) -> None:
        if old != new:
            self.function.intx_changed()
            self.release_all()

    def _message(self) -> tuple[int, int]:
        raise NotImplementedError

    def _masked(self) -> int:
        return 0

    def _pending(self) -> int:
        return self._held

    def _set_pending(self, bits: int) -> None:
        self._held = bits

    _held = 0
    """Forms without pending bits remember what a disabled bus master could not send."""

    def reset(self, domain: str = POWER_ON) -> None:
        """MSI off, nothing pending."""
        super().reset(domain)
        self._set_pending(0)

    def save(self) -> dict[str, int]:
        """Registers and what is pending."""
        return {**super().save(), **({"held": self._held} if self._held else {})}

    def judge(self, state: Mapping[str, int]) -> None:
        """ValueError where `restore` cannot take `state`."""
        super().judge({name: value for name, value in state.items() if name != "held"})

    def restore(self, state: Mapping[str, int]) -> None:
        """Take what `save` gave."""
        super().restore({name: value for name, value in state.items() if name != "held"})
        self._held = state.get("held", 0) & (1 << MAX_VECTORS) - 1


class Msi32(MsiCapability, size=0x0A):
    """32-bit address, no masks."""

    message_data = Register(0x08, 2, RW, clause="PCI 3.0 §6.8.1.6", doc="the low bits are the vector's")

    def _message(self) -> tuple[int, int]:
        return self.message_address, self.message_data


class Msi64(MsiCapability, size=0x0E):
    """64-bit address, no masks."""

    message_upper_address = Register(0x08, 4, RW, clause="PCI 3.0 §6.8.1.5", doc="upper half")
    message_data = Register(0x0C, 2, RW, clause="PCI 3.0 §6.8.1.6", doc="the low bits are the vector's")

    def __init__(self, vectors: int = 1) -> None:
        super().__init__(vectors)
        self.address_64bit = 1

    def _message(self) -> tuple[int, int]:
        return self.message_upper_address << 32 | self.message_address, self.message_data


class Msi32Masked(MsiCapability, size=0x14):
    """32-bit address, masks."""

    message_data = Register(0x08, 2, RW, clause="PCI 3.0 §6.8.1.6", doc="the low bits are the vector's")
    mask_bits = Register(0x0C, 4, RW, clause="PCI 3.0 §6.8.1.7", doc="one a vector: held back")
    pending_bits = Register(0x10, 4, RO, clause="PCI 3.0 §6.8.1.8", doc="one a vector: held back, to be sent")

    def __init__(self, vectors: int = 1) -> None:
        super().__init__(vectors)
        self.per_vector_masking = 1
        self.hardwire(Msi32Masked.mask_bits, 0, writable=(1 << vectors) - 1)

    def _message(self) -> tuple[int, int]:
        return self.message_address, self.message_data

    def _masked(self) -> int:
        return self.mask_bits

    def _pending(self) -> int:
        return self.pending_bits

    def _set_pending(self, bits: int) -> None:
        self.pending_bits = bits

    @mask_bits.on_write
    def _mask_written(self, _old: int, _new: int) -> None:
        self.release_all()


class Msi64Masked(MsiCapability, size=0x18):
    """64-bit address, masks."""

    message_upper_address = Register(0x08, 4, RW, clause="PCI 3.0 §6.8.1.5", doc="upper half")
    message_data = Register(0x0C, 2, RW, clause="PCI 3.0 §6.8.1.6", doc="the low bits are the vector's")
    mask_bits = Register(0x10, 4, RW, clause="PCI 3.0 §6.8.1.7", doc="one a vector: held back")
    pending_bits = Register(0x14, 4, RO, clause="PCI 3.0 §6.8.1.8", doc="one a vector: held back, to be sent")

    def __init__(self, vectors: int = 1) -> None:
        super().__init__(vectors)
        self.address_64bit = 1
        self.per_vector_masking = 1
        self.hardwire(Msi64Masked.mask_bits, 0, writable=(1 << vectors) - 1)

    def _message(self) -> tuple[int, int]:
        return self.message_upper_address << 32 | self.message_address, self.message_data

    def _masked(self) -> int:
        return self.mask_bits

    def _pending(self) -> int:
        return self.pending_bits

    def _set_pending(self, bits: int) -> None:
        self.pending_bits = bits

    @mask_bits.on_write
    def _mask_written(self, _old: int, _new: int) -> None:
        self.release_all()


def msi(vectors: int = 1, *, address64: bool = True, masking: bool = True) -> MsiCapability:
    """An MSI capability of the form wanted, with `vectors` messages (a power of two up to 32)."""
    if masking:
        return Msi64Masked(vectors) if address64 else Msi32Masked(vectors)
    return Msi64(vectors) if address64 else Msi32(vectors)
