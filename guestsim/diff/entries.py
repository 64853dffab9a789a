"""What an entry of the table of known differences is, and which differences are it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from guestsim.diff.play import Difference
from guestsim.diff.profiles import BOTH, Profile

Right = Literal["ours", "QEMU's", "both"]

NEVER_KNOWN = frozenset({"raised", "gone"})
"""Kinds of differences that no entry excuses: a device of ours has raised an exception, or QEMU has ended."""

Relation = Callable[[int, int], bool]
"""What two numbers must be to each other, ours first: those of a register, or of the first byte that differs."""


def ours_is_next(ours: int, theirs: int) -> bool:
    """Ours is one more; indices begin again at 0."""
    return ours - theirs & 0xFF == 1


def theirs_is_ahead(most: int) -> Relation:
    """QEMU's is more, by `most` at most."""
    return lambda ours, theirs: 1 <= theirs - ours & 0xFF <= most


def ours_is_larger(ours: int, theirs: int) -> bool:
    """Ours is more, by anything."""
    return ours > theirs


def ours_has_more_bits(ours: int, theirs: int) -> bool:
    """All bits of QEMU's are set in ours, and one more at least."""
    return ours != theirs == ours & theirs


def theirs_has_more_bits(ours: int, theirs: int) -> bool:
    """The same the other way round."""
    return ours_has_more_bits(theirs, ours)


@dataclass(frozen=True, slots=True)
class Shown:
    """Where a known difference shows: a kind of difference, and patterns of its place and of both values.

    There is also a `relation` of the two, where they are not always the same.
    """

    kind: str
    place: str
    ours: str
    theirs: str
    relation: Relation | None = None

    def matches(self, found: Difference) -> bool:
        """Whether a difference is there, with such values."""
        return (
            found.kind == self.kind
            and fnmatchcase(found.place, self.place)
            and fnmatchcase(found.ours, self.ours)
            and fnmatchcase(found.theirs, self.theirs)
            and (self.relation is None or self.relation(_number(found.ours), _number(found.theirs)))
        )


def register(place: str, ours: str, theirs: str) -> Shown:
    """In a register."""
    return Shown("register", place, ours, theirs)


def memory(place: str, ours: str, theirs: str, relation: Relation | None = None) -> Shown:
    """In what devices write there."""
    return Shown("memory", place, ours, theirs, relation)


def buffers(ours: str, theirs: str) -> tuple[Shown]:
    """In buffers, or behind the beginning of a request's response."""
    return (memory("buffers", f"{ours}*", f"{theirs}*"),)


def _number(value: str) -> int:
    """A register's, or the first byte of memory."""
    return int(value, 0) if value.startswith("0x") else int(value[:2], 16)


@dataclass(frozen=True, slots=True)
class Known:
    """One of them, in one sentence.

    It is in a difference that is one of `shown`, in a sequence with a step that has one of `tags` (if any are given);
    `now`: in that very step, which has all of `all_now`.  Only under these `profiles` is it excused.
    """

    name: str
    what: str
    clause: str
    right: Right
    devices: tuple[str, ...]
    shown: tuple[Shown, ...]
    tags: frozenset[str] = frozenset()
    now: frozenset[str] = frozenset()
    all_now: frozenset[str] = frozenset()
    profiles: frozenset[Profile] = BOTH

    def matches(self, device: str, found: Difference, profile: Profile = "strict") -> bool:
        """Whether the difference is this one."""
        return (
            device in self.devices
            and profile in self.profiles
            and found.kind not in NEVER_KNOWN
            and any(one.matches(found) for one in self.shown)
            and (not self.tags or bool(self.tags & found.tags))
            and (not self.now or bool(self.now & found.now))
            and self.all_now <= found.now
        )
