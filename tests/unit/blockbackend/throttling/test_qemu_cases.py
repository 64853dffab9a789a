"""The cases of QEMU's own unit test of throttling (tests/unit/test-throttle.c), by its names.

Those of `config/` are in test_limits.py under the names of their functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import pytest

from devmodels.blockbackend import BlockBackend, Graph
from devmodels.blockbackend.throttling import Bucket, Member, ThrottleGroup, ThrottleLimits
from devmodels.iocontext import IoContext

SECOND = 10**9


@pytest.fixture
def context() -> Iterator[IoContext]:
    context = IoContext.virtual()
    yield context
    context.close()


def wait(member: Member, length: int, *, write: bool) -> list[int]:
    """Where the moment will be noted at which a request that is begun now may go."""
    went: list[int] = []
    context = member.context

    async def go() -> None:
        await member.admit(length, write=write)
        went.append(context.now_ns())

    context.start(go())
    return went


def test_leak_bucket() -> None:
    bucket = Bucket(150, 150, scale=2)
    bucket.add(0, 3)
    at = [number * SECOND // 150 for number in range(4)]
    assert [bucket.level(now) for now in at] == pytest.approx([1.5, 0.5, 0, 0])
    burst = Bucket(250, 250)
    burst.add(0, 6)
    assert [burst.level(number * SECOND // 100) for number in range(5)] == [6, 3.5, 1, 0, 0]


def test_compute_wait(context: IoContext) -> None:
    unlimited = ThrottleGroup("u").join(context)
    assert all(unlimited.try_admit(1 << 40, write=False) for _ in range(100))
    for level, expected in ((30, 0), (18, 0), (31, -(-SECOND // 300))):
        bucket = Bucket(150, 150, scale=2)
        bucket.add(0, level)
        assert bucket.wait(0) == expected
    # 2.2 seconds at the rate of the burst, which may last two: a tenth of a second more, for what ran out meanwhile.
    limits = ThrottleLimits(bps_total=10, bps_total_max=200, bps_total_max_length=2)
    average = Bucket(limits.bps_total, 10 * limits.bps_total_max * limits.bps_total_max_length)
    for number in range(22):
        average.add(number * SECOND // 10, 20)
        now = (number + 1) * SECOND // 10
        assert average.level(now) == (number + 1) * (200 - 10) / 10
        assert average.wait(now) == (0 if number < 21 else 18 * SECOND // 10)


def test_init(context: IoContext) -> None:
    group = ThrottleGroup("g")
    member = group.join(context)
    assert group.limits == ThrottleLimits()
    assert (group.members, member.waiting, member.throttled_ns(0)) == ([member], 0, 0)
    assert context.deadline() is None


@pytest.mark.parametrize(
    ("limits", "limited", "free"),
    [
        pytest.param(ThrottleLimits(iops_read=1), False, True, id="init_readonly"),
        pytest.param(ThrottleLimits(iops_write=1), True, False, id="init_writeonly"),
    ],
)
def test_init_one_direction(context: IoContext, limits: ThrottleLimits, limited: bool, free: bool) -> None:
    member = ThrottleGroup("g", limits).join(context)
    assert all(member.try_admit(1, write=free) for _ in range(100))
    assert member.try_admit(1, write=limited)
    assert not member.try_admit(1, write=limited)


def test_destroy(context: IoContext) -> None:
    group = ThrottleGroup("g", ThrottleLimits(iops_total=1))
    member = group.join(context)
    went = [wait(member, 1, write=write) for write in (False, False, True, True)]
    member.leave()
    context.turn()
    assert went == [[0]] * 4
    assert group.members == []


def test_have_timer(context: IoContext) -> None:
    member = ThrottleGroup("g", ThrottleLimits(iops_total=10)).join(context)
    for _ in range(2):
        wait(member, 1, write=False)
        assert context.deadline() is None
    wait(member, 1, write=False)
    assert context.deadline() == SECOND // 10


def test_detach_attach(context: IoContext) -> None:
    elsewhere = IoContext.virtual()
    member = ThrottleGroup("g", ThrottleLimits(iops_total=10)).join(context)
    went = [wait(member, 1, write=False) for _ in range(3)]
    # A node changes its context drained: nothing waits then.
    member.pause_limits()
    context.turn()
    assert went == [[0]] * 3
    member.context = elsewhere
    member.resume_limits()
    there = wait(member, 1, write=False)
    # Three have gone, and count.
    assert elsewhere.deadline() == 2 * SECOND // 10
    elsewhere.run_until_idle()
    assert there == [2 * SECOND // 10]
    elsewhere.close()


def test_config_functions(context: IoContext) -> None:
    limits = ThrottleLimits(
        bps_read=56,
        bps_read_max=56,
        bps_write=1,
        bps_write_max=120,
        iops_total=150,
        iops_total_max=150,
        iops_size=1,
    )
    group = ThrottleGroup("g", ThrottleLimits(iops_total=1))
    member = group.join(context)
    assert member.try_admit(1, write=False)
    assert not member.try_admit(1, write=False)
    group.configure(limits)
    assert group.limits == limits
    assert member.try_admit(1, write=False), "buckets are empty"


UNIT = 512
JUMBO = Fraction(64, 13)


@pytest.mark.parametrize(
    ("unit", "size", "average", "iops_size", "one"),
    [
        ("bps", UNIT, 150, 0, Fraction(512)),
        ("bps", 2 * UNIT, 150, 0, Fraction(1024)),
        ("iops", UNIT, 1, 0, Fraction(1)),
        ("iops", 2 * UNIT, 1, 0, Fraction(1)),
        ("iops", 64 * UNIT, 1, 13 * UNIT, JUMBO),
        ("iops", 64 * UNIT, 3, 13 * UNIT, JUMBO),
    ],
)
@pytest.mark.parametrize("of", ["total", "read", "write"])
def test_accounting(
    context: IoContext, unit: str, size: int, average: int, iops_size: int, one: Fraction, of: str
) -> None:
    """A read and a write raise the level by `one` each; it is seen in how long the next one waits."""
    given = {f"{unit}_{of}": average, "iops_size": iops_size}
    member = ThrottleGroup("g", ThrottleLimits(**given)).join(context)
    write = of == "write"
    assert member.try_admit(size, write=write)
    context.start(member.admit(size, write=not write))
    context.run_until_idle()
    level = 2 * one if of == "total" else one
    went = wait(member, size, write=write)
    context.run_until_idle()
    room = Fraction(average, 10)
    expected = (level - room) / average * SECOND
    assert went == [-(-expected.numerator // expected.denominator)]


def test_groups() -> None:
    graph = Graph(IoContext.virtual())
    graph.add({"driver": "null-co", "node-name": "d"})
    first, second, third = (BlockBackend(graph["d"], name=f"b{number}") for number in range(3))
    assert [each.throttled_by for each in (first, second, third)] == [None] * 3
    some = ThrottleLimits(bps_read=500_000, bps_write=285_000, iops_read=20_000, iops_write=12_000)
    others = ThrottleLimits(bps_read=4547, bps_write=1349, iops_read=123, iops_write=86)
    for backend, name in ((first, "bar"), (second, "foo"), (third, "bar")):
        graph.set_io_throttle(backend, some, name)
    members = [each.throttled_by for each in (first, second, third)]
    groups = [member.group for member in members if member is not None]
    assert [group.name for group in groups] == ["bar", "foo", "bar"]
    assert groups[0] is groups[2]
    # The limits of one member are those of its group.
    graph.set_io_throttle(third, others)
    assert [group.limits for group in groups] == [others, some, others]
    for backend in (first, second, third):
        graph.set_io_throttle(backend, ThrottleLimits())
        assert backend.throttled_by is None
    graph.close()
