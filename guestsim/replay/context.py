"""The context of a replay: its clock and its turns are the trace's."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from devmodels.iocontext import ClockKind, IoContext


class ReplayContext(IoContext):
    """Callbacks wait until the trace says that they were run."""

    def __init__(self) -> None:
        super().__init__(ClockKind.STEPPED)
        self.put_off: deque[Callable[[], None]] = deque()
        """What waits, the oldest first."""

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Run `callback` when something of it comes in the trace."""
        self.put_off.append(callback)

    def run_oldest(self) -> bool:
        """Run what was put off first; False where nothing is."""
        if not self.put_off:
            return False
        self.put_off.popleft()()
        return True

    def run_newest(self) -> None:
        """Run what was put off last."""
        self.put_off.pop()()

    def set_now(self, time_ns: int) -> None:
        """The clock stands at `time_ns`."""
        self._now = time_ns
