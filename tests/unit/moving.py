"""A target whose machine is saved, and restored in another one, while a guest works."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from devmodels.snapshot import restore_snapshot, save_snapshot
from guestsim.targets.inprocess import InProcessTarget

ACCESSES = ("read", "write", "io_read", "io_write")


class MovingTarget:
    """`target` is the machine of the moment, which `make` makes.

    From `start` on, before every `period`-th access to a device the machine is another one.
    """

    def __init__(self, make: Callable[[], InProcessTarget], period: int = 0, start: int = 0) -> None:
        self._make = make
        self._period = period
        self._left = start + period
        self.target = make()
        self.moves = 0

    def move(self, change: Callable[[bytes], bytes] = lambda data: data) -> None:
        """Save the machine, and go on in another one."""
        data = change(save_snapshot(self.target.assembly))
        self.target.close()
        self.target = self._make()
        restore_snapshot(self.target.assembly, data)
        self.moves += 1

    def _count(self) -> None:
        self._left -= 1
        if self._period and not self._left:
            self._left = self._period
            self.move()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.target, name)
        if not callable(found):
            return found

        def call(*arguments: object, **named: object) -> object:
            if name in ACCESSES:
                self._count()
            return getattr(self.target, name)(*arguments, **named)

        return call


def changed(data: bytes, host: str, change: Callable[[Any], Any]) -> bytes:
    """A snapshot in which what an ATA host has saved is another thing."""
    import msgspec

    snapshot: Mapping[str, Any] = msgspec.msgpack.decode(data)
    state = msgspec.msgpack.decode(snapshot["ata"][host])
    state = change(state) or state
    snapshot["ata"][host] = state if isinstance(state, bytes) else msgspec.msgpack.encode(state)
    return msgspec.msgpack.encode(snapshot)
