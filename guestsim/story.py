"""What became of each request in a trace: its buffer, its bytes, and its stations from notification to interrupt.

    for life in lives(reader):
        print(life.device, life.queue, life.head, life.header, life.status)

A trace is read once, in order; what is kept is what is in flight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress

import msgspec

from devmodels.trace import EventKind, TraceEvent
from devmodels.tracefile import DeviceFacts
from guestsim.forms import CommandForm, Forms, UnitPlace, unit_place
from guestsim.life import At, Life, Part, Piece, Step

MACHINE_MEMORY = "memory"
"""The source of events of a memory that a device does not have for itself."""


class _Rings:
    """One device's buffers in flight and what its queues have seen."""

    __slots__ = (
        "features",
        "kicks",
        "lives",
        "memory",
        "parts",
        "runs",
        "session",
        "steps",
        "unnotified",
        "unsignalled",
    )

    def __init__(self) -> None:
        self.memory = MACHINE_MEMORY
        """The source of events of the memory that it reaches."""
        self.session = 0
        self.features = 0
        self.kicks: dict[int, At] = {}
        self.lives: dict[tuple[int, int], Life] = {}
        self.parts: dict[int, Part] = {}
        self.runs: dict[int, list[Part]] = {}
        self.steps: dict[int, tuple[Step, list[Part]]] = {}
        self.unnotified: dict[tuple[int, int], Life] = {}
        self.unsignalled: dict[tuple[int, int], Life] = {}
        """By queue and head: a driver that uses a head anew has seen what was given back."""


class _Teller:
    def __init__(self, taken: Callable[[Life], None] | None) -> None:
        self._taken = taken
        self._forms = Forms()
        self._devices: dict[str, _Rings] = {}
        self._pieces: dict[tuple[str, int], tuple[Piece, Life]] = {}
        """What is in flight, by its memory and its address there."""
        self._memories: set[str] = set()
        self._count = 0
        self._kinds = {
            EventKind.DEVICE: self._device,
            EventKind.FEATURES: self._features,
            EventKind.CONFIG_WRITE: self._forms.see,
            EventKind.KICK: self._kick,
            EventKind.CHAIN: self._chain,
            EventKind.DMA_READ: self._touched,
            EventKind.DMA_WRITE: self._touched,
            EventKind.REQUEST: self._request,
            EventKind.DISPATCH: self._dispatch,
            EventKind.DONE: self._done,
            EventKind.COMPLETION: self._completion,
            EventKind.USED: self._used,
            EventKind.NOTIFY: self._notify,
            EventKind.INTERRUPT: self._interrupt,
            EventKind.RESET: self._reset,
            EventKind.VIOLATION: self._violation,
            EventKind.NODE_BEGIN: self._node_begin,
            EventKind.NODE_END: self._node_end,
        }

    def lives(self, events: Iterable[TraceEvent]) -> Iterator[Life]:
        for event in events:
            tell = self._kinds.get(event.kind)
            if tell is not None:
                yield from tell(event) or ()
        for rings in self._devices.values():
            yield from rings.lives.values()

    def _rings(self, source: str) -> _Rings:
        rings = self._devices.get(source)
        if rings is None:
            rings = self._devices[source] = _Rings()
        return rings

    def _device(self, event: TraceEvent) -> None:
        with suppress(msgspec.DecodeError):
            facts = msgspec.json.decode(str(event.detail[0]), type=DeviceFacts)
            self._forms.add(facts)
            self._rings(event.source).memory = facts.memory
            self._memories.add(facts.memory)

    def _features(self, event: TraceEvent) -> None:
        rings = self._rings(event.source)
        rings.session += 1
        (rings.features,) = event.detail  # type: ignore[assignment]

    def _kick(self, event: TraceEvent) -> None:
        self._rings(event.source).kicks[int(event.detail[0])] = At(event.number, event.time_ns)

    def _chain(self, event: TraceEvent) -> None:
        queue, head, readable, *numbers = map(int, event.detail)
        rings = self._rings(event.source)
        pieces = [Piece(numbers[n], numbers[n + 1]) for n in range(0, len(numbers), 2)]
        life = Life(
            self._count,
            event.source,
            queue,
            head,
            rings.session,
            rings.features,
            At(event.number, event.time_ns),
            pieces[:readable],
            pieces[readable:],
            self._forms.of(event.source, queue),
            rings.kicks.get(queue),
        )
        self._count += 1
        if life.kicked is not None:
            life.events.append(life.kicked.number)
        life.events.append(event.number)
        rings.lives[queue, head] = life
        rings.unnotified.pop((queue, head), None)
        rings.unsignalled.pop((queue, head), None)
        memory = rings.memory
        self._pieces.update(((memory, piece.address), (piece, life)) for piece in pieces if piece.length)
        if self._taken is not None:
            self._taken(life)

    def _touched(self, event: TraceEvent) -> None:
        address, data = event.detail
        # Events without those before them do not say whose memory is which.
        memory = event.source if event.source in self._memories else MACHINE_MEMORY
        found = self._pieces.get((memory, address)) or self._around(memory, address)  # type: ignore[arg-type]
        if found is not None:
            piece, life = found
            piece.note(address, data)  # type: ignore[arg-type]
            life.events.append(event.number)

    def _around(self, memory: str, address: int) -> tuple[Piece, Life] | None:
        """The piece in flight in which `address` lies: rings lie in none."""
        for rings in self._devices.values():
            for life in rings.lives.values() if rings.memory == memory else ():
                for piece in (*life.readable, *life.writable):
                    if piece.address <= address < piece.address + piece.length:
                        return piece, life
        return None

    def _request(self, event: TraceEvent) -> None:
        number, op, offset, length, queue, head = event.detail
        rings = self._rings(event.source)
        what = str(op), int(offset), int(length)
        part = Part(event.source, int(number), *what, At(event.number, event.time_ns))
        rings.parts[part.number] = part
        host = self._forms.hosts.get(event.source)
        above = rings if host is None else self._rings(host)
        part.life = life = above.lives.get((int(queue), int(head)))
        if life is not None:
            life.parts.append(part)
            life.events.append(event.number)

    def _dispatch(self, event: TraceEvent) -> None:
        number = int(event.detail[0])
        rings = self._rings(event.source)
        run = [part for each in event.detail[6:] if (part := rings.parts.get(int(each))) is not None]
        rings.runs[number] = run
        steps: list[Step] = []
        for part in run:
            part.dispatch = number
            part.dispatched = At(event.number, event.time_ns)
            part.served_with = run
            part.steps = steps
        _belongs(event, run)

    def _node_begin(self, event: TraceEvent) -> None:
        number, dispatch, parent, node, driver, op, offset, length, flags = event.detail
        rings = self._rings(event.source)
        run = rings.runs.get(int(dispatch))
        if run:
            step = Step(
                int(number),
                None if parent == -1 else int(parent),
                str(node),
                str(driver),
                str(op),
                int(offset),
                int(length),
                int(flags),
                At(event.number, event.time_ns),
            )
            rings.steps[step.number] = step, run
            run[0].steps.append(step)
            _belongs(event, run)

    def _node_end(self, event: TraceEvent) -> None:
        number, error = map(int, event.detail)
        found = self._rings(event.source).steps.pop(number, None)
        if found is not None:
            step, run = found
            step.ended = At(event.number, event.time_ns)
            step.errno = error
            _belongs(event, run)

    def _done(self, event: TraceEvent) -> None:
        run = self._rings(event.source).runs.pop(int(event.detail[0]), ())
        for part in run:
            part.done = At(event.number, event.time_ns)
            part.done_errno = int(event.detail[1])
        _belongs(event, run)

    def _completion(self, event: TraceEvent) -> None:
        part = self._rings(event.source).parts.pop(int(event.detail[0]), None)
        if part is not None:
            part.completed = At(event.number, event.time_ns)
            part.errno = int(event.detail[1])
            _belongs(event, [part])

    def _used(self, event: TraceEvent) -> Iterator[Life]:
        queue, head, written = map(int, event.detail)
        rings = self._rings(event.source)
        life = rings.lives.pop((queue, head), None)
        if life is not None:
            life.used = At(event.number, event.time_ns)
            life.written = written
            life.events.append(event.number)
            self._forget(life)
            rings.unnotified[queue, head] = life
            yield life

    def _forget(self, life: Life) -> None:
        memory = self._rings(life.device).memory
        for piece in (*life.readable, *life.writable):
            if self._pieces.get((memory, piece.address)) == (piece, life):
                del self._pieces[memory, piece.address]

    def _notify(self, event: TraceEvent) -> None:
        rings = self._rings(event.source)
        queue = int(event.detail[0])
        for key in [key for key in rings.unnotified if key[0] == queue]:
            life = rings.unsignalled[key] = rings.unnotified.pop(key)
            life.notified = At(event.number, event.time_ns)
            life.events.append(event.number)

    def _interrupt(self, event: TraceEvent) -> None:
        for rings in self._devices.values():
            for life in rings.unsignalled.values():
                life.interrupt = At(event.number, event.time_ns)
                life.events.append(event.number)
            rings.unsignalled.clear()

    def _reset(self, event: TraceEvent) -> Iterator[Life]:
        """What is in flight is never given back."""
        self._forms.see(event)
        rings = self._rings(event.source)
        queue = int(event.detail[0])
        for key, life in list(rings.lives.items()):
            if queue in (-1, life.queue):
                del rings.lives[key]
                self._forget(life)
                yield life

    def _violation(self, event: TraceEvent) -> None:
        """It concerns the buffer that was taken last, or the one that its place names."""
        clause, place, summary, data = event.detail
        where = unit_place(str(place))
        if where is not None:
            self._unit_violation(event, where)
            return
        for rings in self._devices.values():
            for life in rings.lives.values():
                if place == f"{life.device} queue {life.queue} head {life.head}":
                    life.violations.append((clause, place, summary, data))  # type: ignore[arg-type]
                    life.events.append(event.number)
                    return

    def _unit_violation(self, event: TraceEvent, where: UnitPlace) -> None:
        """One of a command's, in a unit."""
        host = self._forms.host_of(where.unit)
        for life in () if host is None else self._rings(host).lives.values():
            form = life.form
            if isinstance(form, CommandForm) and form.is_at(life.opening, where):
                life.violations.append(event.detail)  # type: ignore[arg-type]
                life.events.append(event.number)
                return


def _belongs(event: TraceEvent, run: Sequence[Part]) -> None:
    """An event is about what was asked for these buffers."""
    for life in {id(part.life): part.life for part in run}.values():
        if life is not None:
            life.events.append(event.number)


def lives(events: Iterable[TraceEvent], taken: Callable[[Life], None] | None = None) -> Iterator[Life]:
    """The life of each buffer, in the order in which they end; those in flight at the end of the trace come last.

    `taken` hears of each as it begins, when nothing is known but its pieces.
    """
    return _Teller(taken).lives(events)
