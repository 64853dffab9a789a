"""What can be fuzzed: a name, what it is about, and where the function of bytes is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

Run = Callable[[bytes], None]
"""One execution: raises where something does not hold."""


@dataclass(frozen=True)
class Target:
    """`place` is `module:function` of what makes a `Run`; it is imported late, because the engine instruments imports.

    `about` is what it is: a device, a ring, a transport, a protocol or a parser.  `length`: of inputs, at most, in
    bytes.  `packages`: whose branches the engine looks at.
    """

    name: str
    about: str
    place: str
    length: int = 512
    packages: tuple[str, ...] = ("devmodels",)

    def load(self) -> Run:
        """Import it."""
        module, _, function = self.place.partition(":")
        made: Callable[[], Run] = getattr(import_module(module), function)
        return made()
