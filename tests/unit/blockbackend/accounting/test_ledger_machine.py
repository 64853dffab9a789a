"""Every figure against a ledger that is kept beside it, whatever happens to requests, backend and graph.

The ledger knows requests by when they were submitted and when, and how, they ended; what is an integral over time
(queue depth, throttled time) it sums from moment to moment, between any two of which nothing happens.  All
numbers are exact.
"""

from __future__ import annotations

import errno
import itertools
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from devmodels.blockbackend import BlockBackend, Graph, Op, Request
from devmodels.blockbackend.accounting import Kind
from devmodels.blockbackend.accounting.node import NodeStats
from devmodels.blockbackend.drain import drained
from devmodels.blockbackend.drivers.null import NullNode, NullOptions
from devmodels.blockbackend.errorpolicy import ErrorPolicy
from devmodels.blockbackend.request import Read
from devmodels.blockbackend.throttling import ThrottleLimits
from devmodels.iocontext import Event, IoContext
from devmodels.runstate import RunState

SECTOR, SECTORS = 512, 64
MS = 10**6
SECOND = 10**9
PREFIX = {
    Op.READ: "rd",
    Op.WRITE: "wr",
    Op.WRITE_ZEROES: "wr",
    Op.DISCARD: "unmap",
    Op.SECURE_ERASE: "unmap",
    Op.FLUSH: "flush",
}

places = st.tuples(st.integers(0, SECTORS - 1), st.integers(1, 4))
latencies = st.sampled_from([0, 0, MS, 7 * MS, 300 * MS])
wishes = st.tuples(st.sampled_from(sorted(PREFIX)), places, latencies, st.integers(0, 5))
durations = st.sampled_from([1, MS, 3 * MS, 50 * MS, 400 * MS, 1300 * MS])
limits = st.sampled_from(
    [
        ThrottleLimits(),
        ThrottleLimits(iops_total=5),
        ThrottleLimits(bps_read=4 * SECTOR, bps_write=3 * SECTOR),
        ThrottleLimits(iops_total=2, iops_total_max=10, iops_total_max_length=2),
    ]
)


class TimedNode(NullNode):
    """Takes as long as a request's label says, fails where it says so, and keeps a ledger of its own."""

    def __init__(self, context: IoContext) -> None:
        options = NullOptions(
            driver="null-co", node_name="d", size=SECTORS * SECTOR, discard="unmap", accounting=True
        )
        super().__init__(options, context)
        self.running = 0
        self.ledger: Counter[str] = Counter()
        self.merged: Counter[str] = Counter()
        self.at_once = True
        """Whether `read_now` has the data."""
        self.before: Callable[[], None] = lambda: None
        """Called before anything is done."""

    async def _take(self, request: Request) -> None:
        self.before()
        latency, _, failure = request.label.partition(" ")
        name, started = PREFIX[request.op], self.context.now_ns()
        roots = list(request.roots())
        assert len(roots) == 1 or request.length == sum(root.length for root in roots)
        self.running += 1
        outcome = f"failed_{name}_operations"
        try:
            if int(latency):
                await self.context.sleep(int(latency))
            if failure or any("fails" in root.label for root in roots):
                raise OSError(errno.ENOSPC, "as told")
            outcome = f"{name}_operations"
            self.merged[f"{name}_merged"] += len(roots) - 1
            if name != "flush":
                self.ledger[f"{name}_bytes"] += request.length
            if name == "wr":
                end = request.offset + request.length
                self.ledger["wr_highest_offset"] = max(self.ledger["wr_highest_offset"], end)
        finally:
            self.running -= 1
            self.ledger[outcome] += 1
            self.ledger[f"{name}_total_time_ns"] += self.context.now_ns() - started

    read = write = flush = discard = write_zeroes = secure_erase = _take

    def read_now(self, reads: Sequence[Read]) -> int:
        self.before()
        if not self.at_once:
            return 0
        self.ledger["rd_operations"] += len(reads)
        self.ledger["rd_bytes"] += sum(length for _, _, length in reads)
        return len(reads)


class LedgerMachine(RuleBasedStateMachine):
    """One backend over `d`, with filters that come and go between them."""

    def __init__(self) -> None:
        super().__init__()
        self.context = IoContext.stepped()
        self.graph = Graph(self.context)
        self.node = TimedNode(self.context)
        self.node.names = self.graph.nodes
        self.graph.nodes["d"] = self.node
        self.run_state = RunState()
        self.backend = BlockBackend(self.node, name="vd0", run_state=self.run_state)
        self.stats = self.backend.stats
        self.ledger: Counter[str] = Counter()
        self.running: dict[Request, int] = {}
        """Requests that are not over, and when they were submitted."""
        self.ended: list[tuple[str, int, int]] = []
        """(kind, latency, moment) of what counts in intervals."""
        self.bins: dict[Kind, tuple[list[int], list[int]]] = {}
        """Boundaries and latencies since a histogram was set."""
        self.last_access: int | None = None
        self.depth = self.node_depth = self.throttled = 0
        """Integrals over time."""
        self.filters: dict[str, Counter[str]] = {}
        """Filters that are there, and what `d` had done when each came."""
        self.sections: list[Event] = []
        self.changing = 0
        self.numbers = itertools.count()
        self.stats.add_interval(1, 0)
        self.node.before = self.look_for_new_filters

    # --- requests

    def request(self, op: Op, place: tuple[int, int], latency: int, fails: bool) -> Request:
        sector, count = (0, 0) if op is Op.FLUSH else place
        length = count * SECTOR
        vectors = [memoryview(bytearray(length))] if op in (Op.READ, Op.WRITE) else []
        label = f"{latency} fails" if fails else str(latency)
        return Request(op, sector * SECTOR, length, vectors, done=self.over, label=label)

    def submit(self, request: Request) -> None:
        self.running[request] = self.context.now_ns()
        self.backend.submit(request)

    def over(self, request: Request) -> None:
        now = self.context.now_ns()
        name, latency = PREFIX[request.op], now - self.running.pop(request)
        self.in_bins(name, latency)
        if request.error:
            self.ledger[f"failed_{name}_operations"] += 1
            if not self.stats.account_failed:
                return
        else:
            self.ledger[f"{name}_operations"] += 1
            if name != "flush":
                self.ledger[f"{name}_bytes"] += request.length
            if name == "wr":
                end = request.offset + request.length
                self.ledger["wr_highest_offset"] = max(self.ledger["wr_highest_offset"], end)
        self.ledger[f"{name}_total_time_ns"] += latency
        self.ended.append((name, latency, now))
        self.last_access = now

    def in_bins(self, name: str, latency: int) -> None:
        for kind, (_, values) in self.bins.items():
            if kind.prefix == name:
                values.append(latency)

    @rule(wishes=st.lists(wishes, min_size=1, max_size=8))
    def requests(self, wishes: list[tuple[Op, tuple[int, int], int, int]]) -> None:
        for op, place, latency, fate in wishes:
            self.submit(self.request(op, place, latency, fate == 0))

    @rule(
        op=st.sampled_from([Op.READ, Op.WRITE, Op.WRITE_ZEROES, Op.DISCARD]),
        first=st.integers(0, SECTORS - 1),
        counts=st.lists(st.integers(1, 3), min_size=2, max_size=5),
        latency=latencies,
        fails=st.integers(-6, 4),
    )
    def neighbours_in_a_batch(self, op: Op, first: int, counts: list[int], latency: int, fails: int) -> None:
        with self.backend.batch():
            for number, count in enumerate(counts):
                self.submit(self.request(op, (first, count), latency, number == fails))
                first += count

    @rule(at_once=st.booleans(), reads=st.lists(places, min_size=1, max_size=4), merge=st.booleans())
    def reads_without_a_request(self, at_once: bool, reads: list[tuple[int, int]], merge: bool) -> None:
        self.node.at_once = at_once
        given = [
            (sector * SECTOR, [memoryview(bytearray(count * SECTOR))], count * SECTOR)
            for sector, count in reads
        ]
        done = self.backend.read_now(given, merge=merge)
        for _, _, length in given[:done]:
            self.ledger["rd_operations"] += 1
            self.ledger["rd_bytes"] += length
            self.in_bins("rd", 0)
            self.ended.append(("rd", 0, self.context.now_ns()))
            self.last_access = self.context.now_ns()

    @rule(op=st.sampled_from(sorted(PREFIX)))
    def the_device_refuses_one(self, op: Op) -> None:
        self.backend.account_invalid(op)
        self.ledger[f"invalid_{PREFIX[op]}_operations"] += 1
        if self.stats.account_invalid_requests:
            self.last_access = self.context.now_ns()

    # --- what happens to them

    @rule(duration=durations, held=st.integers(0, 3))
    def time_goes_by(self, duration: int, held: int) -> None:
        """Mostly on a machine that runs."""
        if held:
            while self.sections:
                self.a_drained_section_ends()
            self.run_state.cont()
        self.time_goes_on(duration)

    def time_goes_on(self, duration: int) -> None:
        end = self.context.now_ns() + duration
        self.context.run_until_idle()
        while self.context.now_ns() < end:
            when = self.context.deadline()
            self.go_to(end if when is None else min(when, end))

    def go_to(self, when: int) -> None:
        """Nothing happens from now until `when`."""
        passed = when - self.context.now_ns()
        self.depth += passed * len(self.running)
        self.node_depth += passed * self.node.running
        if (member := self.backend.throttled_by) is not None:
            self.throttled += passed * member.waiting
        self.context.step(passed)

    @rule()
    def stop(self) -> None:
        self.run_state.stop()

    @rule()
    def cont(self) -> None:
        self.run_state.cont()

    @rule(op=st.sampled_from([None, Op.READ, Op.WRITE]))
    def reset(self, op: Op | None) -> None:
        self.backend.cancel_held(None if op is None else lambda request: request.op is op)

    @rule(policy=st.sampled_from(["report", "ignore", "stop", "enospc"]))
    def policy(self, policy: Any) -> None:
        self.backend.error_policy = ErrorPolicy("report" if policy == "enospc" else policy, policy)

    @rule(write_cache=st.booleans())
    def write_cache(self, write_cache: bool) -> None:
        self.backend.write_cache = write_cache

    @initialize(limits=limits)
    def limits_from_the_beginning(self, limits: ThrottleLimits) -> None:
        self.graph.set_io_throttle(self.backend, limits)

    @rule(limits=limits, group=st.sampled_from([None, "g", "h"]))
    def limits(self, limits: ThrottleLimits, group: str | None) -> None:
        self.graph.set_io_throttle(self.backend, limits, group)
        self.context.run_until_idle()

    @rule(failed=st.booleans(), invalid=st.booleans())
    def what_counts(self, failed: bool, invalid: bool) -> None:
        self.stats.account_failed = failed
        self.stats.account_invalid_requests = invalid

    @rule(
        kind=st.sampled_from(list(Kind)),
        boundaries=st.none() | st.sets(st.integers(1, 400), min_size=1, max_size=4),
    )
    def histogram(self, kind: Kind, boundaries: set[int] | None) -> None:
        chosen = None if boundaries is None else sorted(each * MS for each in boundaries)
        self.stats.set_histogram(kind, chosen)
        self.bins.pop(kind, None)
        if chosen is not None:
            self.bins[kind] = chosen, []

    # --- the graph

    def change(self, coro: Coroutine[Any, None, object], done: Callable[[], None]) -> None:
        """Begin a change; it is over when what runs is."""
        self.changing += 1

        def over(_result: object, error: BaseException | None) -> None:
            assert error is None
            self.changing -= 1
            done()

        self.context.start(coro, over)
        self.context.run_until_idle()

    @precondition(lambda self: not self.changing and not self.sections and len(self.filters) < 3)
    @rule(latency=st.sampled_from([None, 0, 5 * MS]))
    def insert_a_filter(self, latency: int | None) -> None:
        name = f"f{next(self.numbers)}"
        options: dict[str, object] = {"driver": "raw", "node-name": name, "accounting": True}
        if latency is not None:
            options |= {"driver": "delay", "latency-ns": latency}

        self.change(self.graph.insert(options, above="d"), self.look_for_new_filters)

    def look_for_new_filters(self) -> None:
        """Before the first request goes through a filter, nothing had."""
        for name in self.graph.nodes:
            if name != "d" and name not in self.filters:
                self.filters[name] = self.node.ledger.copy()

    @precondition(lambda self: not self.changing and not self.sections and self.filters)
    @rule(which=st.integers(0, 100))
    def remove_a_filter(self, which: int) -> None:
        name = sorted(self.filters)[which % len(self.filters)]
        self.change(self.graph.remove(name), lambda: self.filters.__delitem__(name))

    @precondition(lambda self: not self.changing and not self.sections)
    @rule()
    def a_drained_section_begins(self) -> None:
        ends = Event(self.context)

        async def section() -> None:
            async with drained(self.node):
                assert not self.node.running
                await ends.wait()

        self.sections.append(ends)
        self.change(section(), lambda: None)

    @precondition(lambda self: self.sections)
    @rule()
    def a_drained_section_ends(self) -> None:
        self.sections.pop().set()
        self.context.run_until_idle()

    # --- what must be

    @invariant()
    def counters(self) -> None:
        expected = self.ledger + self.node.merged
        assert {name: value for name, value in self.stats.as_dict().items() if value} == {
            name: value for name, value in expected.items() if value
        }

    @invariant()
    def what_is_in_flight_and_how_deep_the_queue_was(self) -> None:
        assert list(self.backend.in_flight) == list(self.running)
        assert len(self.backend.list_in_flight()) == len(self.running)
        assert self.backend.busy_ns() == self.depth

    @invariant()
    def throttled_time(self) -> None:
        assert self.backend.throttled_ns == self.throttled

    @invariant()
    def idle_time(self) -> None:
        now = self.context.now_ns()
        assert self.stats.idle_ns(now) == (None if self.last_access is None else now - self.last_access)

    @invariant()
    def histograms(self) -> None:
        assert set(self.stats.histograms) == set(self.bins)
        for kind, histogram in self.stats.histograms.items():
            boundaries, values = self.bins[kind]
            edges = itertools.pairwise([0, *boundaries, 1 << 62])
            assert histogram.bins == [sum(low <= each < high for each in values) for low, high in edges]
            assert histogram.total == sum(values)

    @invariant()
    def intervals(self) -> None:
        now = self.context.now_ns()
        begin = max(0, now // (SECOND // 2) * (SECOND // 2) - SECOND // 2)
        found = self.stats.intervals[0].as_dict(now)
        for name in ("rd", "wr", "flush"):
            values = [latency for kind, latency, at in self.ended if kind == name and at >= begin]
            assert found[f"min_{name}_latency_ns"] == min(values, default=0)
            assert found[f"max_{name}_latency_ns"] == max(values, default=0)
            assert found[f"avg_{name}_latency_ns"] == (sum(values) // len(values) if values else 0)
            if name != "flush":
                depth = sum(values) / (now - begin) if now > begin else 0
                assert found[f"avg_{name}_queue_depth"] == depth

    @invariant()
    def the_node(self) -> None:
        stats = self.node.stats
        assert isinstance(stats, NodeStats)
        assert {name: value for name, value in stats.as_dict().items() if value} == {
            name: value for name, value in self.node.ledger.items() if value
        }
        assert stats.in_flight == self.node.running
        assert stats.busy_ns(self.context.now_ns()) == self.node_depth

    @invariant()
    def filters_have_passed_on_what_the_node_got(self) -> None:
        for name, before in self.filters.items():
            stats = self.graph[name].stats
            assert stats is not None
            since = self.node.ledger.copy()
            since.subtract(before)
            for counter in ("rd_bytes", "wr_operations", "flush_operations", "failed_unmap_operations"):
                assert getattr(stats, counter) <= since[counter]
            if not self.running:
                assert stats.in_flight == 0
                assert all(
                    value == since[counter]
                    for counter, value in stats.as_dict().items()
                    if not counter.endswith(("_ns", "_offset"))
                )

    def teardown(self) -> None:
        """Everything runs out, and the sums are right."""
        self.backend.error_policy = ErrorPolicy()
        for section in self.sections:
            section.set()
        self.graph.set_io_throttle(self.backend, ThrottleLimits())
        self.run_state.cont()
        self.time_goes_on(60 * SECOND)
        for check in (
            self.counters,
            self.what_is_in_flight_and_how_deep_the_queue_was,
            self.throttled_time,
            self.histograms,
            self.the_node,
            self.filters_have_passed_on_what_the_node_got,
        ):
            check()
        assert not self.running
        self.backend.close()
        self.graph.close()
        self.context.close()


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(
    max_examples=settings().max_examples // 2, stateful_step_count=30, deadline=None
)


@pytest.mark.slow
class TestLedgerMachineForLong(LedgerMachine.TestCase):  # type: ignore[misc, valid-type]
    """The same, longer."""

    settings = settings(max_examples=500, stateful_step_count=60, deadline=None)
