"""Copies and writes that meet at any moment, thousands of times."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.blockbackend.test_copy_on_read import WISHES, Watch, Wish

pytestmark = pytest.mark.slow
RUN = 500
RUNS = 2


def test_no_copy_overtakes_a_write(record_property: Callable[[str, object], None]) -> None:
    examples = 0

    @settings(settings.get_profile("slow"), max_examples=RUN)
    @given(WISHES, st.integers(0, 1000))
    def meet(wishes: list[Wish], seed: int) -> None:
        nonlocal examples
        examples += 1
        watch = Watch(seed)
        watch.world.context.start(watch.run(wishes))
        watch.check()
        watch.close()

    for _ in range(RUNS):
        meet()
    record_property("examples", examples)
    assert examples >= RUN * RUNS
