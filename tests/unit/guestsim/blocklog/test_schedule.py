"""When requests begin again: in their time, after what had ended, beside what was under way."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.blockbackend.request import Op
from guestsim.blocklog.events import Begin, End, Event
from guestsim.blocklog.schedule import Schedule

from .logs import begins, streams

_CHANGING = {Op.WRITE, Op.DISCARD, Op.WRITE_ZEROES, Op.SECURE_ERASE}


def _begin(number: int, at: int = 0, *, op: Op = Op.READ, offset: int | None = None) -> Begin:
    return Begin(number, at, op, number * 4096 if offset is None else offset, 4096)


def test_requests_begin_when_they_did() -> None:
    schedule = Schedule(iter([_begin(0, 1000), _begin(1, 3000)]))
    assert schedule.step(50) == _begin(0, 1000)
    assert schedule.step(60) == 2050
    assert schedule.step(2055) == _begin(1, 3000)
    assert schedule.late_ns == 5


def test_twice_as_fast_is_half_the_time() -> None:
    schedule = Schedule(iter([_begin(0), _begin(1, 3000)]), speed=2)
    schedule.step(0)
    assert schedule.step(0) == 1500


def test_what_had_ended_before_ends_before_again() -> None:
    events: list[Event] = [_begin(0), _begin(1), End(0, 5), _begin(2, 6), End(1, 7), End(2, 8)]
    schedule = Schedule(iter(events), speed=None)
    first, second = schedule.step(0), schedule.step(0)
    assert (first, second) == (_begin(0), _begin(1))
    assert schedule.step(0) is None
    schedule.ended(_begin(1))
    assert schedule.step(0) is None
    schedule.ended(_begin(0))
    assert schedule.step(0) == _begin(2, 6)


def test_with_a_depth_ends_of_the_log_do_not_matter() -> None:
    events: list[Event] = [_begin(0), End(0, 5), _begin(1), End(1, 5), _begin(2)]
    schedule = Schedule(iter(events), speed=None, depth=2)
    assert schedule.step(0) == _begin(0)
    assert schedule.step(0) == _begin(1)
    assert schedule.step(0) is None
    schedule.ended(_begin(1))
    assert schedule.step(0) == _begin(2)


@pytest.mark.parametrize(("op", "waits"), [(Op.WRITE, True), (Op.READ, False), (Op.FLUSH, False)])
def test_a_write_waits_for_those_who_are_at_the_same_place(op: Op, waits: bool) -> None:
    other = Begin(1, 0, op, 2048 if op is not Op.FLUSH else 0, 4096 if op is not Op.FLUSH else 0)
    schedule = Schedule(iter([_begin(0), other]), speed=None, depth=8)
    schedule.step(0)
    assert (schedule.step(0) is None) == waits


def test_an_empty_log_is_over_at_once() -> None:
    assert Schedule(iter(())).over


@given(streams(unit=1 << 20), st.sampled_from((None, 1, 3)), st.sampled_from((None, 1.0)), st.randoms())
def test_everything_begins_once_and_none_beside_what_it_would_disturb(
    events: list[Event], depth: int | None, speed: float | None, chance: Random
) -> None:
    schedule = Schedule(iter(events), speed=speed, depth=depth)
    begun: list[int] = []
    now = 0
    while not schedule.over:
        found = schedule.step(now)
        if isinstance(found, Begin):
            others = [one for one in schedule.running.values() if one is not found]
            assert not any(_collide(found, other) for other in others)
            assert depth is None or len(others) < depth
            begun.append(found.number)
        elif found is not None:
            assert found > now
            now = found
        elif schedule.running:
            schedule.ended(chance.choice(list(schedule.running.values())))
    assert begun == [one.number for one in begins(events)]


def _collide(one: Begin, other: Begin) -> bool:
    apart = one.offset + one.length <= other.offset or other.offset + other.length <= one.offset
    return not apart and bool(_CHANGING & {one.op, other.op})
