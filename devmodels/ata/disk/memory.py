"""What QEMU 7.2's disk remembers besides what every disk does; no reset changes it."""

from __future__ import annotations

from collections.abc import Mapping

from devmodels.ata.words import altered

MAX_TESTS = 21
"""Results of self-tests that the log has room for."""


class Memory:
    """`identity` is the data of IDENTIFY DEVICE as they were asked for first, empty before.

    `tests` are the self-tests of the log, `last` the place of the last one, from 1.
    """

    __slots__ = ("autosave", "identity", "last", "tests")

    def __init__(self) -> None:
        self.identity = b""
        self.autosave = True
        self.tests: list[int] = []
        self.last = 0

    def know(self, words: Mapping[int, int]) -> None:
        """Have other words in what was told of first."""
        if self.identity:
            self.identity = altered(self.identity, words)
