"""Register accesses of a guest's as one action, whatever they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from guestsim.diff.access import Access, Step, Wait
from guestsim.diff.grammar import Action


@dataclass(frozen=True, slots=True)
class Registers:
    """Registers are read and written, as they are; by a driver only where it has the features in `needs`."""

    name: str
    accesses: tuple[Access, ...]
    needs: int = 0
    tags: frozenset[str] = frozenset()

    def simpler(self) -> Iterator[Action]:
        """Fewer of them."""
        for at in range(len(self.accesses)) if len(self.accesses) > 1 else ():
            yield replace(self, accesses=self.accesses[:at] + self.accesses[at + 1 :])

    def step(self) -> Step:
        """These accesses."""
        return Step(self.name, (*self.accesses, Wait()), self.tags)
