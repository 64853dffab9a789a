"""The vendor-specific capability.

         31            24 23            16 15             8 7              0
        |     vendor      |    length      |  next pointer  |      0x09     |
        |                        the vendor's own ...                       |

Two ways to make one: subclass `VendorCapability` and declare its registers, hooks and all; or give a `VendorBlock` the
bytes of its body.  Reference: PCI Local Bus 3.0 Appendix H.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from devmodels.pci.capability import Capability
from devmodels.registers import HWINIT, POWER_ON, Register
from devmodels.registers.state import unnest

BODY = 3
"""Where the body begins."""


class VendorCapability(Capability, size=3):
    """Base of vendor-specific capabilities; `cap_len` is the subclass's size."""

    CAP_ID = 0x09

    cap_len = Register(0x02, 1, HWINIT, clause="PCI 3.0 Appendix H", doc="bytes of the capability")

    def __init__(self) -> None:
        super().__init__()
        self.cap_len = self.size


class VendorBlock(VendorCapability):
    """A capability whose body is a block of bytes, from offset 3 of the capability on.

    A guest can change the bits that `writable` has set (shorter: the rest is read only).  `on_read(offset, length)`
    is called before bytes of the body are read, `on_write(offset, length)` after some were written; offsets count
    from the capability's beginning.
    """

    def __init__(
        self,
        body: bytes,
        writable: bytes = b"",
        *,
        on_read: Callable[[int, int], None] | None = None,
        on_write: Callable[[int, int], None] | None = None,
    ) -> None:
        if not len(writable) <= len(body) <= 0xFF - BODY:
            raise ValueError(
                f"a body of {len(body)} bytes with a mask of {len(writable)} makes no capability"
            )
        super().__init__()
        self.size = BODY + len(body)  # type: ignore[misc]  # the one register file whose size is an instance's own
        self.cap_len = self.size
        self._first = bytes(body)
        self._writable = writable.ljust(len(body), b"\0")
        self._on_read = on_read
        self._on_write = on_write
        self.body = bytearray(body)

    def read(self, offset: int, size: int) -> int:
        """Read header and body bytes."""
        if offset + size > BODY and self._on_read is not None:
            first = max(offset, BODY)
            self._on_read(first, offset + size - first)
        data = bytes(
            super(VendorBlock, self).read(at, 1) if at < BODY else self._byte(at)
            for at in range(offset, offset + size)
        )
        return int.from_bytes(data, "little")

    def write(self, offset: int, size: int, value: int) -> None:
        """Write the writable bits of the body."""
        first = max(offset, BODY)
        for at in range(first, min(offset + size, self.size)):
            mask = self._writable[at - BODY]
            byte = value >> 8 * (at - offset) & mask
            self.body[at - BODY] = self.body[at - BODY] & ~mask | byte
        if offset + size > BODY and self._on_write is not None:
            self._on_write(first, offset + size - first)

    def _byte(self, at: int) -> int:
        return self.body[at - BODY] if at < self.size else 0

    def reset(self, domain: str = POWER_ON) -> None:
        """Give the body its first bytes."""
        super().reset(domain)
        self.body[:] = self._first

    def save(self) -> dict[str, int]:
        """The body, byte by byte, where it differs from its first bytes."""
        changed = {f"body.{at}": byte for at, byte in enumerate(self.body) if byte != self._first[at]}
        return {**super().save(), **changed}

    def judge(self, state: Mapping[str, int]) -> None:
        """ValueError where `restore` cannot take `state`."""
        super().judge({name: value for name, value in state.items() if not name.startswith("body.")})
        self._body_in(state)

    def restore(self, state: Mapping[str, int]) -> None:
        """Take what `save` gave."""
        body = self._body_in(state)
        super().restore({name: value for name, value in state.items() if not name.startswith("body.")})
        self.body[:] = body

    def _body_in(self, state: Mapping[str, int]) -> bytearray:
        body = bytearray(self._first)
        places = {str(at): at for at in range(len(self.body))}
        for name, byte in unnest("body", state).items():
            if name not in places or not 0 <= byte <= 0xFF:
                raise ValueError(
                    f"a vendor capability of {self.size} bytes cannot hold {byte} at body.{name}"
                )
            body[places[name]] = byte
        return body
