"""Whether something that differs between both sides lasts, or is what QEMU has not come to yet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from guestsim.targets.qemu import QemuTarget

EARLY, QUIET = 0.002, 0.002
"""How long is waited, in seconds, before QEMU's drives are asked to end what they do, and after that."""
PATIENCE, AGAIN, SHORT = 5.0, 0.25, 0.02
"""How long something must last, in seconds, where QEMU has no drive that can be asked.

The second time; and where both have used all buffers, or nothing was done since both were at rest.
"""
_ROUNDS = 2
"""A notification is seen when QEMU waits for events again, at the latest after the first of two commands."""


class Lasting:
    """Of one difference after another: whether it lasts.  `nodes` are QEMU's drives."""

    def __init__(self, theirs: QemuTarget, nodes: Iterable[str]) -> None:
        self._theirs = theirs
        self._nodes = [*nodes]
        self._late: object = None
        self.begin()

    def begin(self) -> None:
        """The next one has been seen, or may be."""
        self._begun = time.monotonic()
        self._drained = False

    def lasts(self, found: object, *, at_rest: Callable[[], bool]) -> bool:
        """Whether what has been `found` lasts; if not, it is to be looked for again.

        `at_rest` is asked whether all that is known of the guest's requests says that they are done.
        """
        waited = time.monotonic() - self._begun
        if self._drained:
            patience = QUIET
        elif waited > EARLY and self._drain():
            self.begin()
            self._drained = True
            return False
        else:
            patience = SHORT if at_rest() else AGAIN if found == self._late else PATIENCE
        if waited <= patience:
            return False
        self._late = found
        return True

    def _drain(self) -> bool:
        """QEMU ends the requests of all drives, however long that takes; False where it has none to be told by."""
        while self._nodes:
            if all(self._theirs.drain(self._nodes[0]) for _ in range(_ROUNDS)):
                return True
            del self._nodes[0]
        return False
