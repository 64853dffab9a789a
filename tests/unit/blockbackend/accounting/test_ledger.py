"""A backend's statistics against a ledger that is kept beside it."""

from __future__ import annotations

import errno
import itertools
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from devmodels.assembly import assemble
from devmodels.blockbackend import Op, Request
from devmodels.blockbackend.accounting import Kind
from devmodels.iocontext import IoContext
from tests.unit.blockbackend.support import SIZE, Disk, WatchedNode

NAMES = {
    Op.READ: "rd",
    Op.WRITE: "wr",
    Op.WRITE_ZEROES: "wr",
    Op.DISCARD: "unmap",
    Op.SECURE_ERASE: "unmap",
    Op.FLUSH: "flush",
}
BOUNDARIES = [1, 5, 20, 100]


class Slow(WatchedNode):
    """Takes as long as the request's label says; fails where it says so."""

    async def _take(self, request: Request) -> None:
        latency, _, failure = request.label.partition(" ")
        if int(latency):
            await self.context.sleep(int(latency))
        if failure:
            raise OSError(errno.EIO, "as told")

    read = write = flush = discard = write_zeroes = secure_erase = _take


wishes = st.tuples(
    st.sampled_from(list(NAMES)),
    st.integers(0, SIZE // 512 - 8),
    st.integers(1, 8),
    st.integers(0, 150),
    st.booleans(),
    st.integers(0, 60),
    st.booleans(),
)


@given(st.lists(wishes, max_size=30), st.booleans())
def test_sums_are_those_of_the_requests(
    given_wishes: list[tuple[Op, int, int, int, bool, int, bool]], account_failed: bool
) -> None:
    context = IoContext.virtual()
    disk = Disk(Slow(context))
    stats = disk.backend.stats
    stats.account_failed = account_failed
    for kind in Kind:
        stats.set_histogram(kind, BOUNDARIES)
    ledger: Counter[str] = Counter()
    bins: dict[str, list[int]] = {name: [] for name in NAMES.values()}
    ends: list[int] = []

    def begin(op: Op, sector: int, count: int, latency: int, fails: bool) -> None:
        flush = op is Op.FLUSH
        offset, length = (0, 0) if flush else (sector * 512, count * 512)
        name = NAMES[op]
        started = context.now_ns()

        def done(request: Request) -> None:
            took = context.now_ns() - started
            bins[name].append(took)
            if request.error:
                ledger[f"failed_{name}_operations"] += 1
            else:
                ledger[f"{name}_operations"] += 1
                if not flush:
                    ledger[f"{name}_bytes"] += length
                if name == "wr":
                    ledger["wr_highest_offset"] = max(ledger["wr_highest_offset"], offset + length)
            if not request.error or account_failed:
                ledger[f"{name}_total_time_ns"] += took
                ends.append(context.now_ns())

        vectors = [memoryview(bytearray(length))] if op in (Op.READ, Op.WRITE) else []
        label = f"{latency} fails" if fails else str(latency)
        disk.backend.submit(Request(op, offset, length, vectors, done=done, label=label))

    async def all_of_them() -> None:
        for op, sector, count, latency, fails, pause, refused in given_wishes:
            if refused:
                disk.backend.account_invalid(op)
                ledger[f"invalid_{NAMES[op]}_operations"] += 1
                ends.append(context.now_ns())
            else:
                begin(op, sector, count, latency, fails)
            if pause:
                await context.sleep(pause)

    context.start(all_of_them())
    context.run_until_idle()
    assert {name: value for name, value in stats.as_dict().items() if value} == {
        name: value for name, value in ledger.items() if value
    }
    for kind, histogram in stats.histograms.items():
        edges = [0, *BOUNDARIES, 1 << 62]
        took = bins[kind.prefix]
        assert histogram.bins == [
            sum(low <= each < high for each in took) for low, high in itertools.pairwise(edges)
        ]
    now = context.now_ns()
    assert stats.idle_ns(now) == (now - max(ends) if ends else None)
    disk.close()


def test_a_device_asks_for_intervals_and_for_what_counts() -> None:
    device = {
        "driver": "virtio-blk-pci",
        "drive": "d0",
        "stats-intervals": [1, 60],
        "account-failed": False,
        "account-invalid": False,
    }
    with assemble(
        blockdevs=[{"driver": "null-co", "size": 1 << 20, "latency-ns": 1000, "node-name": "d0"}],
        devices=[device],
    ) as machine:
        backend = machine.backends["d0"]
        request = Request(Op.READ, 0, 512, [memoryview(bytearray(512))])
        backend.submit(request)
        machine.context.run_until_idle()
        intervals = [each.as_dict(machine.context.now_ns()) for each in backend.stats.intervals]
        assert [each["interval_length"] for each in intervals] == [1, 60]
        assert [each["avg_rd_latency_ns"] for each in intervals] == [1000, 1000]
        backend.account_invalid(Op.READ)
        assert (backend.stats.account_failed, backend.stats.last_access_ns) == (False, 1000)
