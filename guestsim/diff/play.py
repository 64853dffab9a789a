"""One sequence on both sides, compared at its quiescent points."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from guestsim.diff.access import (
    Access,
    Break,
    Held,
    Late,
    Loose,
    Read,
    Rest,
    Resume,
    Step,
    Store,
    Unordered,
    Wait,
    Write,
)
from guestsim.diff.arena import ARENA, ARENA_SIZE, MESSAGES_SIZE
from guestsim.diff.masks import ORDER, Mask
from guestsim.diff.sides import Overtaken, Side
from guestsim.errors import raised
from guestsim.targets import TargetError

_SHOWN = 16
PATIENCE = 5.0
"""Seconds that a difference must last before it is one, unless it was expected."""
SHORT = 0.05
"""How long one must last that was expected."""

_BEGIN = Step("begin", ())

Found = tuple[str, str, str, str]
"""Kind, place, ours and theirs of a difference."""


@dataclass(frozen=True, slots=True)
class Area:
    """A part of guest memory that has a name."""

    name: str
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class Difference:
    """Where the sides are not the same.

    `kind` is register, memory, line, disk, held (a request at a break point), raised (by ours) or gone (theirs);
    `place` says where, `ours` and `theirs` what.
    `tags` are those of all steps up to there, `now` those of its own.
    """

    kind: str
    place: str
    ours: str
    theirs: str
    step: int
    name: str
    tags: frozenset[str]
    now: frozenset[str]

    @property
    def signature(self) -> tuple[str, ...]:
        """What remains of it in another sequence."""
        values = (self.ours, self.theirs) if self.kind == "register" else ()
        return (self.kind, self.place, *values)

    def like(self, other: Difference) -> bool:
        """Whether a shorter sequence shows the same: in a buffer what is there, elsewhere the kind of step.

        What a buffer holds follows from the step; indices and addresses from what came before it, too.
        """
        if self.signature != other.signature:
            return False
        if (self.kind, self.place) == ("memory", "buffers"):
            return self._first == other._first
        return not other.now or bool(self.now & other.now)

    @property
    def _first(self) -> tuple[str, str]:
        """The first byte that differs, of both."""
        return self.ours[:2], self.theirs[:2]

    def __str__(self) -> str:
        return (
            f"{self.kind} {self.place}: ours {self.ours}, {self.theirs} there (step {self.step}: {self.name})"
        )


@dataclass(slots=True)
class Counts:
    """What was done."""

    steps: int = 0
    accesses: int = 0
    waits: int = 0
    held: int = 0
    """Requests that were held at a break point on both sides."""
    overtaken: int = 0
    """Sequences that ended where QEMU may have gone on with a request before it was to be stopped."""
    masked: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Player:
    """Two sides, and what there is to compare.

    `observe` is read at each quiescent point; `label` gives a register's name.  A difference must last `patience`
    seconds, where theirs does not tell that it is at rest.
    """

    ours: Side
    theirs: Side
    prologue: Sequence[Step]
    observe: Sequence[Read]
    areas: Sequence[Area]
    masks: Sequence[Mask]
    bases: Sequence[bytes]
    """What the disks hold at first."""
    label: Callable[[Read], str]
    patience: float = PATIENCE
    known: Callable[[Difference], bool] = lambda _: False
    """Whether a difference is a known one: it need not last so long."""
    seen: set[tuple[str, ...]] = field(default_factory=set)
    """Signatures of others for which the same holds."""
    counts: Counts = field(default_factory=Counts)
    gone: bool = False
    """Whether one side has ended."""
    _tags: set[str] = field(default_factory=set)
    _now: Step = _BEGIN
    _number: int = 0
    _loose: list[Loose] = field(default_factory=list)
    _hiding: frozenset[str] = frozenset()
    """Names of the masks: no other memory is loose."""
    _exact: frozenset[str] = frozenset()
    """Names of those that say what registers must hold."""
    _breaks: set[str] = field(default_factory=set)
    """Break points that there are."""

    def __post_init__(self) -> None:
        self._hiding = frozenset(mask.name for mask in self.masks)
        self._exact = frozenset(mask.name for mask in self.masks if mask.exact)

    def play(self, steps: Sequence[Step]) -> Difference | None:
        """The first difference; the sides begin anew before it.  Nothing is held after it."""
        found: Difference | None = None
        try:
            found = self._play(steps)
        except Overtaken:
            self.counts.overtaken += 1
        finally:
            if found is not None or self._breaks:
                self._let_go()
        return found

    def _play(self, steps: Sequence[Step]) -> Difference | None:
        self._tags = set()
        self._loose.clear()
        self._restore()
        for number, step in enumerate((*self.prologue, *steps), -len(self.prologue)):
            self._tags |= step.tags
            self._now, self._number = step, number
            self.counts.steps += number >= 0
            try:
                found = self._step(step)
            except TargetError as error:
                self.gone = True
                found = "gone", self.theirs.name, "goes on", str(error)
            if found is not None:
                return self._difference(found)
        return self._disks(len(steps))

    def _let_go(self) -> None:
        """What is held or under way after a difference goes on and comes to its end, before a reset."""
        try:
            for tag in sorted(self._breaks):
                self._release(tag)
            for side in (self.ours,) if self.gone else (self.ours, self.theirs):
                side.settle()
                for access in (access for step in self.prologue for access in step.accesses):
                    if isinstance(access, Read | Write | Store):
                        side.do([access])
                    else:
                        side.settle()
        except TargetError:
            self.gone = True

    def _restore(self) -> None:
        """Memory and disks as at first."""
        for side in (self.ours, self.theirs):
            side.memory[:ARENA_SIZE] = bytes(ARENA_SIZE)
            for disk, base in zip(side.disks, self.bases, strict=True):
                if disk[:] != base:
                    disk[:] = base

    def _step(self, step: Step) -> Found | None:
        segment: list[Access] = []
        for access in step.accesses:
            if isinstance(access, Loose):
                if access.reason in self._hiding:
                    self._loose.append(access)
            elif isinstance(access, Wait | Rest | Break | Held | Late | Resume):
                found = self._segment(segment) or self._pause(access)
                if found is not None:
                    return found
                segment = []
            else:
                segment.append(access)
        return self._segment(segment)

    def _pause(self, access: Wait | Rest | Break | Held | Late | Resume) -> Found | None:
        """What is done on both when all accesses before it were made."""
        match access:
            case Wait():
                return self._wait(access)
            case Rest():
                return self._rest(access)
            case Break(event, tag):
                self._breaks.add(tag)
                for side in (self.ours, self.theirs):
                    side.debug(f"break {event} {tag}")
                return None
            case Held(tag):
                return self._held(tag)
            case Late(tag):
                if tag in self._breaks:
                    self.theirs.late(tag)
                return None
            case Resume(tag):
                self._release(tag)
                return None

    def _held(self, tag: str) -> Found | None:
        """Theirs is asked only where ours holds one: it would wait for ever.  Else there is no break point any more."""
        try:
            mine = self.ours.holds(tag)
        except Exception as error:
            return "raised", raised(error), "an exception", "none"
        if not mine:
            self._release(tag)
            return None
        try:
            there = self.theirs.holds(tag)
        except TargetError as error:
            self.gone = True
            return "held", tag, "a request", str(error)
        self.counts.held += there
        return None if there else ("held", tag, "a request", "none")

    def _release(self, tag: str) -> None:
        """What is held there goes on."""
        self._breaks.discard(tag)
        for side in (self.ours,) if self.gone else (self.ours, self.theirs):
            side.resume(tag)

    def _segment(self, accesses: Sequence[Access]) -> Found | None:
        if not accesses:
            return None
        self.counts.accesses += len(accesses)
        # Theirs may refuse to be overtaken: then nobody does them.
        others = self.theirs.do(accesses)
        try:
            mine = self.ours.do(accesses)
        except Exception as error:
            return "raised", raised(error), "an exception", "none"
        reads = [one for one in accesses if isinstance(one, Read)]
        return self._registers(reads, mine, others, self.counts.masked)

    def _registers(
        self, reads: Sequence[Read], mine: Sequence[int], others: Sequence[int], hidden: Counter[str]
    ) -> Found | None:
        for read, ours, theirs in zip(reads, mine, others, strict=True):
            if ours == theirs and not self._must_differ(read, ours):
                continue
            if read.but is not None and read.but[0] in self._hiding and read.hides(ours, theirs):
                hidden[read.but[0]] += 1
                continue
            for mask in self.masks:
                if mask.hides(read, ours, theirs, self._now.tags):
                    hidden[mask.name] += 1
                    break
            else:
                return "register", self.label(read), f"{ours:#x}", f"{theirs:#x}"
        return None

    def _must_differ(self, read: Read, ours: int) -> bool:
        """Whether ours has to hold another value than this one, which theirs has, too."""
        return read.but is not None and read.but[0] in self._exact and ours != read.but[1]

    def _rest(self, rest: Rest) -> Found | None:
        wanted = [] if rest.until is None else [rest.until]
        try:
            mine = self._ours_at_rest(wanted)
        except Exception as error:
            return "raised", raised(error), "an exception", "none"
        more = self.theirs.rest()
        if rest.until is None and not self._breaks:
            self.theirs.settle()
        found = self._until_equal(
            lambda hidden: self._registers(wanted, mine, self.theirs.do(wanted), hidden), more
        )
        self._loose.clear()
        return found

    def _wait(self, wait: Wait) -> Found | None:
        """Both come to rest; the difference that remains."""
        self.counts.waits += 1
        try:
            mine = self._ours_at_rest(self.observe)
        except Exception as error:
            return "raised", raised(error), "an exception", "none"
        memory, lines = self.ours.memory[:ARENA_SIZE], self.ours.lines()

        def compare(hidden: Counter[str]) -> Found | None:
            found = self._registers(self.observe, mine, self.theirs.do(self.observe), hidden)
            if found is None and lines != (others := self.theirs.lines()):
                found = "line", "interrupt", f"{lines:#b}", f"{others:#b}"
            return found or self._memory(memory, self.theirs.memory[:ARENA_SIZE], wait.unordered, hidden)

        found = self._until_equal(compare, more=True)
        self._loose.clear()
        if any(memory[:MESSAGES_SIZE]):
            for side in (self.ours, self.theirs):
                side.memory[:MESSAGES_SIZE] = bytes(MESSAGES_SIZE)
        return found

    def _ours_at_rest(self, reads: Sequence[Read]) -> list[int]:
        self.ours.settle()
        return self.ours.do(reads)

    def _until_equal(self, compare: Callable[[Counter[str]], Found | None], more: bool) -> Found | None:
        """The difference that lasts, or that nothing can change: `more` is whether theirs may do more by itself."""
        begun = 0.0
        while True:
            hidden: Counter[str] = Counter()
            found = compare(hidden)
            now = time.monotonic()
            begun = begun or now
            if found is None or not more or now - begun >= self._patience(found):
                self.counts.masked += hidden
                return found
            more = self.theirs.rest()

    def _patience(self, found: Found) -> float:
        """How long it must last."""
        difference = self._difference(found)
        expected = difference.signature in self.seen or self.known(difference)
        return min(SHORT, self.patience) if expected else self.patience

    def _difference(self, found: Found) -> Difference:
        return Difference(*found, self._number, self._now.name, frozenset(self._tags), self._now.tags)

    def _memory(
        self, ours: bytes, theirs: bytes, unordered: Unordered | None, hidden: Counter[str]
    ) -> Found | None:
        if ours == theirs:
            return None
        mine, others = self._loosened(ours, theirs, hidden)
        if unordered is not None and mine != others:
            mine, others = _sorted(mine, unordered), _sorted(others, unordered)
            hidden[ORDER] += 1
        if mine == others:
            self.theirs.memory[:ARENA_SIZE] = ours
            return None
        at, first, second = _first(mine, others, ARENA)
        place = f"{ARENA + at:#x}"
        for area in self.areas:
            if area.start <= ARENA + at < area.start + area.size:
                place = area.name
        return "memory", place, first, second

    def _loosened(self, ours: bytes, theirs: bytes, hidden: Counter[str]) -> tuple[bytes, bytes]:
        """Memory of both, zeroes where it need not be the same."""
        mine, others = bytearray(ours), bytearray(theirs)
        for loose in self._loose:
            start = loose.address - ARENA
            end = start + loose.length
            if loose.status is not None:
                status = ours[loose.status - ARENA]
                if loose.good is bool(status) or status != theirs[loose.status - ARENA]:
                    continue
            if not loose.hides(ours[start:end], theirs[start:end]):
                continue
            hidden[loose.reason] += ours[start:end] != theirs[start:end]
            mine[start:end] = others[start:end] = bytes(loose.length)
        return bytes(mine), bytes(others)

    def _disks(self, step: int) -> Difference | None:
        for number, (ours, theirs) in enumerate(zip(self.ours.disks, self.theirs.disks, strict=True)):
            mine, others = ours[:], theirs[:]
            if mine != others:
                _, first, second = _first(mine, others, 0)
                tags = frozenset(self._tags)
                return Difference(
                    "disk", f"disk {number}", first, second, step, "after all steps", tags, frozenset()
                )
        return None


def _first(ours: bytes, theirs: bytes, base: int) -> tuple[int, str, str]:
    """Where they begin to differ, and what is there; `base` is the address of the first byte."""
    start = 0
    for block in (4096, 64, 1):
        start = next(
            at for at in range(start, len(ours), block) if ours[at : at + block] != theirs[at : at + block]
        )
    mine, others = (
        f"{side[start : start + _SHOWN].hex(' ')} at {base + start:#x}" for side in (ours, theirs)
    )
    return start, mine, others


def _sorted(memory: bytes, records: Unordered) -> bytes:
    """Memory with its unordered records in order."""
    found = bytearray(memory)
    places = [slice(at - ARENA, at - ARENA + records.size) for at in records.addresses]
    for place, record in zip(places, sorted(memory[place] for place in places), strict=True):
        found[place] = record
    return bytes(found)
