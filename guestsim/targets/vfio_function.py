"""A PCI function behind a vfio-user server, in a slot of the guest's bus: what a virtual machine monitor does for it.

The guest's accesses become reads and writes of regions.  BARs are decoded here, by what the function's own registers
say; the MSI-X table is held here, and the server is told which vectors have an eventfd, and which are masked.  INTx is
level-triggered at the guest's side, and a descriptor that is signalled once at the server's: its level is found out by
unmasking it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from guestsim.targets import TargetError
from guestsim.targets import vfio_messages as msg
from guestsim.targets.vfio_messages import Command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from guestsim.targets.vfio_connection import VfioConnection

_COMMAND = 0x04
_STATUS = 0x06
_BAR0 = 0x10
_BARS = 6
_CAPABILITY_POINTER = 0x34
_CAP_MSI = 0x05
_CAP_MSIX = 0x11
_MOST_CAPABILITIES = 48
_MSIX_ENTRY = 16
_MASKED = 1


class Decoded(NamedTuple):
    """A BAR that is decoded: `size` bytes from `base` on are `region`."""

    base: int
    size: int
    region: int
    io: bool


class VfioFunction:
    """The function that `connection` leads to.

    Writes to memory BARs are waited for where they are not `posted`.

    `open_vector()` gives an eventfd that the target looks at, `close_vector(fd)` takes it back.
    """

    def __init__(
        self,
        connection: VfioConnection,
        open_vector: Callable[[], int],
        close_vector: Callable[[int], None],
        *,
        posted: bool = True,
    ) -> None:
        self.connection = connection
        self._posted = posted
        self._open_vector = open_vector
        self._close_vector = close_vector
        _, flags, regions, irqs = msg.DEVICE_INFO.unpack(
            connection.ask(Command.DEVICE_GET_INFO, msg.DEVICE_INFO.pack(msg.DEVICE_INFO.size, 0, 0, 0))
        )
        if not flags & 2 or regions <= msg.CONFIG_REGION or irqs <= msg.MSIX:
            raise TargetError(f"{connection.label}: no PCI device, but flags {flags:#x}, {regions} regions")
        self.sizes = [self._region_size(index) for index in range(regions)]
        self.vectors = [self._irqs(index) for index in range(irqs)]
        self.decoded: list[Decoded] = []
        found = dict(self._capabilities())
        self._msix = found.get(_CAP_MSIX)
        self._msi = found.get(_CAP_MSI)
        self._msix_on = False
        self._table = (0, 0, 0)
        if self._msix is not None:
            place = self.config_read(self._msix + 4, 4)
            self._table = (place & 7, place & ~7, (place & ~7) + _MSIX_ENTRY * self.vectors[msg.MSIX])
        self._entries = bytearray(self._table[2] - self._table[1])
        self._fds: dict[tuple[int, int], int] = {}
        """Eventfds by kind of interrupt and number."""
        self._clear_entries()
        self._intx_fd: int | None = None
        if self.vectors[msg.INTX]:
            self._intx_fd = self._assign(msg.INTX, 0)

    def _region_size(self, index: int) -> int:
        request = msg.REGION_INFO.pack(msg.REGION_INFO.size, 0, index, 0, 0, 0)
        answer = self.connection.ask(Command.DEVICE_GET_REGION_INFO, request)
        size: int = msg.REGION_INFO.unpack_from(answer)[4]
        return size

    def _irqs(self, index: int) -> int:
        request = msg.IRQ_INFO.pack(msg.IRQ_INFO.size, 0, index, 0)
        count: int = msg.IRQ_INFO.unpack(self.connection.ask(Command.DEVICE_GET_IRQ_INFO, request))[3]
        return count

    def _capabilities(self) -> Iterator[tuple[int, int]]:
        """Id and offset of each capability."""
        if not self.config_read(_STATUS, 2) & 0x10:
            return
        offset = self.config_read(_CAPABILITY_POINTER, 1) & 0xFC
        for _ in range(_MOST_CAPABILITIES):
            if not offset:
                return
            head = self.config_read(offset, 2)
            yield head & 0xFF, offset
            offset = head >> 8 & 0xFC

    # --- regions

    def region_read(self, region: int, offset: int, size: int) -> int:
        """Read a register."""
        answer = self.connection.ask(Command.REGION_READ, msg.REGION_ACCESS.pack(offset, region, size))
        return int.from_bytes(answer[msg.REGION_ACCESS.size :], "little")

    def region_write(self, region: int, offset: int, size: int, value: int, *, posted: bool) -> None:
        """Write a register; nobody waits where that is `posted`."""
        data = msg.REGION_ACCESS.pack(offset, region, size) + value.to_bytes(size, "little")
        if posted:
            self.connection.post(Command.REGION_WRITE, data)
        else:
            self.connection.ask(Command.REGION_WRITE, data)

    def read(self, bar: Decoded, offset: int, size: int) -> int:
        """The guest reads a register in a BAR."""
        region, start, end = self._table
        if bar.region == region and start <= offset < end:
            return int.from_bytes(self._entries[offset - start : offset - start + size], "little")
        return self.region_read(bar.region, offset, size)

    def write(self, bar: Decoded, offset: int, size: int, value: int) -> None:
        """The guest writes a register in a BAR."""
        region, start, end = self._table
        if bar.region == region and start <= offset < end:
            at = offset - start
            self._entries[at : at + size] = value.to_bytes(size, "little")
            if self._msix_on and at % _MSIX_ENTRY + size > 12:
                self._settle_vector(at // _MSIX_ENTRY)
            return
        self.region_write(bar.region, offset, size, value, posted=self._posted and not bar.io)

    # --- configuration space

    def config_read(self, offset: int, size: int) -> int:
        """Read configuration space; ones beyond its end."""
        if offset + size > self.sizes[msg.CONFIG_REGION]:
            return (1 << 8 * size) - 1
        return self.region_read(msg.CONFIG_REGION, offset, size)

    def config_write(self, offset: int, size: int, value: int) -> None:
        """Write configuration space."""
        if offset + size > self.sizes[msg.CONFIG_REGION]:
            return
        self.region_write(msg.CONFIG_REGION, offset, size, value, posted=False)
        end = offset + size
        if (offset < _COMMAND + 2 and end > _COMMAND) or (offset < _BAR0 + 4 * _BARS and end > _BAR0):
            self._decode()
        if self._msix is not None and offset < self._msix + 4 and end > self._msix + 2:
            self._msix_switched()
        if self._msi is not None and offset < self._msi + 4 and end > self._msi + 2:
            self._msi_switched()

    def _decode(self) -> None:
        """Find out what the function decodes now."""
        command = self.config_read(_COMMAND, 2)
        registers = [self.config_read(_BAR0 + 4 * n, 4) for n in range(_BARS)]
        self.decoded = []
        for region, register in enumerate(registers):
            size, io = self.sizes[region], bool(register & 1)
            if not size or not command & (1 if io else 2):
                continue
            base = register & (~3 if io else ~0xF)
            if not io and register & 6 == 4:
                base |= registers[region + 1] << 32
            if base:
                self.decoded.append(Decoded(base, size, region, io))

    # --- interrupts

    def _set_irqs(self, kind: int, flags: int, start: int, count: int, fds: list[int] | None = None) -> None:
        request = msg.IRQ_SET.pack(msg.IRQ_SET.size, flags, kind, start, count)
        self.connection.ask(Command.DEVICE_SET_IRQS, request, fds or [])

    def _assign(self, kind: int, vector: int) -> int:
        """Give a vector an eventfd."""
        fd = self._fds[kind, vector] = self._open_vector()
        self._set_irqs(kind, msg.DATA_EVENTFD | msg.ACTION_TRIGGER, vector, 1, [fd])
        return fd

    def _disable(self, kind: int) -> None:
        """Take all eventfds of a kind back."""
        self._set_irqs(kind, msg.DATA_NONE | msg.ACTION_TRIGGER, 0, 0)
        for key in [key for key in self._fds if key[0] == kind]:
            self._close_vector(self._fds.pop(key))

    def _msix_switched(self) -> None:
        assert self._msix is not None
        self._msix_on = bool(self.config_read(self._msix + 2, 2) & 0x8000)
        if self._msix_on:
            for vector in range(self.vectors[msg.MSIX]):
                self._settle_vector(vector)
        elif any(kind == msg.MSIX for kind, _ in self._fds):
            self._disable(msg.MSIX)

    def _settle_vector(self, vector: int) -> None:
        """An entry of the table may have become masked or unmasked."""
        masked = bool(self._entries[_MSIX_ENTRY * vector + 12] & _MASKED)
        if (msg.MSIX, vector) in self._fds:
            action = msg.ACTION_MASK if masked else msg.ACTION_UNMASK
            self._set_irqs(msg.MSIX, msg.DATA_NONE | action, vector, 1)
        elif not masked:
            self._assign(msg.MSIX, vector)

    def _msi_switched(self) -> None:
        assert self._msi is not None
        control = self.config_read(self._msi + 2, 2)
        if any(kind == msg.MSI for kind, _ in self._fds):
            self._disable(msg.MSI)
        if control & 1:
            for vector in range(1 << min(control >> 4 & 7, control >> 1 & 7)):
                self._assign(msg.MSI, vector)

    def messages(self) -> Iterator[tuple[tuple[int, int], int]]:
        """(Address, data) and how often, of the messages that have arrived."""
        for (kind, vector), fd in list(self._fds.items()):
            if kind == msg.INTX:
                continue
            with suppress(BlockingIOError):
                count = os.eventfd_read(fd)
                yield self._message(kind, vector), count

    def _message(self, kind: int, vector: int) -> tuple[int, int]:
        if kind == msg.MSIX:
            at = _MSIX_ENTRY * vector
            return (
                int.from_bytes(self._entries[at : at + 8], "little"),
                int.from_bytes(self._entries[at + 8 : at + 12], "little"),
            )
        assert self._msi is not None
        control = self.config_read(self._msi + 2, 2)
        address = self.config_read(self._msi + 4, 4)
        data = self._msi + 8
        if control & 0x80:
            address |= self.config_read(data, 4) << 32
            data += 4
        granted = (1 << min(control >> 4 & 7, control >> 1 & 7)) - 1
        return address, self.config_read(data, 2) & ~granted | vector

    def intx_level(self) -> bool:
        """Whether INTx is asserted: unmasked, the server signals it again where it is."""
        if self._intx_fd is None:
            return False
        with suppress(BlockingIOError):
            os.eventfd_read(self._intx_fd)
        self._set_irqs(msg.INTX, msg.DATA_NONE | msg.ACTION_UNMASK, 0, 1)
        try:
            return os.eventfd_read(self._intx_fd) > 0
        except BlockingIOError:
            return False

    # --- reset

    def reset(self) -> None:
        """Reset the function, as firmware would find it; what was set up for its interrupts is gone."""
        for kind in (msg.MSI, msg.MSIX):
            if any(key[0] == kind for key in self._fds):
                self._disable(kind)
        self.connection.ask(Command.DEVICE_RESET)
        self._clear_entries()
        self._msix_on = False
        self.decoded = []

    def _clear_entries(self) -> None:
        self._entries[:] = (bytes(12) + _MASKED.to_bytes(4, "little")) * self.vectors[msg.MSIX]

    def close(self) -> None:
        """Leave the server. Idempotent."""
        self.connection.close()
        for fd in self._fds.values():
            self._close_vector(fd)
        self._fds.clear()
