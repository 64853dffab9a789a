"""What the guest of a script does while it is compared, as accesses at the addresses that it uses.

What was explained is recorded with the values that it had (the mask `explained`), so that it ends no replay.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from guestsim.diff.access import Access, Loose, Read, Rest, Store, Wait, Write
from guestsim.diff.masks import EXPLAINED
from guestsim.diff.memories import runs

if TYPE_CHECKING:
    from guestsim.diff.both import Sight

Bars = tuple[int, ...]

MEMORY, PORT = "memory", "port"
"""Windows of raw addresses."""


@dataclass(slots=True)
class Recorded:
    """One access, with a raw address where it is one of a register; `bars` are the function's at that time."""

    access: Access
    bars: Bars = ()


@dataclass(slots=True)
class RecordedStep:
    """A step of the script, as far as it went."""

    name: str
    tags: frozenset[str]
    accesses: list[Recorded]


@dataclass(slots=True)
class Record:
    """What was done up to now; `beyond` is what no access can say."""

    steps: list[RecordedStep] = field(default_factory=list)
    beyond: dict[str, None] = field(default_factory=dict)
    function: int = 0
    """Where the configuration space of the function lies that is played again, the first one."""
    bars: Bars = ()
    """What its six base address registers hold."""
    _now: list[Recorded] = field(default_factory=list)
    _explained: list[Loose] = field(default_factory=list)
    _line: bool = False

    # --- registers

    def read(self, address: int, size: int, *, port: bool, in_flight: bool) -> None:
        """A register is read; while something is `in_flight` it need not be the same."""
        but = (EXPLAINED.name, None, None) if in_flight else None
        self._add(Read(PORT if port else MEMORY, address, size, but))

    def waited(self) -> None:
        """The other side has come to what was read last only later."""
        self._now.insert(len(self._now) - 1, Recorded(Rest()))

    def write(self, address: int, size: int, value: int, *, port: bool) -> None:
        """A register is written."""
        self._add(Write(PORT if port else MEMORY, address, size, value & (1 << 8 * size) - 1))

    # --- memory, and coming to rest

    def store(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """The guest writes to memory."""
        self._add(Store(address, bytes(data)))

    def rest(self) -> None:
        """Both have come to rest."""
        if not self._now or not isinstance(self._now[-1].access, Rest):
            self._add(Rest())

    def explained(self, sight: Sight) -> None:
        """This was different, and is explained."""
        if sight.kind == "register":
            last = self._now[-1]
            if isinstance(last.access, Read) and last.access.but is None:
                assert isinstance(sight.ours, int)
                assert isinstance(sight.theirs, int)
                last.access = replace(last.access, but=(EXPLAINED.name, sight.ours, sight.theirs))
        elif sight.kind == "line":
            self._line = True
        else:
            self._explained += _loose(sight)

    def end(self, name: str, tags: frozenset[str], *, compared: bool) -> None:
        """A step of the script has ended, or what was recorded does in the middle of it."""
        if compared and self._line:
            self._add(Rest())
        elif compared:
            for loose in self._explained:
                self._add(loose)
            self._add(Wait())
            self._explained.clear()
        self._line = False
        self.steps.append(RecordedStep(name, tags, self._now))
        self._now = []

    def _add(self, access: Access) -> None:
        self._now.append(Recorded(access, self.bars))


def _loose(sight: Sight) -> Iterator[Loose]:
    """The bytes that differ, with their values on both sides."""
    assert isinstance(sight.ours, bytes)
    assert isinstance(sight.theirs, bytes)
    for start, end in runs(sight.ours, sight.theirs):
        values = (sight.ours[start:end], sight.theirs[start:end])
        yield Loose(EXPLAINED.name, sight.address + start, end - start, values=values)
