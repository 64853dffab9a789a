"""What a guest was told about its disk, and what each sector may hold after a power cut.

The rules are those of VIRTIO 1.4 §5.2.6.2, applied to sectors, and nothing of a device's code.  A request is known
by when it was submitted, when it was over - answered, or dropped by a reset - and whether its success was told.  Of two
changes of a sector the older is *behind* the newer where it was over before the newer one was submitted; otherwise
nobody can say which of them is older.

A told change is stable where one of these holds:

* it was a write or a write of zeroes, and the cache was write-through from its submission until it was told;
* a flush that was submitted after it was told has been told;
* it was a secure erase.

After a cut a sector may hold the content of any change that was submitted, told or not, unless a stable one has it
behind.  A discard may have left what was there or zeroes, so nothing is behind it.  The specification lets a sector
under a volatile write be anything at all; here it is a whole sector that somebody wrote there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum

SECTOR = 512
_LINES = 16
_LINE = SECTOR // _LINES
_ZEROES = bytes(SECTOR)


class Kind(StrEnum):
    """What a request is."""

    READ = "read"
    WRITE = "write"
    ZERO = "zero"
    DISCARD = "discard"
    ERASE = "erase"
    FLUSH = "flush"


_CHANGES = frozenset({Kind.WRITE, Kind.ZERO, Kind.DISCARD, Kind.ERASE})
_REPLACES = frozenset({Kind.WRITE, Kind.ZERO, Kind.ERASE})


class Act:
    """One request: `count` sectors from `first` on, on `queue`.

    `begun`, `over` and `told` are moments of the ledger; `told` is None where its success was never told.
    `legal` is what a read may find, by sector.
    """

    __slots__ = (
        "begun",
        "count",
        "first",
        "kind",
        "legal",
        "number",
        "over",
        "queue",
        "stable",
        "through",
        "told",
    )

    def __init__(self, number: int, kind: Kind, first: int, count: int, queue: int, begun: int) -> None:
        self.number = number
        self.kind = kind
        self.first = first
        self.count = count
        self.queue = queue
        self.begun = begun
        self.over: int | None = None
        self.told: int | None = None
        self.stable = False
        self.through = False
        self.legal: dict[int, set[bytes]] = {}

    @property
    def end(self) -> int:
        """The first sector after it."""
        return self.first + self.count

    def content(self, sector: int) -> bytes:
        """What it puts into `sector`; no other write puts the same there, or anywhere."""
        return stamp(self.number, sector) if self.kind is Kind.WRITE else _ZEROES

    @property
    def data(self) -> bytes:
        """A write's payload."""
        return b"".join(stamp(self.number, sector) for sector in range(self.first, self.end))

    def __str__(self) -> str:
        where = f" {self.first}+{self.count}" if self.count else ""
        return f"#{self.number} {self.kind}{where}"


@dataclass(frozen=True, slots=True)
class Finding:
    """A sector that does not hold what it may: what was found, and what could have been."""

    sector: int
    found: str
    expected: tuple[str, ...]

    def __str__(self) -> str:
        return f"sector {self.sector} holds {self.found}, expected {' or '.join(self.expected)}"


class Ledger:
    """A disk of `sectors` sectors, which hold their stamps of write 0 at first."""

    def __init__(self, sectors: int) -> None:
        self.sectors = sectors
        self.acts: list[Act] = []
        self.now = 0
        self.writeback = True
        first = self._act(Kind.WRITE, 0, sectors, 0)
        first.over, first.told, first.stable = self.now, self.now, True
        self._changes: list[list[Act]] = [[first] for _ in range(sectors)]
        """By sector: what may be there, with its change; in order of submission."""
        self._legal: list[dict[bytes, Act] | None] = [None] * sectors
        self._volatile: list[Act] = []
        self._switches: list[tuple[int, bool]] = []
        self._under_way: dict[Act, None] = {}

    @property
    def under_way(self) -> list[Act]:
        """What was submitted and is not over."""
        return list(self._under_way)

    def set_writeback(self, on: bool) -> None:
        """The guest has switched the cache's mode; what is under way may be either (VIRTIO 1.4 §5.2.6.2)."""
        self.writeback = on
        self.now += 1
        self._switches.append((self.now, on))
        for act in self._under_way:
            act.through = False

    def begin(self, kind: Kind, first: int = 0, count: int = 0, queue: int = 0) -> Act:
        """A request is about to be submitted."""
        act = self._act(kind, first, count, queue)
        act.through = not self.writeback and kind in (Kind.WRITE, Kind.ZERO)
        self._under_way[act] = None
        if kind is Kind.READ:
            act.legal = {sector: self._readable(sector) for sector in range(first, act.end)}
        elif kind in _CHANGES:
            for sector in range(first, act.end):
                self._changes[sector].append(act)
                self._legal[sector] = None
                for other in self._under_way:
                    if other.kind is Kind.READ and sector in other.legal:
                        other.legal[sector].add(act.content(sector))
        return act

    def _act(self, kind: Kind, first: int, count: int, queue: int) -> Act:
        self.now += 1
        act = Act(len(self.acts), kind, first, count, queue, self.now)
        self.acts.append(act)
        return act

    def end(self, act: Act, *, ok: bool, data: bytes = b"") -> list[Finding]:
        """It is over, `ok` where its success was told; `data` is what a read has brought.  What is wrong with that."""
        self.now += 1
        del self._under_way[act]
        act.over = self.now
        if not ok:
            return []
        act.told = self.now
        if act.kind is Kind.READ:
            return self._check_read(act, data)
        if act.kind is Kind.FLUSH:
            covered = [one for one in self._volatile if one.told is not None and one.told < act.begun]
            for one in covered:
                self._make_stable(one)
            self._volatile = [one for one in self._volatile if not one.stable]
        elif act.through or act.kind is Kind.ERASE:
            self._make_stable(act)
        elif act.kind in _REPLACES:
            self._volatile.append(act)
        return []

    def _make_stable(self, act: Act) -> None:
        act.stable = True
        for sector in range(act.first, act.end):
            self._changes[sector] = [one for one in self._changes[sector] if not _behind(one, act)]
            self._legal[sector] = None

    def story(self, wanted: Collection[Act]) -> Iterator[str]:
        """What became of the `wanted` requests, and the flushes and changes of the mode meanwhile, event by event."""
        since = min((act.begun for act in wanted), default=self.now)
        lines = []
        for act in self.acts[1:]:
            if act in wanted or (act.kind is Kind.FLUSH and (act.over or self.now) > since):
                lines.append((act.begun, f"{act} submitted on queue {act.queue}"))
                if act.told is not None:
                    lines.append((act.told, f"#{act.number} done{', and stable' if act.through else ''}"))
                elif act.over is not None:
                    lines.append((act.over, f"#{act.number} failed or dropped"))
        for moment, on in self._switches:
            lines.append((moment, f"write cache {'on' if on else 'off'}"))
        for moment, text in sorted(lines):
            yield f"{moment:5}  {text}"

    # --- what may be there

    def legal(self, sector: int) -> dict[bytes, Act]:
        """What `sector` may hold after a cut now, with the change that put it there."""
        found = self._legal[sector]
        if found is None:
            found = {act.content(sector): act for act in self._changes[sector]}
            self._legal[sector] = found
        return found

    def _readable(self, sector: int) -> set[bytes]:
        """What a read that is submitted now may find: nothing that a told change has behind it."""
        acts = self._changes[sector]
        told = [act for act in acts if act.told is not None and act.kind in _REPLACES]
        return {act.content(sector) for act in acts if not any(_behind(act, other) for other in told)}

    def check(self, image: bytes) -> list[Finding]:
        """Hold what is left of the whole disk against what may be."""
        found = []
        for sector in range(self.sectors):
            content = image[sector * SECTOR : (sector + 1) * SECTOR]
            legal = self._legal[sector] or self.legal(sector)
            if content not in legal:
                expected = tuple(self._explain(act) for act in legal.values())
                found.append(Finding(sector, describe(content, sector), expected))
        return found

    def check_units(self, image: bytes, unit: int) -> list[Finding]:
        """Hold `image` against an atomic unit of so many sectors: of one change, an aligned unit is there or not.

        So where one sector shows a change, no other one that it covers in the unit shows something stable that it has
        behind it.  What is volatile may have arrived later.
        """
        found = []
        for sector in range(self.sectors):
            change = self.legal(sector).get(image[sector * SECTOR : (sector + 1) * SECTOR])
            if change is None or change.kind is not Kind.WRITE or change.number == 0:
                continue
            start = sector // unit * unit
            for other in range(max(start, change.first), min(start + unit, change.end)):
                content = image[other * SECTOR : (other + 1) * SECTOR]
                shown = [act for act in self._changes[other] if act.content(other) == content]
                if shown and all(act.stable and _behind(act, change) for act in shown):
                    torn = f"{describe(content, other)}, though sector {sector} holds write {change.number}"
                    found.append(Finding(other, torn, (f"write {change.number}", "a later one")))
        return found

    def _explain(self, act: Act) -> str:
        state = "stable" if act.stable else "told" if act.told is not None else "not told"
        name = "zeroes" if act.kind is not Kind.WRITE else f"write {act.number}"
        return f"{name} ({state})"

    def _check_read(self, act: Act, data: bytes) -> list[Finding]:
        found = []
        for sector, legal in act.legal.items():
            at = (sector - act.first) * SECTOR
            content = data[at : at + SECTOR]
            if content not in legal:
                expected = tuple(sorted(describe(one, sector) for one in legal))
                found.append(Finding(sector, f"{describe(content, sector)} for {act}", expected))
        act.legal = {}
        return found


def _behind(act: Act, other: Act) -> bool:
    """Whether `other` has certainly replaced `act`."""
    return act is not other and act.over is not None and act.over < other.begun


def stamp(number: int, sector: int) -> bytes:
    """The content that write `number` puts into `sector`: lines of text, so that a dump can be read."""
    return (b"write %9d, sector %7d\n" % (number, sector)) * _LINES


def describe(content: bytes, sector: int) -> str:
    """What a sector holds, in words."""
    if content == _ZEROES:
        return "zeroes"
    lines = [content[at : at + _LINE].decode("latin-1").strip() for at in range(0, SECTOR, _LINE)]
    kinds = list(dict.fromkeys(_name(line, sector) for line in lines))
    return kinds[0] if len(kinds) == 1 else "a torn sector: " + ", ".join(kinds)


def _name(line: str, sector: int) -> str:
    words = line.replace(",", "").split()
    if len(words) == 4 and words[0] == "write" and words[2] == "sector":
        return f"write {words[1]}" + ("" if words[3] == str(sector) else f" of sector {words[3]}")
    return "zeroes" if not line.strip("\0") else "something that nobody wrote"
