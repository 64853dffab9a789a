"""What has happened between two lines of a telemetry stream."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

SECOND = 10**9


class Counts(msgspec.Struct, frozen=True):
    """The counters that rates are made of; a stream has more."""

    rd_operations: int
    rd_bytes: int
    rd_total_time_ns: int
    wr_operations: int
    wr_bytes: int
    wr_total_time_ns: int
    flush_operations: int
    unmap_operations: int
    failed_rd_operations: int
    failed_wr_operations: int
    failed_flush_operations: int
    failed_unmap_operations: int
    account_failed: bool

    @property
    def failed(self) -> int:
        """Of all kinds."""
        of_data = self.failed_rd_operations + self.failed_wr_operations
        return of_data + self.failed_flush_operations + self.failed_unmap_operations


class Entry(msgspec.Struct, rename="kebab", frozen=True, kw_only=True):
    """One backend, or one node (without `device`)."""

    node_name: str
    driver: str
    device: str | None = None
    in_flight: int | None = None
    busy_ns: int | None = None
    throttled_ns: int | None = None
    stats: Counts | None = None


class Line(msgspec.Struct, rename="kebab", frozen=True):
    """One line, as far as it is shown."""

    time_ns: int
    status: str
    backends: list[Entry]
    nodes: list[Entry]
    dropped: int = 0


class Rates(msgspec.Struct, frozen=True):
    """Of one backend or node: a second's operations and bytes, mean latencies in ms, and the queue's mean depth.

    Latencies are those of all that has ended, where the times of what has failed count (`account_failed`).
    """

    reads: float
    writes: float
    flushes: float
    unmaps: float
    read_bytes: float
    written_bytes: float
    read_ms: float | None
    write_ms: float | None
    depth: float


def rates(before: Entry, now: Entry, elapsed_ns: int) -> Rates | None:
    """What `now` has more than `before`; None where neither has statistics, or no time has passed."""
    old, new = before.stats, now.stats
    if old is None or new is None or elapsed_ns <= 0:
        return None
    seconds = elapsed_ns / SECOND
    reads, writes = new.rd_operations - old.rd_operations, new.wr_operations - old.wr_operations
    (timed_reads, read_ns), (timed_writes, write_ns) = (
        (a.requests - b.requests, a.total_ns - b.total_ns)
        for a, b in zip(_timed(new), _timed(old), strict=True)
    )
    return Rates(
        reads=reads / seconds,
        writes=writes / seconds,
        flushes=(new.flush_operations - old.flush_operations) / seconds,
        unmaps=(new.unmap_operations - old.unmap_operations) / seconds,
        read_bytes=(new.rd_bytes - old.rd_bytes) / seconds,
        written_bytes=(new.wr_bytes - old.wr_bytes) / seconds,
        read_ms=read_ns / timed_reads / 1e6 if timed_reads else None,
        write_ms=write_ns / timed_writes / 1e6 if timed_writes else None,
        depth=((now.busy_ns or 0) - (before.busy_ns or 0)) / elapsed_ns,
    )


class _Timed(NamedTuple):
    """So many requests took so long together."""

    requests: int
    total_ns: int


def _timed(counts: Counts) -> tuple[_Timed, _Timed]:
    """Reads and writes whose times count."""
    reads, writes = counts.rd_operations, counts.wr_operations
    if counts.account_failed:
        reads += counts.failed_rd_operations
        writes += counts.failed_wr_operations
    return _Timed(reads, counts.rd_total_time_ns), _Timed(writes, counts.wr_total_time_ns)
