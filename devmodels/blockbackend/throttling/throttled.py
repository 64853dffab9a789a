"""What limits have cost."""

from __future__ import annotations

import msgspec


class Throttled(msgspec.Struct):
    """How many requests have had to wait for limits, and for how long together, in ns."""

    operations: int = 0
    total_ns: int = 0
