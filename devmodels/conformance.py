"""What a guest did wrong: `Violation`s with the clause they break, and the profile that decides how strict to be.

A device never raises because of guest bytes.  It reports a violation here and then does what its specification
says for that case (an error status, NEEDS_RESET, a field ignored, …).  Nothing is lost in silence: the log keeps
the newest violations and counts all of them, per clause.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from enum import Enum

import msgspec

KEPT = 256
"""How many violations a log keeps whole; older ones remain only in its counts."""

MAX_BYTES = 64
"""How many of the offending bytes a violation keeps."""

MAX_CLAUSES = 1024
"""How many distinct clauses are counted apart (clauses are literals of ours, so this is never reached)."""


class Profile(Enum):
    """How much a device demands of its guest.

    `STRICT` reports every departure from the specification.  `LENIENT` accepts, without a report, what
    commonly used devices accept (each place that makes the difference says so).  `QEMU` is as lenient, and devices do
    as QEMU's do where those depart from their specification and QEMU's own tests look (each place says so as well).
    """

    STRICT = "strict"
    LENIENT = "lenient"
    QEMU = "qemu"


class Violation(msgspec.Struct, frozen=True):
    """One thing a guest did against a specification.

    `clause` names document and clause ("VIRTIO 1.4 §2.7.5.3.1"); `summary` says in our own words what
    happened; `place` says where ("vd0 queue 0 head 12"); `data` holds up to 64 of the bytes that were wrong.
    """

    clause: str
    summary: str
    place: str
    data: bytes = b""

    def __str__(self) -> str:
        shown = f" [{self.data.hex(' ')}]" if self.data else ""
        return f"{self.place}: {self.summary} ({self.clause}){shown}"


def written(value: int, size: int) -> bytes:
    """What a guest has written to a register of `size` bytes, for `Violation.data`; more where it is longer."""
    return value.to_bytes(max(size, -(-value.bit_length() // 8)), "little")


class ViolationLog:
    """Collects violations, bounded in memory whatever a guest does.

    Any thread may report: one violation is recorded, and told, after the other, on the thread where it was seen.
    """

    __slots__ = ("_lock", "counts", "newest", "on_violation", "profile", "recent", "record", "total")

    def __init__(
        self,
        profile: Profile = Profile.STRICT,
        on_violation: Callable[[Violation], None] | None = None,
    ) -> None:
        self.profile = profile
        self.on_violation = on_violation
        self.record: Callable[[Violation], None] | None = None
        """Who writes a trace hears of each one, too."""
        self.recent: deque[Violation] = deque(maxlen=KEPT)
        self.counts: Counter[str] = Counter()
        self.newest: dict[str, Violation] = {}
        """The newest of each clause that is counted."""
        self.total = 0
        self._lock = threading.RLock()

    @property
    def strict(self) -> bool:
        """Whether everything is reported."""
        return self.profile is Profile.STRICT

    @property
    def as_qemu(self) -> bool:
        """Whether to do as QEMU does."""
        return self.profile is Profile.QEMU

    def report(self, clause: str, summary: str, place: str, data: bytes = b"") -> None:
        """Record that the guest broke `clause` at `place`."""
        violation = Violation(clause, summary, place, bytes(data[:MAX_BYTES]))
        with self._lock:
            self.total += 1
            if clause in self.counts or len(self.counts) < MAX_CLAUSES:
                self.counts[clause] += 1
                self.newest[clause] = violation
            self.recent.append(violation)
            if self.record is not None:
                self.record(violation)
            if self.on_violation is not None:
                self.on_violation(violation)

    def clear(self) -> None:
        """Forget everything, counts included."""
        with self._lock:
            self.recent.clear()
            self.counts.clear()
            self.newest.clear()
            self.total = 0
