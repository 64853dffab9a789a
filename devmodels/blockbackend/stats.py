"""Counters of one backend, under the names of QEMU's `query-blockstats`."""

from __future__ import annotations

from devmodels.blockbackend.request import Op, Request

_KIND = {
    Op.READ: "rd",
    Op.WRITE: "wr",
    Op.FLUSH: "flush",
    Op.DISCARD: "unmap",
    Op.WRITE_ZEROES: "wr",
    Op.SECURE_ERASE: "unmap",
}


_READ, _WRITE, _WRITE_ZEROES = Op.READ, Op.WRITE, Op.WRITE_ZEROES
"""Names of the module: half the price of an enumeration's members, which counts here."""


class BlockStats:
    """What a backend has done.

    Writing zeroes counts as writing, secure erase as unmapping.  Bytes, operations and times are those of requests
    that succeeded; `merged` counts requests that rode along in another one; `failed` those that ended with an error;
    `invalid` those that a device refused before submitting them.  Times are sums in ns on the context's clock.
    """

    __slots__ = (
        "failed_flush_operations",
        "failed_rd_operations",
        "failed_unmap_operations",
        "failed_wr_operations",
        "flush_operations",
        "flush_total_time_ns",
        "invalid_flush_operations",
        "invalid_rd_operations",
        "invalid_unmap_operations",
        "invalid_wr_operations",
        "rd_bytes",
        "rd_merged",
        "rd_operations",
        "rd_total_time_ns",
        "unmap_bytes",
        "unmap_merged",
        "unmap_operations",
        "unmap_total_time_ns",
        "wr_bytes",
        "wr_highest_offset",
        "wr_merged",
        "wr_operations",
        "wr_total_time_ns",
    )

    def __init__(self) -> None:
        self.rd_bytes = self.wr_bytes = self.unmap_bytes = 0
        self.rd_operations = self.wr_operations = self.flush_operations = self.unmap_operations = 0
        self.rd_total_time_ns = self.wr_total_time_ns = 0
        self.flush_total_time_ns = self.unmap_total_time_ns = 0
        self.rd_merged = self.wr_merged = self.unmap_merged = 0
        self.failed_rd_operations = self.failed_wr_operations = 0
        self.failed_flush_operations = self.failed_unmap_operations = 0
        self.invalid_rd_operations = self.invalid_wr_operations = 0
        self.invalid_flush_operations = self.invalid_unmap_operations = 0
        self.wr_highest_offset = 0

    def as_dict(self) -> dict[str, int]:
        """Every counter by its name."""
        return {name: getattr(self, name) for name in self.__slots__}

    def account(self, request: Request, now_ns: int) -> None:
        """Count a request that has ended."""
        op = request.op
        if request.error:
            self._add("failed", op)
        elif op is _READ:
            self.rd_operations += 1
            self.rd_bytes += request.length
            self.rd_total_time_ns += now_ns - request.started_ns
        elif op is _WRITE or op is _WRITE_ZEROES:
            self.wr_operations += 1
            self.wr_bytes += request.length
            self.wr_total_time_ns += now_ns - request.started_ns
            self.wr_highest_offset = max(self.wr_highest_offset, request.offset + request.length)
        elif op is Op.FLUSH:
            self.flush_operations += 1
            self.flush_total_time_ns += now_ns - request.started_ns
        else:
            self.unmap_operations += 1
            self.unmap_bytes += request.length
            self.unmap_total_time_ns += now_ns - request.started_ns

    def account_reads(self, count: int, nbytes: int, time_ns: int) -> None:
        """Count reads that have ended well, of together `nbytes` bytes and `time_ns` ns."""
        self.rd_operations += count
        self.rd_bytes += nbytes
        self.rd_total_time_ns += time_ns

    def account_invalid(self, op: Op) -> None:
        """Count a request that its device refused."""
        self._add("invalid", op)

    def account_merged(self, op: Op, count: int) -> None:
        """Count `count` requests that rode along in another."""
        name = f"{_KIND[op]}_merged"
        setattr(self, name, getattr(self, name) + count)

    def _add(self, what: str, op: Op) -> None:
        name = f"{what}_{_KIND[op]}_operations"
        setattr(self, name, getattr(self, name) + 1)
