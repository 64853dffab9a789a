"""A machine whose disk fails at random: whatever the policy, and whoever stops, continues or resets it and when.

Each request ends exactly once, or a reset drops it; its end is one that the policy allows; the disk holds what the
guest was told.  Requests in flight do not overlap (`test_error_order.py` has those that do).
"""

from __future__ import annotations

import errno
from collections import deque
from typing import get_args

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from devmodels.blockbackend import Op, Request
from devmodels.blockbackend.errorpolicy import ErrorPolicy, OnReadError, OnWriteError
from devmodels.iocontext import Future, IoContext
from devmodels.runstate import RunState
from tests.unit.blockbackend.support import Disk, WatchedNode, payload

SECTOR = 512
SECTORS = 12
ERRORS = (errno.EIO, errno.ENOSPC, errno.ENOMEDIUM)
OPS = (Op.READ, Op.WRITE, Op.WRITE_ZEROES, Op.FLUSH, Op.DISCARD, Op.SECURE_ERASE)


class RandomNode(WatchedNode):
    """A memory disk that does with each request what `outcomes` says next: 0 or an errno; 0 where it says nothing."""

    def __init__(self, context: IoContext, size: int = SECTOR * SECTORS) -> None:
        super().__init__(context, size)
        self.outcomes: deque[int] = deque()

    async def _watched(self, request: Request) -> None:
        self.seen.append(request)
        error = self.outcomes.popleft() if self.outcomes else 0
        if self.held:
            future: Future[None] = Future(self.context)
            self.waiting[request] = future
            await future
        if error:
            raise OSError(error, "at random")


class ErrorMachine(RuleBasedStateMachine):
    """One backend, its machine, and its guest.

    `content`: for each sector the bytes that may be there, one unless the guest cannot know.
    """

    examples = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).examples += 1
        self.run_state = RunState()
        self.told: list[str] = []
        self.run_state.events.add_listener(lambda name, data: self.told.append(name))
        self.node = RandomNode(IoContext.virtual())
        self.disk = Disk(self.node, run_state=self.run_state)
        self.backend = self.disk.backend
        self.running: dict[Request, int] = {}
        """What the guest waits for, with what it writes."""
        self.resetting: list[Request] = []
        self.content: list[set[int]] = [{0} for _ in range(SECTORS)]
        self.fill = 0
        self.batches = 0

    # --- the guest

    @rule(op=st.sampled_from(OPS), first=st.integers(0, SECTORS - 1), count=st.integers(1, 3))
    def submit(self, op: Op, first: int, count: int) -> None:
        count = 0 if op is Op.FLUSH else min(count, SECTORS - first)
        start, end = (first * SECTOR, (first + count) * SECTOR) if count else (0, 0)
        if any(start < other.offset + other.length and other.offset < end for other in self.running):
            return
        self.fill = self.fill % 250 + 1
        fill = self.fill if op is Op.WRITE else 0
        data = bytes([fill]) * (end - start) if op is Op.WRITE else None
        ended: list[Request] = []

        def done(request: Request) -> None:
            ended.append(request)
            if request in self.running:
                self.over(request, self.running.pop(request))

        request = self.disk.submit(op, start, end - start, data, done=done)
        if ended:
            self.over(request, fill)
        else:
            self.running[request] = fill

    def over(self, request: Request, fill: int) -> None:
        """`request` has ended."""
        error, op = request.error, request.op
        sectors = range(request.offset // SECTOR, (request.offset + request.length) // SECTOR)
        policy = self.backend.error_policy
        if error == errno.ECANCELED:
            assert request in self.resetting, "only a reset drops what waits"
        elif error:
            assert policy.action(op, error) == "report", "the policy lets its device hear of it"
        if op is Op.READ:
            for number, sector in enumerate(sectors):
                found = set(payload(request)[number * SECTOR : (number + 1) * SECTOR])
                # What an ignored error left unread is zeroes.
                assert error or (
                    found <= self.content[sector] | ({0} if policy.rerror == "ignore" else set())
                )
            return
        for sector in sectors:
            if op is Op.DISCARD or error or policy.werror == "ignore":
                self.content[sector].add(fill)
            else:
                self.content[sector] = {fill}

    @rule(on=st.booleans())
    def write_cache(self, on: bool) -> None:
        self.backend.write_cache = on

    @precondition(lambda self: self.batches < 2)
    @rule()
    def begin_batch(self) -> None:
        self.batches += 1
        self.backend.batch().__enter__()

    @precondition(lambda self: self.batches)
    @rule()
    def end_batch(self) -> None:
        self.batches -= 1
        self.backend.batch().__exit__(None, None, None)

    @rule(every=st.integers(1, 3))
    def reset(self, every: int) -> None:
        """Of the device, or of one queue among several."""
        self.resetting = [request for request in self.running if request.offset // SECTOR % every == 0]
        self.backend.cancel_held(lambda request: request in self.resetting)
        self.resetting = []

    # --- the host

    @rule(outcomes=st.lists(st.sampled_from((0, *ERRORS)), min_size=1, max_size=4))
    def fail(self, outcomes: list[int]) -> None:
        self.node.outcomes.extend(outcomes)

    @rule(rerror=st.sampled_from(get_args(OnReadError)), werror=st.sampled_from(get_args(OnWriteError)))
    def change_policy(self, rerror: OnReadError, werror: OnWriteError) -> None:
        """A guest's requests in flight end by the policy of the moment."""
        if not self.running:
            self.backend.error_policy = ErrorPolicy(rerror, werror)

    @rule()
    def stop(self) -> None:
        self.run_state.stop("paused")

    @rule()
    def cont(self) -> None:
        self.run_state.cont()

    @rule(on=st.booleans())
    def hold(self, on: bool) -> None:
        self.node.held = on

    @precondition(lambda self: self.node.waiting)
    @rule(number=st.integers(0, 20))
    def release(self, number: int) -> None:
        waiting = list(self.node.waiting)
        self.node.release(waiting[number % len(waiting)])
        self.disk.context.run_until_idle()

    # --- what holds always

    @invariant()
    def in_flight_is_what_the_guest_waits_for(self) -> None:
        assert list(self.backend.in_flight) == list(self.running)
        assert set(self.disk.ends.values()) <= {0, 1}

    @invariant()
    def only_a_stop_or_the_node_holds_a_request(self) -> None:
        if self.run_state.running and not self.batches and not self.node.waiting:
            assert not self.running

    @invariant()
    def events_and_state_agree(self) -> None:
        told = [name for name in self.told if name != "BLOCK_IO_ERROR"]
        assert told == [("STOP", "RESUME")[number % 2] for number in range(len(told))]
        assert self.run_state.running is (len(told) % 2 == 0)
        if self.run_state.status == "io-error":
            last = len(self.told) - 1 - self.told[::-1].index("STOP")
            assert self.told[last - 1] == "BLOCK_IO_ERROR"
        if self.run_state.running:
            assert self.backend.io_status in (None, "ok")

    def teardown(self) -> None:
        """The disk becomes well, and everything ends."""
        self.node.outcomes.clear()
        self.node.held = False
        while self.batches:
            self.end_batch()
        while self.running:
            self.node.release()
            self.disk.context.run_until_idle()
            self.run_state.cont()
        self.run_state.cont()
        assert set(self.disk.ends.values()) <= {1}
        stats = self.backend.stats.as_dict()
        operations = sum(count for name, count in stats.items() if name.endswith("_operations"))
        assert operations == len(self.disk.ends), "each counts once"
        for sector in range(SECTORS):
            assert set(self.disk.read(sector * SECTOR, SECTOR)) <= self.content[sector]
        self.disk.close()
