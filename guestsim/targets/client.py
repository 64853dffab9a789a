"""What targets have in common that are only clients of whoever has the devices: time, memory, and nothing to say."""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self

from guestsim.targets import MachineLayout, TargetError
from guestsim.targets.vhost_memory import VhostMemory

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType


class ClientTarget:
    """A target of `sockets`: by a device's id, where it is served.  Guest memory is this process's own.

    `name` is that of reports.
    """

    PROTOCOL: ClassVar[str]
    WHO: ClassVar[str]
    """What it is to those who serve, in messages."""

    def __init__(
        self, sockets: Mapping[str, str], *, name: str, memory: VhostMemory, layout: MachineLayout
    ) -> None:
        self.sockets = dict(sockets)
        self._name = name
        self.memory = memory
        self.ram_read = memory.read
        self.ram_write = memory.write
        self._layout = layout
        self._epoll = select.epoll()
        self._start_ns = time.monotonic_ns()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def name(self) -> str:
        """The protocol's, or who serves where that is known."""
        return self._name

    @property
    def layout(self) -> MachineLayout:
        """The machine's address map."""
        return self._layout

    def label(self, device: str) -> str:
        """Who serves a device, in messages."""
        return f"{self.PROTOCOL}:{self.sockets[device]}"

    def last_words(self) -> str:
        """What who serves has said besides, where that is known."""
        return ""

    # --- the host

    def resize(self, node: str, size: int) -> None:
        """TargetError: whoever serves the disk gives it a size."""
        self._refuse(f"resize of {node} to {size}")

    def plug(self, device: Mapping[str, object]) -> None:
        """TargetError: a client has no say in it."""
        self._refuse(f"plugging of {device.get('id')}")

    def unplug(self, device: str) -> None:
        """TargetError: a client has no say in it."""
        self._refuse(f"unplugging of {device}")

    def qmp(self, command: str, arguments: Mapping[str, Any]) -> object:  # noqa: ARG002
        """TargetError: a client has no say in it."""
        self._refuse(command)

    def stop(self) -> None:
        """TargetError: a client has no say in it."""
        self._refuse("stop")

    def cont(self) -> None:
        """TargetError: a client has no say in it."""
        self._refuse("cont")

    def _refuse(self, what: str) -> NoReturn:
        raise TargetError(f"{what}: a {self.WHO} has no say in it")

    def take_events(self) -> list[tuple[str, Mapping[str, object]]]:
        """TargetError: a client is told nothing."""
        raise TargetError(f"event: a {self.WHO} is told none")

    def statistics(self, device: str) -> dict[str, int]:
        """TargetError: whoever serves the disk counts."""
        raise TargetError(f"statistics of {device}: a {self.WHO} has none")

    def violations(self) -> list[tuple[str, str]] | None:
        """None: who serves keeps no account that its client could see."""
        return None

    # --- time, and the end

    def now_ns(self) -> int:
        """Nanoseconds of real time since the start."""
        return time.monotonic_ns() - self._start_ns

    def close(self) -> None:
        """Leave who serves and give memory up. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._leave()
        self._epoll.close()
        self.memory.close()

    def _leave(self) -> None:
        """Leave who serves."""
        raise NotImplementedError
