"""What random sequences are made of: actions that a driver could do, well or badly, and their accesses.

An action is data; a lowering turns a list of them into steps, with what follows from the ones before (ring indices,
free buffers).  A list from which some have been taken away lowers as well: that is how differences are shrunk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Protocol

from guestsim.diff.access import Step


class Action(Protocol):
    """Something that a guest does."""

    def simpler(self) -> Iterator[Action]:
        """The same with less in it, the simplest first."""
        ...


class Grammar(Protocol):
    """Random sequences for one kind of device."""

    def sequence(self, random: Random, length: int) -> list[Action]:
        """`length` actions; those that bring the device up count."""
        ...

    def lower(self, actions: Sequence[Action]) -> list[Step]:
        """Their steps, one for each action."""
        ...
