"""Interrupts on their way out: messages (address and data) and wired-or level lines, collected in an `Outbox`.

A device raises while one of its registers is being accessed or while its context runs; what it raised is handed over
when that is finished, so a sink never finds a device half-way through something.  `Outbox.deliver` is called by the
machine at the end of the outermost access; whatever is raised outside an access asks for a delivery by `on_pending`.

References: PCI Local Bus 3.0 §2.2.6 (INTx# is shared: asserted as long as one device asserts it), §6.8 (messages).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable


class Line:
    """A level-triggered line shared by any number of sources: high while one of them drives it.

    Within one delivery the line's level is coalesced to its last value.  With `edges=True` (an input that latches
    rising edges, as a PC's interrupt controller does) a low that came between two highs is delivered too, so that no
    rising edge is lost; however often the line moved, that is at most three changes.
    """

    __slots__ = ("_delivered", "_driven", "_edges", "_outbox", "_rose", "_sink", "level")

    def __init__(self, outbox: Outbox, sink: Callable[[bool], None], *, edges: bool = False) -> None:
        self._outbox = outbox
        self._sink = sink
        self._edges = edges
        self._driven = 0
        self._delivered = False
        self._rose = False
        self.level = False
        """What the line is now, delivered or not."""

    def source(self) -> LineSource:
        """A new driver of this line, low at first."""
        return LineSource(self)

    def _drive(self, step: int) -> None:
        self._driven += step
        level = self._driven > 0
        if level is not self.level:
            self.level = level
            self._rose = self._rose or level
            self._outbox._line_moved(self)

    def _changes(self) -> list[bool]:
        """What to tell the sink since the last delivery."""
        old, new, rose = self._delivered, self.level, self._rose
        self._delivered, self._rose = new, False
        if not self._edges or not rose:
            return [] if old is new else [new]
        changes = [True] if not old else [False, True]
        return changes if new else [*changes, False]

    def _deliver(self) -> None:
        for level in self._changes():
            self._sink(level)


class LineSource:
    """One device's hold on a line."""

    __slots__ = ("_level", "_line")

    def __init__(self, line: Line) -> None:
        self._line = line
        self._level = False

    @property
    def level(self) -> bool:
        """Whether this source drives the line."""
        return self._level

    def set(self, level: bool) -> None:
        """Drive the line or let it go."""
        if level is not self._level:
            self._level = level
            self._line._drive(1 if level else -1)


class Outbox:
    """What devices have raised and nobody has been told yet.

    `on_message(address, data)` receives messages in the order in which they were raised; lines follow, in the order
    in which they first moved.  `on_pending` is called whenever the box stops being empty.
    """

    __slots__ = ("_lines", "_messages", "_on_message", "_on_pending", "delivering", "pending")

    def __init__(self, on_message: Callable[[int, int], None], on_pending: Callable[[], None]) -> None:
        self._on_message = on_message
        self._on_pending = on_pending
        self._messages: deque[tuple[int, int]] = deque()
        self._lines: dict[Line, None] = {}
        self.delivering = False
        """Whether what there is, is just being handed over."""
        self.pending = False
        """Whether there is anything to deliver."""

    def post(self, address: int, data: int) -> None:
        """Raise a message: a 4-byte write of `data` to `address`."""
        self._messages.append((address, data))
        self._wake()

    def _line_moved(self, line: Line) -> None:
        self._lines[line] = None
        self._wake()

    def _wake(self) -> None:
        if not self.pending:
            self.pending = True
            self._on_pending()

    def drop_messages(self) -> None:
        """Forget the messages not yet delivered."""
        self._messages.clear()

    def deliver(self) -> None:
        """Hand everything over.  A sink that makes an access meanwhile adds to the same delivery."""
        if self.delivering:
            return
        self.delivering = True
        try:
            while self._messages or self._lines:
                while self._messages:
                    self._on_message(*self._messages.popleft())
                lines, self._lines = self._lines, {}
                for line in lines:
                    line._deliver()
        finally:
            self.delivering = False
            self.pending = bool(self._messages or self._lines)
