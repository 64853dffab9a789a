"""Counters of one backend, under the names of QEMU's `query-blockstats`."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from devmodels.blockbackend.accounting.histogram import Histogram
from devmodels.blockbackend.accounting.intervals import IntervalStats
from devmodels.blockbackend.request import Op, Request


class Kind(IntEnum):
    """What is counted together: writing zeroes is writing, secure erase is unmapping."""

    RD = 0
    WR = 1
    FLUSH = 2
    UNMAP = 3

    @property
    def prefix(self) -> str:
        """As in the counters' names."""
        return self.name.lower()


_KIND = {
    Op.READ: Kind.RD,
    Op.WRITE: Kind.WR,
    Op.FLUSH: Kind.FLUSH,
    Op.DISCARD: Kind.UNMAP,
    Op.WRITE_ZEROES: Kind.WR,
    Op.SECURE_ERASE: Kind.UNMAP,
}
"""Other operations are not counted."""


_READ, _WRITE, _WRITE_ZEROES = Op.READ, Op.WRITE, Op.WRITE_ZEROES
_RD, _WR, _FLUSH, _UNMAP = Kind
"""Names of the module: half the price of an enumeration's members, which counts here."""


class Counters:
    """What is counted, from zero on."""

    rd_bytes: int
    wr_bytes: int
    unmap_bytes: int
    rd_operations: int
    wr_operations: int
    flush_operations: int
    unmap_operations: int
    rd_total_time_ns: int
    wr_total_time_ns: int
    flush_total_time_ns: int
    unmap_total_time_ns: int
    rd_merged: int
    wr_merged: int
    unmap_merged: int
    failed_rd_operations: int
    failed_wr_operations: int
    failed_flush_operations: int
    failed_unmap_operations: int
    invalid_rd_operations: int
    invalid_wr_operations: int
    invalid_flush_operations: int
    invalid_unmap_operations: int
    wr_highest_offset: int

    __slots__ = tuple(__annotations__)

    def __init__(self) -> None:
        for name in Counters.__slots__:
            setattr(self, name, 0)


class BlockStats(Counters):
    """What a backend has done.

    Bytes and operations are those of requests that succeeded; `merged` counts requests that rode along in another
    one; `failed` those that ended with an error; `invalid` those that a device refused before submitting them.  Times
    are sums in ns on the context's clock.  With `account_failed`, failed requests count in times and intervals too;
    with `account_invalid_requests`, a refused one ends the idle time.
    """

    __slots__ = (
        "_histograms",
        "_uncounted_ns",
        "_watched",
        "account_failed",
        "account_invalid_requests",
        "counts_unmaps",
        "intervals",
        "last_access_ns",
    )

    def __init__(self) -> None:
        super().__init__()
        self.account_failed = True
        self.account_invalid_requests = True
        self.counts_unmaps = True
        """Whether discards and secure erases are counted: QEMU's virtio-blk counts none."""
        self.intervals: list[IntervalStats] = []
        self.last_access_ns: int | None = None
        self._histograms: dict[Kind, Histogram] = {}
        self._uncounted_ns = 0
        """Times of failed requests that do not count otherwise."""
        self._watched = False
        """Whether single latencies matter to somebody."""

    def as_dict(self) -> dict[str, int]:
        """Every counter by its name."""
        return {name: getattr(self, name) for name in Counters.__slots__}

    def device_stats(self, now_ns: int) -> dict[str, object]:
        """Everything at `now_ns`, under the names of QEMU's `BlockDeviceStats`."""
        out: dict[str, object] = {**self.as_dict()}
        idle = self.idle_ns(now_ns)
        if idle is not None:
            out["idle_time_ns"] = idle
        out["account_invalid"] = self.account_invalid_requests
        out["account_failed"] = self.account_failed
        out["timed_stats"] = [interval.as_dict(now_ns) for interval in self.intervals]
        for kind, histogram in self._histograms.items():
            out[f"{kind.prefix}_latency_histogram"] = histogram.as_dict()
        return out

    # --- what is watched besides

    @property
    def histograms(self) -> dict[Kind, Histogram]:
        """The latency histograms that are kept, by kind."""
        return dict(self._histograms)

    def set_histogram(self, kind: Kind, boundaries: Sequence[int] | None) -> None:
        """Keep a histogram of latencies, from zero on, by `boundaries` in ns; None: keep none.

        ValueError where the boundaries do not rise.
        """
        if boundaries is None:
            self._histograms.pop(kind, None)
        else:
            self._histograms[kind] = Histogram(boundaries)
        self._watched = bool(self._histograms or self.intervals)

    def add_interval(self, seconds: int, now_ns: int) -> None:
        """Keep statistics of about the last `seconds`."""
        self.intervals.append(IntervalStats(seconds, now_ns))
        self._watched = True

    @property
    def ended_ns(self) -> int:
        """The times of all requests that are over, together, whether they count otherwise or not."""
        counted = self.rd_total_time_ns + self.wr_total_time_ns + self.flush_total_time_ns
        return counted + self.unmap_total_time_ns + self._uncounted_ns

    def idle_ns(self, now_ns: int) -> int | None:
        """For how long nothing has ended; None where nothing ever has."""
        return None if self.last_access_ns is None else now_ns - self.last_access_ns

    # --- what has happened

    def is_counted(self, op: Op) -> bool:
        """Whether requests of this kind appear here."""
        return op in _KIND and (self.counts_unmaps or _KIND[op] is not _UNMAP)

    def account(self, request: Request, latency: int, now_ns: int, failed: int) -> None:
        """Count a request that has ended `latency` ns after it began; `failed` is its errno, or whether it has."""
        op = request.op
        if failed:
            if self.is_counted(op):
                self._add("failed", op)
                self._failed(_KIND[op], latency, now_ns)
            return
        if op is _READ:
            kind = _RD
            self.rd_operations += 1
            self.rd_bytes += request.length
            self.rd_total_time_ns += latency
        elif op is _WRITE or op is _WRITE_ZEROES:
            kind = _WR
            self.wr_operations += 1
            self.wr_bytes += request.length
            self.wr_total_time_ns += latency
            self.wr_highest_offset = max(self.wr_highest_offset, request.offset + request.length)
        elif op is Op.FLUSH:
            kind = _FLUSH
            self.flush_operations += 1
            self.flush_total_time_ns += latency
        elif not self.is_counted(op):
            return
        else:
            kind = _UNMAP
            self.unmap_operations += 1
            self.unmap_bytes += request.length
            self.unmap_total_time_ns += latency
        self.last_access_ns = now_ns
        if self._watched:
            self._watch(kind, latency, now_ns, 1)

    def account_reads(self, count: int, nbytes: int, latency_ns: int, now_ns: int) -> None:
        """Count reads that have ended well together, of together `nbytes` bytes; each took `latency_ns`."""
        self.rd_operations += count
        self.rd_bytes += nbytes
        self.rd_total_time_ns += latency_ns * count
        self.last_access_ns = now_ns
        if self._watched:
            self._watch(_RD, latency_ns, now_ns, count)

    def account_write(self, offset: int, length: int, latency_ns: int, now_ns: int) -> None:
        """Count a write that has ended well."""
        self.wr_operations += 1
        self.wr_bytes += length
        self.wr_total_time_ns += latency_ns
        if offset + length > self.wr_highest_offset:
            self.wr_highest_offset = offset + length
        self.last_access_ns = now_ns
        if self._watched:
            self._watch(_WR, latency_ns, now_ns, 1)

    def account_invalid(self, op: Op, now_ns: int) -> None:
        """Count a request that its device refused."""
        kind = _KIND.get(op)
        if kind is _UNMAP and not self.counts_unmaps:
            return
        if kind is not None:
            self._add("invalid", op)
        if self.account_invalid_requests:
            self.last_access_ns = now_ns

    def account_merged(self, op: Op, count: int) -> None:
        """Count `count` requests that rode along in another."""
        name = f"{_KIND[op].prefix}_merged"
        setattr(self, name, getattr(self, name) + count)

    def _failed(self, kind: Kind, latency: int, now_ns: int) -> None:
        if self.account_failed:
            name = f"{kind.prefix}_total_time_ns"
            setattr(self, name, getattr(self, name) + latency)
            self.last_access_ns = now_ns
            self._watch(kind, latency, now_ns, 1)
            return
        self._uncounted_ns += latency
        if kind in self._histograms:
            self._histograms[kind].add(latency)

    def _watch(self, kind: Kind, latency: int, now_ns: int, count: int) -> None:
        histogram = self._histograms.get(kind)
        if histogram is not None:
            histogram.add(latency, count)
        if kind is not _UNMAP:
            for interval in self.intervals:
                interval.windows[kind].add(latency, now_ns, count)

    def _add(self, what: str, op: Op) -> None:
        name = f"{what}_{_KIND[op].prefix}_operations"
        setattr(self, name, getattr(self, name) + 1)
