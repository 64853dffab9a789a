"""What a machine tells whoever controls it: events with the names and members of QEMU's QMP (`STOP`, `BLOCK_IO_ERROR`).

Whoever has something to tell holds an `Events`; a monitor listens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

Listener = Callable[[str, Mapping[str, object]], None]


class Events:
    """A place to tell events, and to listen for them.  Listeners are called at once, in the order of addition."""

    __slots__ = ("_listeners",)

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def add_listener(self, listener: Listener) -> None:
        """Call `listener(name, data)` for each event from now on."""
        self._listeners.append(listener)

    def remove_listener(self, listener: Listener) -> None:
        """Call it no longer.  Idempotent."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def emit(self, name: str, data: Mapping[str, object] | None = None) -> None:
        """Tell everybody who listens; `data` are the event's members as QMP has them."""
        for listener in list(self._listeners):
            listener(name, data or {})
