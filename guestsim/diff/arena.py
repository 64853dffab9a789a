"""The part of guest memory that sequences use, and that is compared."""

from __future__ import annotations

ARENA = 0x100_0000
"""Where it begins: the 17th mebibyte."""
ARENA_SIZE = 0x4_0000
MESSAGES = ARENA
"""Words that interrupt messages are written to, one for each vector."""
MESSAGES_SIZE = 0x100
