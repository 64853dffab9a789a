"""One leaky bucket against its definition in fractions."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.blockbackend.throttling import Bucket

SECOND = 10**9


class Model:
    """The level as a fraction, run out step by step."""

    def __init__(self, rate: int, size: Fraction) -> None:
        self.rate = rate
        self.size = size
        self.level = Fraction(0)
        self.at = 0

    def pass_to(self, now: int) -> None:
        self.level = max(Fraction(0), self.level - Fraction(self.rate * (now - self.at), SECOND))
        self.at = now

    def wait(self) -> int:
        above = self.level - self.size
        return 0 if above <= 0 else -int(-above * SECOND // self.rate)


steps = st.lists(st.tuples(st.integers(0, 5 * SECOND), st.integers(0, 10**6)), max_size=30)


@given(st.integers(1, 10**6), st.integers(0, 10**7), st.integers(1, 65536), steps)
def test_it_is_exact(rate: int, tenths: int, scale: int, steps: list[tuple[int, int]]) -> None:
    bucket = Bucket(rate, tenths, scale=scale)
    model = Model(rate, Fraction(tenths, 10))
    now = 0
    for pause, amount in steps:
        now += pause
        model.pass_to(now)
        assert bucket.wait(now) == model.wait()
        assert bucket.level(now) == pytest.approx(float(model.level))
        bucket.add(now, amount)
        model.level += Fraction(amount, scale)
    wait = bucket.wait(now)
    if wait:
        assert bucket.wait(now + wait - 1) == 1
    assert bucket.wait(now + wait) == 0


def test_the_level_runs_out_at_the_rate_and_no_further() -> None:
    bucket = Bucket(150, 0)
    bucket.add(0, 300)
    assert [bucket.level(at * SECOND) for at in (0, 1, 2, 3)] == [300, 150, 0, 0]
