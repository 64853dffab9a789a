"""What went on below the devices: requests submitted, what went to the disk for them, its way through the nodes."""

from __future__ import annotations

from collections.abc import Callable

from devmodels.trace import EventKind, TraceEvent
from guestsim.show.page.columns import NONE, Names, Pack, Table

_OPERATIONS = ("READ", "WRITE", "FLUSH", "DISCARD", "WRITE_ZEROES", "SECURE_ERASE", "GET_ID", "GET_LIFETIME")

_RANGE = {"op": "B", "offset": "d", "length": "d"}
_SPAN = {"begin": "I", "end": "I", "error": "i"}


class Below:
    """Tables of `parts` (requests submitted), `dispatches`, which parts each `served`, and `steps` of nodes.

    Moments are numbers of events, `first` being the number of the first that is shown.
    """

    def __init__(self, operations: Names) -> None:
        self.first = 0
        self.operations = operations
        self.nodes = Names()
        """Each a node's name and driver, a line between them."""
        self.parts = Table(life="I", **_RANGE, **_SPAN)
        self.dispatches = Table(**_RANGE, flags="B", **_SPAN)
        self.served = Table(dispatch="I", part="I")
        self.steps = Table(dispatch="I", parent="I", node="H", **_RANGE, flags="B", **_SPAN)
        self._rows: dict[tuple[str, str, int], int] = {}
        self._submitted: dict[int, int] = {}
        self._kinds: dict[EventKind, Callable[[TraceEvent], None]] = {
            EventKind.REQUEST: self._request,
            EventKind.DISPATCH: self._dispatch,
            EventKind.NODE_BEGIN: self._node_begin,
            EventKind.COMPLETION: lambda event: self._end(self.parts, event, "part"),
            EventKind.DONE: lambda event: self._end(self.dispatches, event, "dispatch"),
            EventKind.NODE_END: lambda event: self._end(self.steps, event, "step"),
        }
        for name in _OPERATIONS:
            operations.number(name)

    def see(self, event: TraceEvent) -> None:
        """Take the next event."""
        note = self._kinds.get(event.kind)
        if note is not None:
            note(event)

    def belongs(self, submitted: int, life: int) -> None:
        """The part that was submitted in that event was asked for by buffer `life`."""
        row = self._submitted.get(submitted)
        if row is not None:
            self.parts["life"][row] = life

    def pack(self, pack: Pack) -> None:
        """Add the tables."""
        for name in ("parts", "dispatches", "served", "steps"):
            pack.table(name, getattr(self, name))

    def errors(self) -> set[int]:
        """Every errno there is."""
        return {int(error) for table in (self.parts, self.dispatches, self.steps) for error in table["error"]}

    def _row(self, device: str, what: str, number: object) -> int:
        return self._rows.get((device, what, int(number)), NONE)  # type: ignore[call-overload]

    def _range(self, op: object, offset: object, length: object) -> tuple[int, int, int]:
        return self.operations.number(str(op)), int(offset), int(length)  # type: ignore[call-overload]

    def _enter(self, event: TraceEvent, what: str, row: int) -> None:
        self._rows[event.source, what, int(event.detail[0])] = row

    def _request(self, event: TraceEvent) -> None:
        what = self._range(*event.detail[1:4])
        row = self.parts.add(NONE, *what, event.number - self.first, NONE, 0)
        self._enter(event, "part", row)
        self._submitted[event.number] = row

    def _dispatch(self, event: TraceEvent) -> None:
        _, op, offset, length, flags, _, *parts = event.detail
        what = self._range(op, offset, length)
        row = self.dispatches.add(*what, int(flags), event.number - self.first, NONE, 0)
        self._enter(event, "dispatch", row)
        for part in parts:
            found = self._row(event.source, "part", part)
            if found != NONE:
                self.served.add(row, found)

    def _node_begin(self, event: TraceEvent) -> None:
        _, dispatch, parent, node, driver, *what, flags = event.detail
        row = self.steps.add(
            self._row(event.source, "dispatch", dispatch),
            self._row(event.source, "step", parent),
            self.nodes.number(f"{node!s}\n{driver!s}"),
            *self._range(*what),
            int(flags),
            event.number - self.first,
            NONE,
            0,
        )
        self._enter(event, "step", row)

    def _end(self, table: Table, event: TraceEvent, what: str) -> None:
        row = self._row(event.source, what, event.detail[0])
        if row != NONE:
            table["end"][row] = event.number - self.first
            table["error"][row] = int(event.detail[1])
