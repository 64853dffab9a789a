"""Tasks that were ended and run on: until they are over nothing of their initiator port begins anew (RFC 7143 §6.3.5).

What is written in a session, or over a connection, that takes the place of another one would else be overtaken by what
was written before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Port: TypeAlias = tuple[str, bytes]
"""An initiator port: the initiator's name and the ISID."""


class Endings:
    """How often tasks of each initiator port are being ended, and who waits until they are over."""

    __slots__ = ("_left", "_waiting")

    def __init__(self) -> None:
        self._left: dict[Port, int] = {}
        self._waiting: dict[Port, dict[object, Callable[[], None]]] = {}

    def begin(self, port: Port) -> Callable[[], None]:
        """Tasks of `port` are being ended; what is returned is to be called when they are over."""
        self._left[port] = self._left.get(port, 0) + 1

        def over() -> None:
            self._left[port] -= 1
            if not self._left[port]:
                del self._left[port]
                for then in self._waiting.pop(port, {}).values():
                    then()

        return over

    def wait(self, port: Port, who: object, then: Callable[[], None]) -> bool:
        """Have `then` called, once, when nothing of `port` runs on; False where nothing does now."""
        if port not in self._left:
            return False
        self._waiting.setdefault(port, {})[who] = then
        return True

    def forget(self, port: Port, who: object) -> None:
        """`who` does not wait any more."""
        self._waiting.get(port, {}).pop(who, None)
