"""Making a failing program simpler: each change is kept where it fails still."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from math import gcd

from guestsim.drivers.layouts import SECTOR, BlkType
from guestsim.portable.ranges import RangeMap
from guestsim.portable.shrink.program import HEADER, Ask, Entry, Fixed, Group, Held, Program
from guestsim.portable.shrink.reduce import fewer, simpler
from guestsim.portable.shrink.render import pattern_of
from guestsim.script.values import Pattern

Fails = Callable[[Program], bool]
Changed = Callable[[int, Ask], Ask]
"""A simpler request for one, of which the number is known."""

_ROUNDS = 4
_COARSE = 64
_SIZES = (1 << 20, 16 << 20, 64 << 20)


def simplest(program: Program, fails: Fails) -> Program:
    """The shortest and simplest program that fails as `program` does."""
    program = _prefix(program, fails)
    changes = CHANGES if _can_flush(program) else CHANGES[1:]
    for change in changes:
        program = _change_all(program, change, fails)
    program = _drop(program, fails, finest=max(1, len(program.entries) // _COARSE))
    for _ in range(_ROUNDS):
        before = program
        program = _one_at_a_time(program, fails)
        for change in changes:
            program = _change(program, change, fails)
        program = _drop(program, fails)
        program = _drop_asks(program, fails)
        program = _content(program, fails)
        if program == before:
            break
    return _smaller_disk(_closer(program, fails), fails)


def _can_flush(program: Program) -> bool:
    groups = [entry for entry in program.entries if isinstance(entry, Group)]
    return all(group.features is None or "FLUSH" in group.features for group in groups)


def _prefix(program: Program, fails: Fails) -> Program:
    """Nothing after what fails matters."""
    low, high = 0, len(program.entries)
    while low < high:
        middle = (low + high) // 2
        if fails(program.using(program.entries[:middle])):
            high = middle
        else:
            low = middle + 1
    return program.using(program.entries[:high])


# --- fewer


def _drop(program: Program, fails: Fails, *, finest: int = 1) -> Program:
    """Without the steps that do not matter; the first brings the device up."""
    first, rest = program.entries[:1], program.entries[1:]
    left = fewer(rest, lambda some: fails(program.using((*first, *some))), finest=finest)
    return program.using((*first, *left))


def _drop_asks(program: Program, fails: Fails) -> Program:
    """Without the requests of a group that do not matter."""
    for number, entry in enumerate(program.entries):
        if isinstance(entry, Group) and len(entry.asks) > 1:
            program = _drop_of_group(program, number, entry, fails)
    return program


def _drop_of_group(program: Program, number: int, group: Group, fails: Fails) -> Program:
    before, after = program.entries[:number], program.entries[number + 1 :]

    def using(asks: Sequence[Ask]) -> Program:
        return program.using((*before, replace(group, asks=tuple(asks)), *after))

    return using(fewer(group.asks, lambda asks: bool(asks) and fails(using(asks))))


# --- simpler


def _one_at_a_time(program: Program, fails: Fails) -> Program:
    """One queue, one notification a request, and the answer awaited: where that does not matter."""
    parts: list[tuple[Entry, ...]] = [(entry,) for entry in program.entries]
    for change in (_awaited, _on_queue_0, _apart):
        parts = simpler(parts, change, lambda some: fails(program.using(_joined(some))))
    return program.using(_joined(parts))


def _joined(parts: Sequence[tuple[Entry, ...]]) -> tuple[Entry, ...]:
    return tuple(entry for part in parts for entry in part)


def _awaited(part: tuple[Entry, ...]) -> tuple[Entry, ...]:
    return tuple(replace(entry, wait=True) if isinstance(entry, Group) else entry for entry in part)


def _on_queue_0(part: tuple[Entry, ...]) -> tuple[Entry, ...]:
    return tuple(replace(entry, queue=0) if isinstance(entry, Group) else entry for entry in part)


def _apart(part: tuple[Entry, ...]) -> tuple[Entry, ...]:
    found: list[Entry] = []
    for entry in part:
        if isinstance(entry, Group):
            found += [replace(entry, asks=(ask,)) for ask in entry.asks]
        else:
            found.append(entry)
    return tuple(found)


def _change_all(program: Program, change: Changed, fails: Fails) -> Program:
    """With one change to all requests, or as it is."""
    asks = [change(number, ask) if ask.ok else ask for number, ask in enumerate(program.asks)]
    candidate = _with_asks(program, asks)
    return candidate if candidate != program and fails(candidate) else program


def _change(program: Program, change: Changed, fails: Fails) -> Program:
    """With one change to as many requests as may be."""
    asks = list(enumerate(program.asks))
    parts = simpler(
        asks,
        lambda one: (one[0], change(*one) if one[1].ok else one[1]),
        lambda some: fails(_with_asks(program, [ask for _, ask in some])),
    )
    return _with_asks(program, [ask for _, ask in parts])


def _with_asks(program: Program, asks: Sequence[Ask]) -> Program:
    """The same steps with other requests."""
    following = iter(asks)
    return program.using(
        tuple(
            replace(entry, asks=tuple(next(following) for _ in entry.asks))
            if isinstance(entry, Group)
            else entry
            for entry in program.entries
        )
    )


def _no_priority(_: int, ask: Ask) -> Ask:
    return replace(ask, ioprio=0)


def _one_piece(_: int, ask: Ask) -> Ask:
    return replace(ask, readable_split=None, writable_split=None)


def _fewer_pieces(_: int, ask: Ask) -> Ask:
    """Two pieces of data, the second as it was; what lies before them apart."""
    readable, writable = ask.readable_split, ask.writable_split
    if readable is not None and len(readable) > 3 and readable[0] == HEADER:
        readable = (HEADER, sum(readable[1:-1]), readable[-1])
    if writable is not None and len(writable) > 3 and writable[-1] == 1:
        writable = (sum(writable[:-2]), writable[-2], 1)
    return replace(ask, readable_split=readable, writable_split=writable)


def _plain_data(number: int, ask: Ask) -> Ask:
    return replace(ask, payload=Pattern(pattern=number % 0xFF + 1)) if ask.type == BlkType.OUT else ask


def _counting_data(number: int, ask: Ask) -> Ask:
    if ask.type != BlkType.OUT or ask.payload is None or ask.payload.pattern is not None:
        return ask
    return replace(ask, payload=Pattern(counting=(number & 0xFFFF) << 16))


def _one_range(_: int, ask: Ask) -> Ask:
    if not ask.ranges:
        return ask
    sent = len(ask.ranges[:1]) * (ask.sent // len(ask.ranges))
    return replace(ask, ranges=ask.ranges[:1], sent=sent, readable_split=None)


def _short(_: int, ask: Ask) -> Ask:
    return _of_length(ask, SECTOR)


def _half(_: int, ask: Ask) -> Ask:
    return _of_length(ask, max(SECTOR, max(ask.room, ask.sent) // 2 // SECTOR * SECTOR))


def _second_half(_: int, ask: Ask) -> Ask:
    """Without its first half, which what is read later may not be about."""
    length = max(ask.room, ask.sent)
    dropped = length // 2 // SECTOR * SECTOR
    if ask.type not in (BlkType.IN, BlkType.OUT) or not dropped:
        return ask
    return replace(_of_length(ask, length - dropped), sector=ask.sector + dropped // SECTOR)


def _half_in_pieces(_: int, ask: Ask) -> Ask:
    """Half of its longest piece of data; the pieces stay as many as they were."""
    if ask.type == BlkType.OUT and ask.readable_split is not None and ask.readable_split[0] == HEADER:
        pieces, dropped = _half_of_longest(ask.readable_split)
        return replace(ask, readable_split=pieces, sent=ask.sent - dropped)
    if ask.type == BlkType.IN and ask.writable_split is not None:
        pieces, dropped = _half_of_longest(ask.writable_split)
        room = ask.room - dropped
        return replace(ask, writable_split=pieces, room=room, used_length=room + 1)
    return ask


def _half_of_longest(pieces: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    """The pieces, and by how many bytes they are fewer."""
    at = max(range(len(pieces)), key=pieces.__getitem__)
    dropped = pieces[at] // 2 // SECTOR * SECTOR
    return (*pieces[:at], pieces[at] - dropped, *pieces[at + 1 :]), dropped


def _of_length(ask: Ask, length: int) -> Ask:
    """The first `length` bytes of it, in one piece."""
    if ask.type == BlkType.IN and ask.room > length:
        return replace(ask, room=length, used_length=length + 1, writable_split=None)
    if ask.type == BlkType.OUT and ask.sent > length:
        return replace(ask, sent=length, readable_split=None)
    if ask.ranges and max(count for _, count, _ in ask.ranges) * SECTOR > length:
        ranges = tuple((sector, min(count, length // SECTOR), flags) for sector, count, flags in ask.ranges)
        return replace(ask, ranges=ranges)
    return ask


def _flush(_: int, ask: Ask) -> Ask:  # noqa: ARG001
    return Ask(BlkType.FLUSH)


def _read_first_sector(_: int, ask: Ask) -> Ask:
    if ask.type == BlkType.FLUSH:
        return ask
    return Ask(BlkType.IN, room=SECTOR, used_length=SECTOR + 1)


CHANGES: tuple[Changed, ...] = (
    _flush,
    _read_first_sector,
    _no_priority,
    _one_piece,
    _fewer_pieces,
    _one_range,
    _short,
    _half,
    _second_half,
    *(_half_in_pieces,) * 4,
    _plain_data,
    _counting_data,
)


# --- the disk


def cut_content(program: Program) -> Program:
    """Only what is read is on the disk first, cut where reads begin and end."""
    bounds: set[int] = set()
    wanted: RangeMap[bool] = RangeMap()
    for ask in program.asks:
        if ask.reads is not None:
            wanted.set(*ask.reads, value=True)
            bounds.update(ask.reads)
    found: list[Held] = []
    for held in program.content:
        inner = [bound for bound in bounds if held.at < bound < held.at + held.length]
        for start, end in pairwise(sorted({held.at, *inner, held.at + held.length})):
            if wanted.find(start, end):
                found.append(_part(held, start, end))
    return replace(program, content=tuple(found))


def _part(held: Held, start: int, end: int) -> Held:
    if held.data.pattern is not None:
        return Held(start, end - start, held.data)
    whole = held.data.data(held.length)
    return Held(start, end - start, pattern_of(whole[start - held.at : end - held.at]))


def _content(program: Program, fails: Fails) -> Program:
    """As little as may be on the disk first, and that simple."""
    if not program.content:
        return program
    program = cut_content(program)
    held = fewer(program.content, lambda some: fails(replace(program, content=tuple(some))))
    numbered = list(enumerate(held))
    for make in (lambda n: Pattern(pattern=n % 0xFF + 1), lambda n: Pattern(counting=(n & 0xFFFF) << 16)):

        def change(one: tuple[int, Held], make: Callable[[int], Pattern] = make) -> tuple[int, Held]:
            number, part = one
            return (number, replace(part, data=make(number))) if part.data.hex is not None else one

        numbered = simpler(
            numbered, change, lambda some: fails(replace(program, content=tuple(part for _, part in some)))
        )
    return replace(program, content=tuple(part for _, part in numbered))


def _closer(program: Program, fails: Fails) -> Program:
    """What lies apart on the disk, side by side with a sector between, and as short as its parts allow."""
    touched: RangeMap[bool] = RangeMap()
    for ask in program.asks:
        for start, end in _places(ask):
            touched.set(start, end, value=True)
    for held in program.content:
        touched.set(held.at, held.at + held.length, value=True)
    # What is damaged may tell of places behind the disk's end.
    places = [(start, end) for start, end, _ in touched.find(0, max(program.size, _end(program)))]
    for scale in dict.fromkeys((_scale(program, places), 1)):
        candidate = _moved(program, places, scale)
        if candidate == program or fails(candidate):
            return candidate
    return program


def _scale(program: Program, places: Sequence[tuple[int, int]]) -> int:
    """What all parts of `places` are multiples of, in sectors."""
    starts = [start for start, _ in places]
    found = 0
    for start, end in (place for ask in program.asks for place in _places(ask)):
        region = starts[bisect_right(starts, start) - 1]
        found = gcd(found, start - region, end - start)
    return max(1, found // SECTOR)


def _moved(program: Program, places: Sequence[tuple[int, int]], scale: int) -> Program:
    """The same with `places` side by side, and everything in them divided by `scale`."""
    starts = [start for start, _ in places]
    bases = list(accumulate(((end - start) // scale + SECTOR for start, end in places), initial=0))

    def to(sector: int) -> int:
        at = bisect_right(starts, sector * SECTOR) - 1
        return (bases[at] + (sector * SECTOR - starts[at]) // scale) // SECTOR if at >= 0 else sector

    def moved(ask: Ask) -> Ask:
        if not ask.ok:
            return ask
        if ask.type not in (BlkType.IN, BlkType.OUT):
            return replace(
                ask, ranges=tuple((to(at), count // scale, flags) for at, count, flags in ask.ranges)
            )
        shorter = ask if scale == 1 else _of_length(ask, max(ask.room, ask.sent) // scale)
        return replace(shorter, sector=to(ask.sector))

    content = tuple(
        replace(held, at=to(held.at // SECTOR) * SECTOR, length=held.length // scale)
        for held in program.content
    )
    return replace(_with_asks(program, [moved(ask) for ask in program.asks]), content=content)


def _places(ask: Ask) -> Iterator[tuple[int, int]]:
    """Starts and ends in bytes of what a request reads and changes on the disk; none of them is empty."""
    for start, end in (*(() if ask.reads is None else (ask.reads,)), *ask.writes):
        if start < end:
            yield start, end


def _end(program: Program) -> int:
    """Where the last of what requests read and change on the disk ends, in bytes."""
    return max((end for ask in program.asks for _, end in _places(ask)), default=0)


def _smaller_disk(program: Program, fails: Fails) -> Program:
    """On a disk that is no larger than it must be, unless the host makes it another size."""
    if any(isinstance(entry, Fixed) and "resize" in entry.step for entry in program.entries):
        return program
    end = _end(program)
    for size in _SIZES:
        if end <= size < program.size:
            candidate = replace(program, size=size)
            return candidate if fails(candidate) else program
    return program
