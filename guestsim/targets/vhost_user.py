"""vhost-user back ends as a target: this process is the front end, with guest memory of its own.

There is no machine around it: no bus, no registers, only memory, queues and interrupts.  An interrupt is a call
descriptor that was signalled, or a change of the configuration that the back end has told of.
"""

from __future__ import annotations

import os
import select
from collections import Counter
from typing import TYPE_CHECKING, NoReturn, Protocol

from guestsim.errors import DisconnectedError
from guestsim.targets import MachineLayout, TargetError, Window
from guestsim.targets.client import ClientTarget
from guestsim.targets.vhost_memory import VhostMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

RAM = 64 << 20
_WAIT = 1e-3


class Device(Protocol):
    """One of the front end's devices, as the target looks after it."""

    def look(self) -> None:
        """Take what has come from the back end without being asked for."""
        ...

    def lost(self) -> str | None:
        """How the back end went, where a driver still works with it."""
        ...

    def close(self) -> None:
        """Leave the back end. Idempotent."""
        ...


class VhostUserTarget(ClientTarget):
    """Memory and interrupts of a guest whose devices are `sockets`: a device's id, and where its back end listens.

    `ram` is in bytes, a multiple of 4096 above 16 MiB.  `name` is that of reports.  A `Target`, and a `Host` that can
    do nothing: who serves the disk is its host.
    """

    PROTOCOL = "vhost-user"
    WHO = "vhost-user front end"

    def __init__(self, sockets: Mapping[str, str], *, ram: int = RAM, name: str = "vhost-user") -> None:
        # libvhost-user takes a chain for a loop where its buffers lie over two regions and its table is full: with
        # what is built on it, that is a matter for a script of its own.
        apart = name == "qemu-storage-daemon"
        memory = VhostMemory(ram, apart=apart)
        layout = MachineLayout(ram=memory.windows, mmio=Window(0, 0), io=Window(0, 0), ecam=None)
        super().__init__(sockets, name=name, memory=memory, layout=layout)
        self.emit: Callable[[str], None] | None = None
        self.pump: Callable[[], object] | None = None
        """What lets back ends of this very thread go on while they are waited for."""
        self._vectors: dict[int, int] = {}
        self._messages: Counter[int] = Counter()
        self._watched: dict[int, Device] = {}
        self._devices: list[Device] = []

    # --- what is not there

    def read(self, address: int, size: int) -> int:  # noqa: ARG002
        """TargetError: there are no registers."""
        self._no_registers()

    def write(self, address: int, size: int, value: int) -> None:  # noqa: ARG002
        """TargetError: there are no registers."""
        self._no_registers()

    def io_read(self, port: int, size: int) -> int:  # noqa: ARG002
        """TargetError: there are no registers."""
        self._no_registers()

    def io_write(self, port: int, size: int, value: int) -> None:  # noqa: ARG002
        """TargetError: there are no registers."""
        self._no_registers()

    def _no_registers(self) -> NoReturn:
        raise TargetError("a vhost-user back end has no registers")

    def message(self, vector: int) -> tuple[int, int]:
        """TargetError: interrupts are descriptors, see `open_vector`."""
        raise TargetError(f"vector {vector}: a vhost-user back end sends no messages to memory")

    def intx_level(self, slot: int, pin: int) -> bool:  # noqa: ARG002
        """False: there are no lines."""
        return False

    def irq_level(self, irq: int) -> bool:  # noqa: ARG002
        """There are no lines."""
        return False

    # --- interrupts

    def open_vector(self, vector: int) -> int:
        """A call descriptor whose signals arrive as messages of `vector`; give it back with `close_vector`."""
        fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._vectors[fd] = vector
        self._epoll.register(fd, select.EPOLLIN)
        return fd

    def close_vector(self, fd: int) -> None:
        """Give a call descriptor up."""
        self._epoll.unregister(fd)
        del self._vectors[fd]
        os.close(fd)

    def signal(self, vector: int) -> None:
        """Have one message of `vector` arrive."""
        self._messages[vector] += 1

    def take_messages(self) -> dict[int, int]:
        """Vector to number of messages since the last call."""
        for fd, vector in self._vectors.items():
            try:
                self._messages[vector] += os.eventfd_read(fd)
            except BlockingIOError:
                continue
        taken = dict(self._messages)
        self._messages.clear()
        return taken

    # --- devices

    def add(self, device: Device) -> None:
        """Close `device` with the target."""
        self._devices.append(device)

    def watch(self, fd: int, device: Device) -> None:
        """Have `device` look when `fd` can be read."""
        self._watched[fd] = device
        self._epoll.register(fd, select.EPOLLIN)

    def unwatch(self, fd: int) -> None:
        """No longer watch `fd`, which is open still."""
        del self._watched[fd]
        self._epoll.unregister(fd)

    def _look(self, seconds: float) -> None:
        """Wait until something arrives, and have the devices look that it concerns."""
        for fd, _ in self._epoll.poll(seconds):
            device = self._watched.get(fd)
            if device is not None:
                device.look()

    # --- time

    def advance(self) -> bool:
        """Wait for a millisecond at most; DisconnectedError where a back end that a driver works with has gone."""
        self._look(_WAIT)
        for device in self._devices:
            if (lost := device.lost()) is not None:
                raise DisconnectedError(lost)
        return True

    def _leave(self) -> None:
        for device in self._devices:
            device.close()
        for fd in tuple(self._vectors):
            self.close_vector(fd)
