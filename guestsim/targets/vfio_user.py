"""vfio-user servers as a target: a machine of this process whose PCI functions are theirs, and memory that they reach.

It is q35's map in small: memory, an ECAM window, windows for BARs.  Memory is shared with the servers, or read and
written for them by messages.
"""

from __future__ import annotations

import os
import select
from collections import Counter
from typing import TYPE_CHECKING

from guestsim.errors import DisconnectedError
from guestsim.targets import MachineLayout, Window
from guestsim.targets import vfio_messages as msg
from guestsim.targets.client import ClientTarget
from guestsim.targets.vfio_connection import VfioConnection
from guestsim.targets.vfio_function import Decoded, VfioFunction
from guestsim.targets.vfio_messages import Command
from guestsim.targets.vhost_memory import VhostMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

RAM = 64 << 20
_WAIT = 1e-3
_MMIO = Window(0xE000_0000, 0x1E00_0000)
_IO = Window(0xC000, 0x4000)
_ECAM = 0xB000_0000
_ECAM_SIZE = 1 << 20
_MESSAGE_ADDRESS = 0xFEE0_0000

Place = tuple[int, int]
"""Slot and function."""


class VfioUserTarget(ClientTarget):
    """A machine whose functions are at `sockets`: by a device's id, where its server listens; `places` are their slots.

    `ram` is in bytes, a multiple of 4096 above 16 MiB; `shared` False has the servers ask for it.  `name` is that of
    reports.  With `posted` nobody waits for a write to a memory BAR, as on a real bus: what the guest does to memory
    next may be seen first.  `pump` lets servers of this very thread go on.  A `Target`, and a `Host` that can do
    nothing: who serves the disk is its host.
    """

    PROTOCOL = "vfio-user"
    WHO = "vfio-user client"

    def __init__(
        self,
        sockets: Mapping[str, str],
        places: Mapping[str, Place],
        *,
        ram: int = RAM,
        shared: bool = True,
        posted: bool = True,
        name: str = "vfio-user",
        pump: Callable[[], object] | None = None,
    ) -> None:
        self._pump = pump
        self._posted = posted
        memory = VhostMemory(ram)
        layout = MachineLayout(ram=memory.windows, mmio=_MMIO, io=_IO, ecam=_ECAM)
        super().__init__(sockets, name=name, memory=memory, layout=layout)
        self.functions: dict[Place, VfioFunction] = {}
        try:
            for device, path in sockets.items():
                self.functions[places[device]] = self._connect(device, path, shared=shared)
        except BaseException:
            self.close()
            raise

    def _connect(self, device: str, path: str, *, shared: bool) -> VfioFunction:
        connection = VfioConnection(
            path,
            self.label(device),
            memory=self.memory,
            last_words=self.last_words,
            pump=self._pump,
            beside=lambda: [each.connection for each in self.functions.values()],
        )
        try:
            flags = msg.DMA_READABLE | msg.DMA_WRITABLE
            for region in self.memory.regions:
                offset = region.offset if shared else 0
                request = msg.DMA_MAP.pack(msg.DMA_MAP.size, flags, offset, region.guest, region.size)
                connection.ask(Command.DMA_MAP, request, [self.memory.fd] if shared else [])
            function = VfioFunction(connection, self._open_vector, self._close_vector, posted=self._posted)
            function.reset()
        except BaseException:
            connection.close()
            raise
        self._epoll.register(connection.fileno(), select.EPOLLIN)
        return function

    # --- accesses

    def read(self, address: int, size: int) -> int:
        """Read a device register in memory space; ones where nobody is."""
        if _ECAM <= address < _ECAM + _ECAM_SIZE:
            function = self.functions.get((address >> 15 & 31, address >> 12 & 7))
            return _ones(size) if function is None else function.config_read(address & 0xFFF, size)
        return self._bar_read(address, size, io=False)

    def write(self, address: int, size: int, value: int) -> None:
        """Write a device register in memory space."""
        if _ECAM <= address < _ECAM + _ECAM_SIZE:
            function = self.functions.get((address >> 15 & 31, address >> 12 & 7))
            if function is not None:
                function.config_write(address & 0xFFF, size, value & _ones(size))
            return
        self._bar_write(address, size, value & _ones(size), io=False)

    def io_read(self, port: int, size: int) -> int:
        """Read an I/O port; ones where nobody is."""
        return self._bar_read(port, size, io=True)

    def io_write(self, port: int, size: int, value: int) -> None:
        """Write an I/O port."""
        self._bar_write(port, size, value & _ones(size), io=True)

    def _bar_read(self, address: int, size: int, *, io: bool) -> int:
        found = self._find(address, size, io=io)
        if found is None:
            return _ones(size)
        function, bar = found
        return function.read(bar, address - bar.base, size)

    def _bar_write(self, address: int, size: int, value: int, *, io: bool) -> None:
        found = self._find(address, size, io=io)
        if found is not None:
            function, bar = found
            function.write(bar, address - bar.base, size, value)

    def _find(self, address: int, size: int, *, io: bool) -> tuple[VfioFunction, Decoded] | None:
        """Whose BAR an access lies in."""
        for function in self.functions.values():
            for bar in function.decoded:
                if bar.io is io and bar.base <= address and address + size <= bar.base + bar.size:
                    return function, bar
        return None

    # --- interrupts

    def message(self, vector: int) -> tuple[int, int]:
        """The (address, data) of `vector`."""
        return _MESSAGE_ADDRESS, vector

    def _open_vector(self) -> int:
        fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(fd, select.EPOLLIN)
        return fd

    def _close_vector(self, fd: int) -> None:
        self._epoll.unregister(fd)
        os.close(fd)

    def take_messages(self) -> dict[int, int]:
        """Vector to number of messages since the last call."""
        if self._pump is not None:
            self._pump()
        found: Counter[int] = Counter()
        for function in self.functions.values():
            for (address, data), count in function.messages():
                if address == _MESSAGE_ADDRESS:
                    found[data] += count
        return dict(found)

    def intx_level(self, slot: int, pin: int) -> bool:
        """Whether the line of the function in `slot` with that pin is asserted."""
        del pin
        return any(function.intx_level() for (at, _), function in self.functions.items() if at == slot)

    def irq_level(self, irq: int) -> bool:  # noqa: ARG002
        """There are no lines outside PCI."""
        return False

    # --- time

    def advance(self) -> bool:
        """Serve what the servers ask for, for a millisecond at most; DisconnectedError where one has gone."""
        if self._pump is not None:
            self._pump()
        self.serve(_WAIT if self._pump is None else 0)
        for function in self.functions.values():
            if function.connection.lost is not None:
                raise DisconnectedError(function.connection.lost)
        return True

    def serve(self, seconds: float) -> None:
        """Wait until something comes, and give the servers what they ask for."""
        self._epoll.poll(seconds)
        for function in self.functions.values():
            function.connection.look()

    def _leave(self) -> None:
        for function in self.functions.values():
            function.close()


def _ones(size: int) -> int:
    return (1 << 8 * size) - 1
