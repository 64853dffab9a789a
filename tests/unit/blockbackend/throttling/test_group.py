"""Groups on the virtual clock: turns, changes while requests wait, and what comes through against the formula."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.blockbackend.throttling import Member, ThrottleGroup, ThrottleLimits
from devmodels.blockbackend.throttling.limits import check
from devmodels.iocontext import IoContext

SECOND = 10**9
BLOCK = 4096
SERVICE = 100_000
"""How long a request takes once it may go."""


@pytest.fixture
def context() -> Iterator[IoContext]:
    context = IoContext.virtual()
    yield context
    context.close()


@dataclass
class Load:
    """`depth` requests of `length` bytes always wait for a member; what came through until `end`."""

    context: IoContext
    member: Member
    end: int
    length: int = BLOCK
    depth: int = 4
    writes: Sequence[bool] = (False,)
    operations: int = 0
    done: list[int] = field(default_factory=list)

    def start(self) -> None:
        for number in range(self.depth):
            self.context.start(self._go_on(self.writes[number % len(self.writes)]))

    async def _go_on(self, write: bool) -> None:
        while True:
            if not self.member.try_admit(self.length, write=write):
                await self.member.admit(self.length, write=write)
            if self.context.now_ns() > self.end:
                return
            self.operations += 1
            self.done.append(self.context.now_ns())
            await self.context.sleep(SERVICE)


def run(limits: ThrottleLimits, seconds: int, members: int = 1, **load: object) -> list[Load]:
    context = IoContext.virtual()
    group = ThrottleGroup("g", limits)
    end = seconds * SECOND
    loads = [Load(context, group.join(context), end, **load) for _ in range(members)]  # type: ignore[arg-type]
    for each in loads:
        each.start()
    context.run_until_idle()
    assert group.members == [each.member for each in loads]
    assert not any(each.member.waiting for each in loads)
    context.close()
    return loads


def formula(limits: ThrottleLimits, of: str, seconds: int, length: int) -> float:
    """Operations of `length` bytes that come through, all in the direction `of`."""
    most = []
    for rate in limits.rates():
        if not rate.average or rate.of not in ("total", of):
            continue
        in_bytes = rate.unit == "bps"
        cost = length if in_bytes else max(1, length / limits.iops_size) if limits.iops_size else 1
        size = rate.burst * rate.length or rate.average / 10
        amount = size + rate.average * seconds
        if rate.length > 1:
            amount = min(amount, rate.burst / 10 + rate.burst * seconds)
        most.append(amount / cost)
    return min(most)


TABLE: list[tuple[dict[str, int], int, str, int]] = [
    ({"iops-total": 100}, 1, "read", 4096),
    ({"iops-total": 100}, 1, "write", 4096),
    ({"iops-total": 160}, 8, "read", 512),
    ({"iops-read": 75}, 2, "read", 65536),
    ({"iops-write": 75}, 3, "write", 512),
    ({"iops-read": 40, "iops-write": 200}, 4, "read", 512),
    ({"iops-read": 40, "iops-write": 200}, 4, "write", 512),
    ({"bps-total": 400_000}, 1, "read", 4096),
    ({"bps-total": 1_000_000}, 5, "write", 8192),
    ({"bps-read": 500_000}, 2, "read", 3000),
    ({"bps-write": 800_000}, 2, "write", 4096),
    ({"bps-read": 300_000, "bps-write": 700_000}, 4, "write", 4096),
    ({"iops-total": 60, "iops-total-max": 300}, 1, "read", 4096),
    ({"iops-total": 60, "iops-total-max": 120, "iops-total-max-length": 10}, 1, "read", 4096),
    ({"iops-total": 50, "iops-total-max": 80, "iops-total-max-length": 120}, 4, "read", 4096),
    ({"iops-read": 50, "iops-read-max": 500, "iops-read-max-length": 3}, 6, "read", 4096),
    ({"iops-write": 30, "iops-write-max": 90, "iops-write-max-length": 20}, 8, "write", 4096),
    ({"bps-total": 400_000, "bps-total-max": 2_000_000}, 2, "write", 4096),
    ({"bps-total": 300_000, "bps-total-max": 900_000, "bps-total-max-length": 15}, 3, "read", 4096),
    ({"bps-write": 300_000, "bps-write-max": 600_000, "bps-write-max-length": 100}, 1, "write", 4096),
    ({"iops-total": 100, "iops-size": 4096}, 2, "read", 4096),
    ({"iops-total": 300, "iops-size": 4096}, 2, "read", 10_000),
    ({"iops-total": 100, "iops-size": 8192}, 2, "write", 512),
    (
        {"iops-write": 200, "iops-write-max": 400, "iops-write-max-length": 5, "iops-size": 1000},
        4,
        "write",
        2500,
    ),
    ({"iops-total": 100, "bps-total": 200_000}, 2, "read", 4096),
    ({"iops-total": 40, "bps-total": 900_000}, 2, "read", 4096),
    (
        {"iops-read": 90, "iops-read-max": 180, "iops-read-max-length": 10, "bps-total": 360_000},
        5,
        "read",
        4096,
    ),
]
SECONDS = 60
EACH_TIME = slice(None, None, 5)
"""Of the table; all of it takes its time."""


@pytest.mark.long
@pytest.mark.parametrize(
    ("given_limits", "members", "of", "length"),
    [row if row in TABLE[EACH_TIME] else pytest.param(*row, marks=pytest.mark.slow) for row in TABLE],
    ids=str,
)
def test_what_comes_through_is_what_the_formula_says(
    given_limits: dict[str, int], members: int, of: str, length: int
) -> None:
    limits = check(given_limits)
    loads = run(limits, SECONDS, members, length=length, writes=(of == "write",))
    total = sum(load.operations for load in loads)
    expected = formula(limits, of, SECONDS, length)
    assert total == pytest.approx(expected, rel=0.005)
    assert min(load.operations for load in loads) >= 0.95 * total / members


def test_an_unlimited_direction_is_not_held_up(context: IoContext) -> None:
    member = ThrottleGroup("g", check({"iops-read": 1})).join(context)
    assert all(member.try_admit(BLOCK, write=True) for _ in range(1000))


def test_members_take_turns(context: IoContext) -> None:
    group = ThrottleGroup("g", check({"iops-total": 10}))
    members = [group.join(context) for _ in range(3)]
    order: list[int] = []

    async def one(number: int) -> None:
        await members[number].admit(BLOCK, write=False)
        order.append(number)

    for number in (0, 0, 0, 0, 1, 1, 2):
        context.start(one(number))
    context.run_until_idle()
    assert order == [0, 0, 1, 2, 0, 1, 0]
    assert context.now_ns() == 5 * SECOND // 10


def test_new_limits_count_from_now_on_for_those_who_wait(context: IoContext) -> None:
    group = ThrottleGroup("g", check({"iops-total": 1}))
    load = Load(context, group.join(context), end=20 * SECOND)
    load.start()
    context.call_at(10 * SECOND, lambda: group.configure(check({"iops-total": 100})))
    context.run_until_idle()
    assert sum(at < 10 * SECOND for at in load.done) == 11
    assert sum(at >= 10 * SECOND for at in load.done) == pytest.approx(1010, abs=1)


def test_without_limits_those_who_wait_go_at_once(context: IoContext) -> None:
    group = ThrottleGroup("g", check({"bps-total": 1}))
    member = group.join(context)
    ended: list[int] = []

    async def one() -> None:
        await member.admit(10**9, write=True)
        ended.append(context.now_ns())

    for _ in range(3):
        context.start(one())
    group.configure(ThrottleLimits())
    context.turn()
    assert ended == [0, 0, 0]


def test_who_leaves_takes_his_requests_with_him_and_the_others_go_on(context: IoContext) -> None:
    group = ThrottleGroup("g", check({"iops-total": 10}))
    first, second = group.join(context), group.join(context)
    ended: list[tuple[str, int]] = []

    async def one(member: Member, name: str) -> None:
        await member.admit(BLOCK, write=False)
        ended.append((name, context.now_ns()))

    for member, name in ((first, "a"), (first, "b"), (first, "c"), (second, "d")):
        context.start(one(member, name))
    first.leave()
    context.run_until_idle()
    assert ended == [("a", 0), ("b", 0), ("c", 0), ("d", SECOND // 10)]
    assert group.members == [second]
    assert first.try_admit(BLOCK, write=False)


def test_limits_do_not_hold_while_they_are_paused(context: IoContext) -> None:
    member = ThrottleGroup("g", check({"iops-total": 10})).join(context)
    ended: list[int] = []

    async def one() -> None:
        await member.admit(BLOCK, write=False)
        ended.append(context.now_ns())

    for _ in range(4):
        context.start(one())
    member.pause_limits()
    context.turn()
    assert ended == [0] * 4
    assert member.try_admit(BLOCK, write=False)
    member.resume_limits()
    assert not member.try_admit(BLOCK, write=False)


def test_who_gives_up_waits_no_longer(context: IoContext) -> None:
    member = ThrottleGroup("g", check({"iops-total": 10})).join(context)
    for _ in range(2):
        context.start(member.admit(BLOCK, write=False))
    task = context.start(member.admit(BLOCK, write=False), lambda _result, _error: None)
    assert task is not None
    assert member.waiting == 1
    task.cancel()
    context.turn()
    assert member.waiting == 0


def test_the_time_that_requests_wait_is_counted(context: IoContext) -> None:
    member = ThrottleGroup("g", check({"iops-total": 10})).join(context)
    for _ in range(4):
        context.start(member.admit(BLOCK, write=False))
    context.run_until_idle()
    assert member.throttled_ns(context.now_ns()) == SECOND // 10 + 2 * SECOND // 10


@given(
    st.integers(1, 50),
    st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.integers(0, SECOND)), min_size=1, max_size=40),
)
def test_nobody_is_forgotten(rate: int, wishes: list[tuple[int, bool, int]]) -> None:
    context = IoContext.virtual()
    group = ThrottleGroup("g", check({"iops-total": rate}))
    members = [group.join(context) for _ in range(3)]
    ended: list[int] = []

    async def one(number: int, who: int, write: bool, pause: int) -> None:
        await context.sleep(pause)
        await members[who].admit(BLOCK, write=write)
        ended.append(number)

    for number, (who, write, pause) in enumerate(wishes):
        context.start(one(number, who, write, pause))
    context.run_until_idle()
    assert sorted(ended) == list(range(len(wishes)))
    context.close()
