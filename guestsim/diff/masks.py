"""What is deliberately not compared, each thing with its reason."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace

from guestsim.diff.access import Read
from guestsim.diff.profiles import BOTH, STRICT, Profile


@dataclass(frozen=True, slots=True)
class Mask:
    """Bits of registers that are not compared: those in `bits` of the bytes from `start` to `end` of a window.

    Where there are `tags`, only in a step that has one of them; where there are `values`, only if those bits are these
    in ours and in theirs.  Only under these `profiles` is anything hidden.

    Where it is `exact`, a read of a sequence that names it says what both must hold: it is a difference also where
    ours has the same as theirs, but not its own value.
    """

    name: str
    reason: str
    window: str
    start: int
    end: int
    bits: int = -1
    tags: frozenset[str] = frozenset()
    values: tuple[int | None, int | None] = (None, None)
    profiles: frozenset[Profile] = BOTH
    exact: bool = False

    def hides(self, read: Read, ours: int, theirs: int, tags: Set[str]) -> bool:
        """Whether this is all that is not the same."""
        if read.window != self.window or not self.start <= read.offset <= read.offset + read.size <= self.end:
            return False
        if self.tags and not self.tags & tags:
            return False
        bits = self.bits >> 8 * (read.offset - self.start)
        held = (
            value is None or side & bits == value
            for side, value in zip((ours, theirs), self.values, strict=True)
        )
        return not (ours ^ theirs) & ~bits and all(held)


def of_memory(name: str, reason: str, profiles: frozenset[Profile] = BOTH) -> Mask:
    """One of memory: sequences say where it holds (`Loose`, `Unordered`)."""
    return Mask(name, reason, "", 0, 0, profiles=profiles)


def strict(*masks: Mask) -> tuple[Mask, ...]:
    """Masks of what ours does as QEMU's under that profile: there they hide nothing."""
    return tuple(replace(mask, profiles=STRICT) for mask in masks)


ORDER = "order"
"""The mask of memory whose records may come in any order (`Unordered`)."""

EXPLAINED = of_memory(
    "explained",
    "What was explained as a script ran, by an entry, a mask or the script itself, in a file that is saved of it.",
)
"""The mask of what a saved script says of registers and memory."""
