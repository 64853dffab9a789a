"""What QEMU 7.2's disk remembers besides what every disk does; no reset changes it."""

from __future__ import annotations

import struct

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

    def know(self, **words: int) -> None:
        """Have other words in what was told of first; `w85` is word 85."""
        if self.identity:
            data = bytearray(self.identity)
            for name, value in words.items():
                struct.pack_into("<H", data, 2 * int(name[1:]), value & 0xFFFF)
            self.identity = bytes(data)
